"""Logs of tasks in the object store, where workers are pods whose disk goes with them.

AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS=airloop.task_logs.LOGGING_CONFIG switches it on; AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER
says where. Airflow's own way to S3 is its Amazon provider: 20 packages for one object a task (docs/adr/0012).
"""

from __future__ import annotations

import logging
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG as LOGGING_CONFIG
from airflow.configuration import conf

if TYPE_CHECKING:
    from tasks.storage.artefacts import Store

__all__ = ["LOGGING_CONFIG", "REMOTE_TASK_LOG"]
log = logging.getLogger(__name__)


class StoreLogs:
    """What Airflow asks of a remote log (``airflow.logging.remote.RemoteLogIO``), by the store that all else goes to."""

    processors: tuple[Any, ...] = ()

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url

    def upload(self, path: os.PathLike[str] | str, ti: Any = None) -> None:  # noqa: ARG002 - Airflow's signature
        """Keep the log at ``path``, a file below the log folder; a store that is away costs the log, never the task."""
        file = self._folder / path
        name = file.relative_to(self._folder).as_posix()
        try:
            written = file.read_bytes()
            # A task that was deferred goes on in another pod, which has only the second half.
            before = self._store.read(name) if self._store.exists(name) else b""
            self._store.write(name, written if written.startswith(before) else before + written)
        except Exception:
            log.exception("%s/%s: this log could not be kept", self._url, name)

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str]]:  # noqa: ARG002 - Airflow's signature
        """Where the log and its triggerer's parts lie, and each one's text; both empty while there is none."""
        folder = relative_path.rpartition("/")[0]
        names = [name for name in self._store.names(folder) if name.startswith(relative_path)]
        return [self._store.uri(n) for n in names], [self._store.read(n).decode(errors="replace") for n in names]

    @cached_property
    def _store(self) -> Store:
        from tasks.storage.artefacts import Store  # when first used: it costs what every process of Airflow would pay

        return Store(self._url)


REMOTE_TASK_LOG = StoreLogs(
    Path(conf.get_mandatory_value("logging", "base_log_folder")),
    conf.get_mandatory_value("logging", "remote_base_log_folder"),
)
