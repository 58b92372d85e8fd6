"""MLflow's model registry: a view of the store's versions and of the ledger, for people to look at and to work with.

It decides nothing. People may delete or change there what they like: `view.agree` makes it agree again, as far as MLflow can.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.core.errors import Unavailable
from tasks.registry.mlflow_server import trouble
from tasks.settings.environment import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.exceptions import MlflowException

CHAMPION, PREVIOUS = "champion", "previous"
MISSING = "RESOURCE_DOES_NOT_EXIST"
REFUSALS = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403}


def registered_name() -> str:
    """What MLflow calls the registered model: the name of the model that this process works for."""
    return environment().model


class RegistryError(Unavailable):
    """MLflow cannot be made to agree now: it is away, refuses, or fails. What is live is not its to say, so a later try is enough."""


def client() -> MlflowClient:
    """A client of the tracking server that the environment names; RegistryError at once where none answers there.

    MLflow's own client would go on trying for minutes.
    """
    uri = environment().mlflow_tracking_uri
    if said := trouble(uri):
        raise RegistryError(f"MLflow at {uri} {said}. {_way_out(said)}")
    import mlflow

    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(uri)


@contextmanager
def answering() -> Iterator[None]:
    """What MLflow raises inside becomes a RegistryError that says what it was: away, no access, or an error of its own."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise _explained(error) from error


def registered_model(registry: MlflowClient) -> RegisteredModel | None:
    """The registered model, None where it was deleted or never made."""
    from mlflow.exceptions import MlflowException

    try:
        return registry.get_registered_model(registered_name())
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        return None


def has_logged_model(registry: MlflowClient, model_id: str) -> bool:
    """Whether the logged model is there; its run may outlive it."""
    from mlflow.exceptions import MlflowException

    try:
        registry.get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        return False
    return True


def listed(registry: MlflowClient) -> dict[int, ModelVersion]:
    """Every version that MLflow has, by number."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = registry.search_model_versions(f"name='{registered_name()}'", page_token=token)
        found += page
        token = page.token
        if not token:
            return {int(version.version): version for version in sorted(found, key=lambda v: int(v.version))}


def create(registry: MlflowClient, uri: str, run_id: str, tags: dict[str, str]) -> int:
    """Have MLflow make its next version of the logged model at ``uri``; returns the number, which MLflow chooses."""
    if registered_model(registry) is None:
        registry.create_registered_model(registered_name())
    model_id = uri.removeprefix("models:/")
    made = registry.create_model_version(registered_name(), uri, run_id, tags=tags, model_id=model_id)
    return int(made.version)


def experiment(registry: MlflowClient, name: str) -> str:
    """Id of the experiment ``name``: made if there is none, brought back if somebody deleted it."""
    found = registry.get_experiment_by_name(name)
    if found is None:
        return str(registry.create_experiment(name))
    if found.lifecycle_stage == "deleted":
        registry.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _explained(error: MlflowException) -> RegistryError:
    uri, status = environment().mlflow_tracking_uri, REFUSALS.get(error.error_code)
    if status:
        said = f"answers {status}"
    elif "failed with exception" in str(error):  # how MLflow's client says that no answer came
        said = f"does not answer ({error})"
    else:
        said = f"answers with an error: {error}"
    return RegistryError(f"MLflow at {uri} {said}. {_way_out(said)}")


def _way_out(said: str) -> str:
    if "401" in said:
        return "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to what it knows."
    if "403" in said:
        return f"This account needs the right to edit the registered model {registered_name()!r} and its experiments there."
    if said.startswith("answers with an error"):
        return "Its log says more; then clear this task."
    return "See that it runs (`airloop up`), then clear this task."
