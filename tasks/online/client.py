"""HTTP to one address of the online service."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx

from tasks import spec
from tasks.core import web
from tasks.online import AwayError, NotServedError

TIMEOUT_SECONDS = 30


class Answer(NamedTuple):
    """What an address answers."""

    status: int
    content: dict[str, Any]
    """The JSON object in it; empty where there is none."""
    text: str


def ask(url: str, path: str, body: dict[str, Any]) -> Answer:
    """Post ``body`` and return the response, whatever its status; AwayError without a response."""
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
    try:
        content = json.loads(response.content)
    except ValueError:
        content = None
    return Answer(response.status_code, content if isinstance(content, dict) else {}, response.text)


def away(url: str, path: str, answer: Answer) -> AwayError:
    """The error that an answer is which says nothing of the version."""
    token = (
        "AIRLOOP_ADMIN_TOKEN must be the same here and there" if answer.status in (401, 403) else "its log says more"
    )
    return AwayError(
        f"{url}{path} answers {answer.status}: {answer.text[:300]}. That is no evidence about the version, so the ledger stays as "
        f"it is. Mend the service ({token}) and clear this task."
    )


def predict(url: str, asked: Sequence[dict[str, Any]], version: int) -> list[float]:
    """Probabilities that model ``version`` answers to the requests ``asked``, in order.

    Raises:
        AwayError: there is no answer, or one that is none.
        NotServedError: another version answers.
    """
    model = spec.current()
    online, path = model.online, f"/models/{model.name}/predict"
    answer = ask(url, path, {online.many: list(asked)})
    try:
        found = [(one["model_version"], float(one[online.answer])) for one in answer.content["predictions"]]
    except (KeyError, TypeError, ValueError):
        raise away(url, path, answer) from None
    if answer.status != 200 or len(found) != len(asked):
        raise away(url, path, answer)
    if others := {number for number, _ in found} - {version}:
        raise NotServedError(f"{url} answers with v{', v'.join(map(str, sorted(others)))} in place of v{version}.")
    return [probability for _, probability in found]
