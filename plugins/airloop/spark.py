"""Stages and jobs through spark-submit, in the run's workspace."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airloop import spark_conf
from airloop.keys import interval_of, run_key, variables
from airloop.places import image_for
from airloop.process import Command, Outcome, conclude
from airloop.running import Arguments, RunOperator, begins_run, call, report, result_of, running_argv, whose
from airloop.settings import PodSettings, code, load, temporarily
from tasks.core import results
from tasks.core.results import RESULT_VARIABLE, Interval, Result, merge
from tasks.running.variables import LEASE

STOP_SECONDS = 10


class SparkOperator(RunOperator, SparkSubmitOperator):
    """Prepares the workspace, submits the script with the arguments it has anywhere else, and records what it made.

    A stage whose result is known is not submitted: it comes from DVC's run cache.

    Args:
        model: name of the model whose run it is.
        action: ``stage`` or ``job``.
        names: stages of dvc.yaml, of which the last is the Spark script and the others run before it; or the job's name.
        arguments: further arguments for a job's command.
        memory: of the driver, as Spark writes it ("4g").
    """

    def __init__(
        self,
        *,
        model: str,
        action: str,
        names: Sequence[str],
        arguments: Arguments | None = None,
        memory: str | None,
        **kwargs: Any,
    ) -> None:
        # Client mode on local[*] keeps nothing that a later try could attach to, and the workspace is what is durable here.
        super().__init__(conn_id="spark_default", driver_memory=memory, name=names[-1], durable=False, **kwargs)
        self.model = model
        self.action = action
        self.names = list(names)
        self.arguments = arguments
        self._command = Command()

    def perform(self, context: Any) -> dict[str, Any]:
        """Prepare, submit, record."""
        *before, last = self.names
        begins = begins_run(self)
        if before:
            self._result("stage", before, context, begins=begins)
            begins = False
        arguments = list(self.arguments(context)) if self.arguments else []
        rest = ["--rest", *arguments] if arguments else []
        ready = self._result("begin", [last], context, rest, begins=begins)
        begun = ready.payload["begun"]
        if not begun:
            self.log.info("%s: nothing changed since it was made; taken from the cache", last)
            return report(ready)
        script = self._submit(ready, context)
        if self.action != "stage":
            return dict(conclude(script).payload)
        return report(self._completed(ready, script, context))

    def _completed(self, ready: Result, script: Outcome, context: Any) -> Result:
        """Record what the script made; returns what became of each interval that was asked for.

        One that was refused does not fail those that are done, by the script or before.
        """
        begun, said = ready.payload["begun"], script.result or Result()  # a stage has nothing to report but its outputs
        other = Interval(said.status, said.reason)
        ended = {**ready.intervals, **{key: said.intervals.get(key, other) for key in begun}}
        made = merge(ended, said.payload, ready.payload["behind"])
        conclude(Outcome(made.exit_code, made))
        rest = ["--ended", json.dumps({key: asdict(end) for key, end in ended.items()})]
        completed = self._result("complete", [self.names[-1]], context, rest)
        return Result(payload={**completed.payload, **said.payload}, intervals=completed.intervals)

    def on_kill(self) -> None:
        """End what runs now: the workspace's process or spark-submit."""
        self._command.stop()
        if self._hook is None:
            return
        if (submitted := self._submitted()) is not None and submitted.poll() is None:
            submitted.terminate()  # the hook kills, and a driver that is killed leaves its executors to themselves
            with contextlib.suppress(subprocess.TimeoutExpired):
                submitted.wait(STOP_SECONDS)
        super().on_kill()

    def _submit(self, ready: Result, context: Any) -> Outcome:
        """Submit what was begun; returns how the script ended. Raises AirflowException when it crashed."""
        workspace = Path(ready.payload["workspace"])
        with tempfile.TemporaryDirectory(prefix="airloop-") as folder, contextlib.chdir(workspace):
            document = Path(folder) / "result.json"
            self.application, *self.application_args = ready.payload["argv"][1:]
            self._place(workspace, Path(folder), context)
            env = {
                **variables(context),
                "AIRLOOP_MODEL": self.model,  # whichever this Airflow takes for its default
                "PYTHONPATH": str(workspace),
                RESULT_VARIABLE: str(document),
                LEASE: ready.payload["lease"],
            }
            # The hook's env_vars would be the driver's only where that is no pod's: here it always is this process's child.
            with temporarily(env), _explained(document, self._exit_code), self._accounted(context):
                SparkSubmitOperator.execute(self, context)
            result = results.read(document)
            return Outcome(result.exit_code if result else 0, result)

    def _submitted(self) -> Any:
        """The process of spark-submit, None before there is one."""
        return self._hook._submit_sp if self._hook else None  # noqa: SLF001 - the hook gives its process no other name

    def _exit_code(self) -> int:
        """Of spark-submit, which in client mode ends with the driver's."""
        submitted = self._submitted()
        return -1 if submitted is None else int(submitted.returncode)

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
        name, cluster = self.names[-1], load(PodSettings)
        labels = {
            **self._own(context),
            "airloop.io/interval": interval_of(context) or "none",
            "airloop.io/model": self.model,
            "airloop.io/cost-owner": cluster.cost_owner,
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
                argv = ["-m", "tasks.running", "record-usage", json.dumps(used), *whose(self.model, context)]
                call(self._command, argv, context, self.log)

    def _result(
        self, action: str, names: Sequence[str], context: Any, rest: Sequence[str] = (), *, begins: bool = False
    ) -> Result:
        argv = running_argv(action, names, context, rest, model=self.model, begins=begins)
        return result_of(self._command, argv, context, self.log)


@contextlib.contextmanager
def _explained(document: Path, exit_code: Callable[[], int]) -> Iterator[None]:
    """Take the hook's exception for the end that the script's own result document says, if the exit code agrees with it."""
    try:
        yield
    except AirflowException:
        result = results.read(document)
        if result is None or result.exit_code != exit_code():
            raise
