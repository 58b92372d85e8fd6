"""The model registry: MLflow's model versions and aliases, as far as the ledger's decisions need them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.common.environment import environment
from tasks.common.errors import AirloopError, DataError
from tasks.common.ledger import Evidence

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MODEL = "airloop"
CHAMPION, PREVIOUS = "champion", "previous"


def client() -> MlflowClient:
    """A client of the tracking server that the environment names."""
    from mlflow import MlflowClient

    return MlflowClient(environment().mlflow_tracking_uri)


def version(number: int, registry: MlflowClient) -> ModelVersion:
    """Model version ``number``; DataError when there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return registry.get_model_version(MODEL, str(number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise _unreachable(error) from error
        raise DataError(
            f"MLflow has no version {number} of the model {MODEL!r}; {environment().mlflow_tracking_uri} lists them."
        ) from None


def newest_approved(data_through: str, registry: MlflowClient) -> ModelVersion:
    """The newest version trained through this month; only what passed the gate is ever registered."""
    from mlflow.exceptions import MlflowException

    try:
        versions = registry.search_model_versions(f"name='{MODEL}'")
    except MlflowException as error:
        raise _unreachable(error) from error
    fitting = [v for v in versions if v.tags.get("airloop.data_through") == data_through]
    if not fitting:
        raise DataError(f"MLflow has no model trained through {data_through}; run the train DAG for that month.")
    return max(fitting, key=lambda v: int(v.version))


def evidence(found: ModelVersion) -> Evidence:
    """What a version's tags say about its origin; DataError when something else registered it."""
    tags = found.tags
    try:
        return Evidence(
            model=tags["airloop.onnx"],
            contract=tags["airloop.contract"],
            gate=tags["airloop.gate"],
            run=tags["airloop.run"],
            data_through=tags["airloop.data_through"],
        )
    except KeyError as error:
        raise DataError(
            f"Version {found.version} of {MODEL!r} lacks the tag {error}: it did not come through the gate and "
            "cannot go live. Register models by the train DAG only."
        ) from None


def set_aliases(champion: int | None, previous: int | None, registry: MlflowClient) -> list[str]:
    """Make the aliases agree with the ledger; returns what had to change ("champion -> v2")."""
    from mlflow.exceptions import MlflowException

    changes = []
    try:
        current = registry.get_registered_model(MODEL).aliases
        for alias, wanted in ((CHAMPION, champion), (PREVIOUS, previous)):
            have = current.get(alias)  # text from a server, a number from a database
            if wanted is None and have is not None:
                registry.delete_registered_model_alias(MODEL, alias)
                changes.append(f"{alias} removed")
            elif wanted is not None and str(have) != str(wanted):
                registry.set_registered_model_alias(MODEL, alias, str(wanted))
                changes.append(f"{alias} -> v{wanted}")
    except MlflowException as error:
        raise _unreachable(error) from error
    return changes


def _unreachable(error: Exception) -> AirloopError:
    return AirloopError(
        f"MLflow at {environment().mlflow_tracking_uri} did not answer as expected: {error}. "
        "See that it runs (`make up`), then clear this task."
    )
