"""MLflow's tracking server, for those who look there: it decides nothing, and may be down."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

PROGRESS = "airloop-training"
"""Experiment of the trainings' own runs."""
TRAINING = "airloop.training"
"""Tag of a training's run, and of the model version that came of it: the training's identity."""
SECONDS = 3
"""How long the tracking server may take to say that it is there; MLflow's client alone would try for minutes."""


def answers(uri: str) -> bool:
    """Whether the server at ``uri`` is there; a folder or a database is: there is nothing to wait for."""
    if not uri.startswith(("http://", "https://")):
        return True
    try:
        return httpx.get(f"{uri.rstrip('/')}/health", timeout=SECONDS).is_success
    except httpx.HTTPError:
        return False


class Server:
    """MLflow's REST API, as far as a training needs it; signs in by the variables that MLflow's own client reads.

    Raises:
        httpx.HTTPError: from every method, when the server does not answer or refuses.
    """

    def __init__(self, uri: str) -> None:
        said = os.environ.get
        user, token = said("MLFLOW_TRACKING_USERNAME"), said("MLFLOW_TRACKING_TOKEN")
        insecure = said("MLFLOW_TRACKING_INSECURE_TLS") == "true"
        authority = said("MLFLOW_TRACKING_SERVER_CERT_PATH")
        self._client = httpx.Client(
            base_url=f"{uri.rstrip('/')}/api/2.0/mlflow/",
            timeout=10,
            auth=(user, said("MLFLOW_TRACKING_PASSWORD") or "") if user else None,
            headers={"Authorization": f"Bearer {token}"} if token and not user else {},
            verify=ssl.create_default_context(cafile=authority) if authority else not insecure,
        )

    @classmethod
    def reached(cls, uri: str) -> Server:
        """The server at ``uri``; ValueError when it is none (a folder, a database) or is away."""
        if not uri.startswith(("http://", "https://")):
            raise ValueError("it is no server")
        if not answers(uri):
            raise ValueError("it does not answer")
        return cls(uri)

    def get(self, path: str, **asked: str) -> dict[str, Any]:
        """Ask."""
        return self._answer(self._client.get(path, params=asked))

    def post(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Tell."""
        return self._answer(self._client.post(path, json=content))

    def put_artifact(self, folder: str, name: str, content: bytes) -> None:
        """Add a file to a run whose ``artifact_uri`` is ``folder``; ValueError when the server does not take files itself."""
        scheme, _, path = folder.partition(":")
        if scheme != "mlflow-artifacts":
            raise ValueError(f"runs keep their files in {folder}, which only MLflow's own client writes to")
        url = self._client.base_url.join(f"../mlflow-artifacts/artifacts/{path.strip('/')}/{name}")
        self._client.put(url, content=content).raise_for_status()

    def experiment(self, name: str) -> str:
        """Id of the experiment ``name``, made if there is none."""
        try:
            return str(self.get("experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"])
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
        return str(self.post("experiments/create", {"name": name})["experiment_id"])

    @staticmethod
    def _answer(response: httpx.Response) -> dict[str, Any]:
        if response.is_error:
            said = f"answers {response.status_code}: {response.text[:300]}"
            raise httpx.HTTPStatusError(said, request=response.request, response=response)
        return dict(response.json())
