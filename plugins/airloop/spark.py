"""Stages and acts through spark-submit, in the run's workspace."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airloop import spark_conf
from airloop.keys import month_of, run_key, variables
from airloop.places import image_for
from airloop.process import Command, Listener, conclude
from airloop.workspace import Arguments, announce_all, begins_run, call, code, workspace_argv

STOP_SECONDS = 10
EXIT_CODE = re.compile(r"Error code is: (\d+)")


class WorkspaceSparkOperator(SparkSubmitOperator):
    """Prepares the workspace, submits the script with the arguments it has anywhere else, and records what it made.

    A stage whose result is known is not submitted: it comes from DVC's run cache.

    Args:
        action: ``stage`` or ``act``.
        names: stages of dvc.yaml, of which the last is the Spark script and the others run before it; or the act's name.
        arguments: arguments for an act's script; a stage has its own.
        memory: of the driver, as Spark writes it ("4g").
    """

    def __init__(
        self,
        *,
        action: str,
        names: Sequence[str],
        arguments: Arguments | None = None,
        memory: str | None,
        **kwargs: Any,
    ) -> None:
        # Client mode on local[*] keeps nothing that a later try could attach to, and the workspace is what is durable here.
        super().__init__(conn_id="spark_default", driver_memory=memory, name=names[-1], durable=False, **kwargs)
        self.action = action
        self.names = list(names)
        self.arguments = arguments
        self._command = Command()

    def execute(self, context: Any) -> Any:
        """Prepare, submit, commit; skip, fail or retry as the script's end says."""
        *before, last = self.names
        begins = begins_run(self)
        if before:
            self._workspace("stage", before, context, begins=begins)
            begins = False
        ready = self._workspace("prepare" if self.action == "stage" else "ready", [last], context, begins=begins)
        if ready.get("cached"):
            self.log.info("%s: nothing changed since it was made; taken from the cache", last)
            return self._report(ready, context)
        argv = ready.get("argv") or ["python", f"tasks/{last}.py", *(self.arguments(context) if self.arguments else [])]
        result = self._submit(Path(ready["workspace"]), argv[1:], context)
        if self.action == "stage":
            result = {**self._workspace("commit", [last], context), **result}
        return self._report(result, context)

    def on_kill(self) -> None:
        """End what runs now: the workspace's process or spark-submit."""
        self._command.stop()
        if self._hook is None:
            return
        if (submitted := self._hook._submit_sp) is not None and submitted.poll() is None:  # noqa: SLF001 - the hook gives its process no other name
            submitted.terminate()  # the hook kills, and a driver that is killed leaves its executors to themselves
            with contextlib.suppress(subprocess.TimeoutExpired):
                submitted.wait(STOP_SECONDS)
        super().on_kill()

    def _submit(self, workspace: Path, script: Sequence[str], context: Any) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="airloop-") as folder, contextlib.chdir(workspace):
            result = Path(folder) / "result.json"
            self.application, *self.application_args = script
            self._place(workspace, Path(folder), context)
            told = {**variables(context), "PYTHONPATH": str(workspace), "AIRLOOP_RESULT": str(result)}
            # The hook's env_vars would be the driver's only where that is no pod's: here it always is this process's child.
            with _environment(told), _readable_failure(), self._accounted(context):
                super().execute(context)
            return dict(json.loads(result.read_text())) if result.exists() else {}

    def _place(self, workspace: Path, folder: Path, context: Any) -> None:
        """Say what the connection's master needs to know; what its extra has under ``conf`` wins."""
        connection = BaseHook.get_connection("spark_default")
        extra = connection.extra_dejson
        master = self._get_hook()._connection["master"]  # noqa: SLF001 - the hook's own reading of the connection
        settings: dict[str, str] = {}
        if spark_conf.is_remote(master):
            if extra.get("deploy-mode", "client") != "client":
                raise AirflowFailException(
                    f"spark_default has deploy-mode {extra['deploy-mode']!r}: the run's workspace is here, so the driver has to be "
                    'too. Write "deploy-mode": "client" into its extra.'
                )
            self.py_files = spark_conf.pack_code(workspace, folder / "tasks.zip")
            settings = spark_conf.conf(master, extra, self._job(master, context), code())
        self.conf = {**settings, **extra.get("conf", {})}

    def _job(self, master: str, context: Any) -> spark_conf.Job:
        name = self.names[-1]
        labels = {
            **self._own(context),
            "airloop.io/month": month_of(context) or "none",
            "airloop.io/model": os.environ.get("AIRLOOP_MODEL") or "airloop",
            "airloop.io/cost-owner": os.environ.get("AIRLOOP_COST_OWNER") or "airloop",
        }
        image = image_for(name, "spark") if spark_conf.on_kubernetes(master) else ""
        return spark_conf.Job(name, image, self.pool_slots, self._driver_memory or "4g", labels)

    def _own(self, context: Any) -> dict[str, str]:
        """Labels that only this task's executors have."""
        return {"airloop.io/stage": self.names[-1], "airloop.io/run": run_key(context)}

    @contextlib.contextmanager
    def _accounted(self, context: Any) -> Iterator[None]:
        """Where executors are pods, keep what they used and delete them, whatever becomes of the block."""
        hook = self._hook or self._get_hook()
        if not spark_conf.on_kubernetes(hook._connection["master"]):  # noqa: SLF001 - as in _place
            yield
            return
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

        from airloop.spark_pods import Executors

        namespace = spark_conf.namespace_of(BaseHook.get_connection("spark_default").extra_dejson)
        executors = Executors(KubernetesHook().core_v1_client, namespace, self._own(context), self.log)
        try:
            yield
        finally:
            if used := executors.remove():
                self._workspace("used", self.names[-1:], context, [json.dumps(used)])

    def _workspace(
        self, action: str, names: Sequence[str], context: Any, rest: Sequence[str] = (), *, begins: bool = False
    ) -> dict[str, Any]:
        return call(self._command, workspace_argv(action, names, context, rest, begins=begins), context, self.log)

    def _report(self, result: dict[str, Any], context: Any) -> dict[str, Any]:
        announce_all(self.outlets, result, context)
        return result


@contextlib.contextmanager
def _environment(told: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process, which runs this one task, and what it starts."""
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _readable_failure() -> Iterator[None]:
    """Turn the hook's exception, which holds the exit code and the last lines, into what ``conclude`` makes of them."""
    try:
        yield
    except AirflowException as error:
        said = EXIT_CODE.search(str(error))
        if said is None:
            raise
        conclude(Listener().hear_all(str(error).splitlines()).outcome(int(said[1])))
        raise
