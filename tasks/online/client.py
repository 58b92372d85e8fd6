"""HTTP to one address of the online service."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tasks import spec
from tasks.core import web
from tasks.core.errors import AirloopError
from tasks.online import NotServedError

TIMEOUT_SECONDS = 30


class AwayError(AirloopError):
    """Nobody answers at an address."""


def post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The JSON that ``url`` answers; AwayError when nobody does, NotServedError when the answer is an error."""
    token = os.environ.get("AIRLOOP_ADMIN_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with web.client(url, seconds=TIMEOUT_SECONDS, headers=headers) as client:
            response = client.post(path, json=body)
    except httpx.HTTPError as error:
        raise AwayError(
            f"The online service does not answer at {url}{path} ({error}). The ledger is written: start the service "
            "(`airloop up`) and clear this task, and everything else follows."
        ) from None
    if response.status_code >= 400:
        raise NotServedError(f"{url}{path} answers {response.status_code}: {response.text[:300]}")
    return dict(response.json())


def predict(url: str, asked: Sequence[dict[str, Any]], version: int, patience: float) -> list[float]:
    """Probabilities that model ``version`` answers to the requests ``asked``, in order.

    Errors as ``post``, and NotServedError when another version answers; each only when it lasts ``patience`` seconds.
    """
    trying = Retrying(
        retry=retry_if_exception_type((AwayError, NotServedError)),
        stop=stop_after_delay(patience),
        wait=wait_fixed(0.5),
        reraise=True,
    )
    return trying(_predict, url, asked, version)


def _predict(url: str, asked: Sequence[dict[str, Any]], version: int) -> list[float]:
    model = spec.current()
    online = model.online
    answers = post(url, f"/models/{model.name}/predict", {online.many: list(asked)})["predictions"]
    if others := {answer["model_version"] for answer in answers} - {version}:
        raise NotServedError(f"{url} answers with v{', v'.join(map(str, sorted(others)))} in place of v{version}.")
    return [answer[online.answer] for answer in answers]
