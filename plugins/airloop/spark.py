"""Stages and acts through spark-submit, in the run's workspace."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException

from airloop.keys import variables
from airloop.process import Command, Listener, conclude
from airloop.workspace import Arguments, announce_all, begins_run, call, workspace_argv

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
        if self._hook is not None:
            super().on_kill()

    def _submit(self, workspace: Path, script: Sequence[str], context: Any) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="airloop-") as folder, contextlib.chdir(workspace):
            result = Path(folder) / "result.json"
            self.application, *self.application_args = script
            self.env_vars = {
                **variables(context),
                "PYTHONPATH": str(workspace),
                "AIRLOOP_RESULT": str(result),
            }
            with _readable_failure():
                super().execute(context)
            return dict(json.loads(result.read_text())) if result.exists() else {}

    def _workspace(self, action: str, names: Sequence[str], context: Any, *, begins: bool = False) -> dict[str, Any]:
        return call(self._command, workspace_argv(action, names, context, begins=begins), context, self.log)

    def _report(self, result: dict[str, Any], context: Any) -> dict[str, Any]:
        announce_all(self.outlets, result, context)
        return result


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
