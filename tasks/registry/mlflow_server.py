"""MLflow's tracking server, for those who look there: it decides nothing, and may be down."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from tasks.core import web
from tasks.settings.environment import environment

TRAIN, PROGRESS, SEARCH, MONITOR = EXPERIMENTS = ("train", "progress", "search", "monitor")
"""A model's experiments: registered models, the progress of each training, trials of searches, reports of the monitor."""
TRAINING = "airloop.training"
"""Tag of a training's run, and of the model version that came of it: the training's identity."""
SECONDS = 3
"""How long the tracking server may take to say that it is there; MLflow's client alone would try for minutes."""


def experiment_name(kind: str, model: str = "") -> str:
    """Name in MLflow of one of `EXPERIMENTS` of ``model``, by default of the model that this process works for."""
    return f"{model or environment().model}/{kind}"


def trouble(uri: str) -> str | None:
    """Why the server at ``uri`` cannot be used ("does not answer (...)", "answers 401"), None when it can.

    A folder or a database can: there is nothing to wait for.
    """
    if not uri.startswith(("http://", "https://")):
        return None
    try:
        with _client(f"{uri.rstrip('/')}/", SECONDS) as client:
            status = client.get("health").status_code
    except httpx.HTTPError as error:
        return f"does not answer ({error or type(error).__name__})"
    return None if status == httpx.codes.OK else f"answers {status}"


class Server:
    """MLflow's REST API, as far as a training needs it; signs in by the variables that MLflow's own client reads.

    Raises:
        httpx.HTTPError: from every method, when the server does not answer or refuses.
    """

    def __init__(self, uri: str) -> None:
        self._client = _client(f"{uri.rstrip('/')}/api/2.0/mlflow/", 10)

    @classmethod
    def reached(cls, uri: str) -> Server:
        """The server at ``uri``; ValueError when it is none (a folder, a database) or is away."""
        if not uri.startswith(("http://", "https://")):
            raise ValueError("it is no server")
        if said := trouble(uri):
            raise ValueError(f"it {said}")
        return cls(uri)

    def get(self, path: str, **asked: str) -> dict[str, Any]:
        """Ask."""
        return self._answer(self._client.get(path, params=asked))

    def post(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Send."""
        return self._answer(self._client.post(path, json=content))

    def put_artifact(self, folder: str, name: str, content: bytes) -> None:
        """Add a file to a run whose ``artifact_uri`` is ``folder``; ValueError when the server does not take files itself."""
        scheme, _, path = folder.partition(":")
        if scheme != "mlflow-artifacts":
            raise ValueError(f"runs keep their files in {folder}, which only MLflow's own client writes to")
        url = self._client.base_url.join(f"../mlflow-artifacts/artifacts/{path.strip('/')}/{name}")
        self._client.put(url, content=content).raise_for_status()

    def experiment(self, name: str) -> str:
        """Id of the experiment ``name``: made if there is none, brought back if somebody deleted it."""
        try:
            found = self.get("experiments/get-by-name", experiment_name=name)["experiment"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return str(self.post("experiments/create", {"name": name})["experiment_id"])
        if found["lifecycle_stage"] == "deleted":
            self.post("experiments/restore", {"experiment_id": found["experiment_id"]})
        return str(found["experiment_id"])

    @staticmethod
    def _answer(response: httpx.Response) -> dict[str, Any]:
        if response.is_error:
            said = f"answers {response.status_code}: {response.text[:300]}"
            raise httpx.HTTPStatusError(said, request=response.request, response=response)
        return dict(response.json())


def _client(url: str, seconds: float) -> httpx.Client:
    said = os.environ.get
    user, token = said("MLFLOW_TRACKING_USERNAME"), said("MLFLOW_TRACKING_TOKEN")
    insecure = said("MLFLOW_TRACKING_INSECURE_TLS") == "true"
    authority = said("MLFLOW_TRACKING_SERVER_CERT_PATH")
    return web.client(
        url,
        seconds=seconds,
        auth=(user, said("MLFLOW_TRACKING_PASSWORD") or "") if user else None,
        headers={"Authorization": f"Bearer {token}"} if token and not user else {},
        verify=ssl.create_default_context(cafile=authority) if authority else False if insecure else None,
    )
