"""A study in MLflow: a run for the study, and nested in it one for each finished trial. A search does not depend on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import optuna
from optuna.trial import FrozenTrial

from tasks.core.errors import warn
from tasks.registry.mlflow_server import SEARCH, Server, experiment_name
from tasks.searching.trial import drawn

STUDY, TRIAL, PARENT = "airloop.study", "airloop.trial", "mlflow.parentRunId"


class Tracking:
    """Keeps MLflow in step with ``study``; after its first failure it says so once, and does nothing more.

    Trials are known by their tags, so that a search which goes on logs what its predecessor did not get to, and nothing twice.

    Args:
        study: whose trials are logged.
        uri: of the tracking server.
    """

    def __init__(self, study: optuna.Study, uri: str) -> None:
        self._study, self._uri = study, uri
        self._server: Server | None = None
        self._logged: set[str] = set()
        self._attempt(self._begin)

    def follow(self, trials: list[FrozenTrial]) -> None:
        """Log those of the finished ``trials`` that are not logged yet."""
        if self._server is not None:
            self._attempt(lambda: self._log_new(trials))

    def conclude(self, files: dict[str, bytes]) -> None:
        """Log the files to the study's run, and end it."""
        if self._server is not None:
            self._attempt(lambda: self._conclude(files))

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self._server = None
            warn(
                f"MLflow at {self._uri} takes no trials ({error or type(error).__name__}); the search goes on without, and the "
                "next one of the same study logs them"
            )

    def _begin(self) -> None:
        server = Server.reached(self._uri)
        self._experiment = server.experiment(experiment_name(SEARCH))
        known = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} | run["info"] for run in self._runs(server)]
        parents = [run for run in known if TRIAL not in run]
        self._parent = parents[0] if parents else self._create(server, self._study.study_name, {}, None)
        self._logged = {run[TRIAL] for run in known if TRIAL in run}
        self._server = server

    def _runs(self, server: Server) -> list[dict[str, Any]]:
        """Every run of the study."""
        found: list[dict[str, Any]] = []
        wanted = {
            "experiment_ids": [self._experiment],
            "filter": f"tags.`{STUDY}` = '{self._study.study_name}'",
            "max_results": 1000,
        }
        while True:
            answer = server.post("runs/search", wanted)
            found += answer.get("runs", [])
            if not answer.get("next_page_token"):
                return found
            wanted |= {"page_token": answer["next_page_token"]}

    def _create(self, server: Server, name: str, tags: dict[str, str], began: datetime | None) -> dict[str, Any]:
        listed = [{"key": key, "value": value} for key, value in {STUDY: self._study.study_name, **tags}.items()]
        asked = {
            "experiment_id": self._experiment,
            "run_name": name,
            "start_time": _milliseconds(began),
            "tags": listed,
        }
        return dict(server.post("runs/create", asked)["run"]["info"])

    def _log_new(self, trials: list[FrozenTrial]) -> None:
        for trial in trials:
            if str(trial.number) not in self._logged:
                self._log(trial)
                self._logged.add(str(trial.number))

    def _log(self, trial: FrozenTrial) -> None:
        assert self._server is not None
        ended = _milliseconds(trial.datetime_complete)
        tags = {PARENT: self._parent["run_id"], TRIAL: str(trial.number), "airloop.state": trial.state.name.lower()}
        run = self._create(self._server, f"trial {trial.number}", tags, trial.datetime_start)["run_id"]
        points = [("validation_log_loss", value, step) for step, value in sorted(trial.intermediate_values.items())]
        points += [("log_loss", trial.value, 0)] if trial.value is not None else []
        metrics = [{"key": key, "value": value, "step": step, "timestamp": ended} for key, value, step in points]
        params = [{"key": key, "value": str(value)} for key, value in drawn(trial.params).items()]
        self._server.post("runs/log-batch", {"run_id": run, "metrics": metrics, "params": params})
        self._server.post("runs/update", {"run_id": run, "status": "FINISHED", "end_time": ended})

    def _conclude(self, files: dict[str, bytes]) -> None:
        assert self._server is not None
        for name, content in files.items():
            self._server.put_artifact(self._parent["artifact_uri"], name, content)
        ended = {"run_id": self._parent["run_id"], "status": "FINISHED", "end_time": _milliseconds(None)}
        self._server.post("runs/update", ended)


def _milliseconds(at: datetime | None) -> int:
    return int((at or datetime.now()).timestamp() * 1000)  # noqa: DTZ005 - Optuna's own times are local as well
