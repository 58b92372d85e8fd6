"""Old runs in MLflow: deleted there as a person would, which can be undone until `mlflow gc` deletes them for good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from tasks.registry import mlflow_registry, versions
from tasks.registry.mlflow_server import EXPERIMENTS, experiment_name
from tasks.retention.garbage import Garbage
from tasks.retention.roots import Marked, models
from tasks.storage.artefacts import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def find(store: Store, marked: Marked, young: float) -> list[Garbage]:
    """Runs of the models in ``store`` that ended before ``young`` (epoch seconds) and made no registered model.

    Raises:
        RegistryError: MLflow is away, or refuses.
    """
    client, made = mlflow_registry.client(), registered(store)
    with mlflow_registry.answering():
        return [
            Garbage("runs in MLflow", f"{run.info.run_name} ({run.info.run_id})", 0, _deletion(client, run.info.run_id))
            for run in every(client, models(store))
            if run.info.lifecycle_stage == "active"
            and run.info.start_time < young * 1000
            and _origin(run) not in made
            and run.info.run_id not in marked.tracked
        ]


def bring_back(store: Store) -> int:
    """Undo the deletion of runs that registered versions came from, before `mlflow gc` deletes for good; returns how many."""
    client = mlflow_registry.client()
    made = registered(store)
    with mlflow_registry.answering():
        gone = [
            run
            for run in every(client, models(store))
            if run.info.lifecycle_stage == "deleted" and _origin(run) in made
        ]
        for run in gone:
            client.restore_run(run.info.run_id)
    return len(gone)


def registered(store: Store) -> set[tuple[str | None, str | None]]:
    """Training run and ONNX digest of each registered version."""
    return {(v.run, v.model) for name in models(store) for v in versions.read_all(store.part(name)).values()}


def every(client: MlflowClient, names: Iterable[str]) -> Iterator[Run]:
    """All runs of the experiments of these models, deleted ones too."""
    from mlflow.entities import ViewType

    wanted = [experiment_name(kind, name) for name in names for kind in EXPERIMENTS]
    experiments = [found.experiment_id for name in wanted if (found := client.get_experiment_by_name(name))]
    token = None
    while experiments:
        page = client.search_runs(experiments, "", ViewType.ALL, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _origin(run: Run) -> tuple[str | None, str | None]:
    return run.data.tags.get("airloop.run"), run.data.tags.get("airloop.onnx")


def _deletion(client: MlflowClient, run_id: str) -> Callable[[], None]:
    return lambda: client.delete_run(run_id)
