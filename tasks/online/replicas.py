"""Services by their URLs: each follows the ledger by itself, and is asked to look at it now."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tasks.online import AwayError, Check, FaultyError, NotServedError, client, waits
from tasks.registry.ledger import Entry


class Replicas:
    """One service, or several that each have a URL."""

    patience = 10.0
    """A replica that was asked to look at the ledger has looked: this is for one that is restarted just then."""

    def __init__(self, model: str, urls: Sequence[str]) -> None:
        self.urls = urls
        self._model = model

    def put_live(self, entry: Entry, check: Check) -> list[str]:
        """Ask each to look at the ledger, until it serves the entry's version."""
        if entry.to_version is not None:
            waiting = list(self.urls)
            waits.certain(lambda: self._look(waiting, entry), self.patience, check)
        return []

    def _look(self, waiting: list[str], entry: Entry) -> None:
        """Ask all of ``waiting``, and take out those that serve it: one that is away hides no evidence of another."""
        errors: list[AwayError | NotServedError] = []
        for url in list(waiting):
            try:
                self._require(url, entry)
                waiting.remove(url)
            except FaultyError:
                raise
            except (AwayError, NotServedError) as error:
                errors.append(error)
        if errors:
            raise next((error for error in errors if isinstance(error, NotServedError)), errors[0])

    def _require(self, url: str, entry: Entry) -> None:
        path = f"/-/sync/{self._model}"
        answer = client.ask(url, path, {})
        said = answer.content
        if said.get("refused") == entry.to_version:
            raise FaultyError(f"{url} refuses v{entry.to_version}: {(said.get('problems') or {}).get('model')}")
        if answer.status != 200 or "model_version" not in said:
            raise client.away(url, path, answer)
        if said["model_version"] != entry.to_version:
            raise NotServedError(f"{url} does not serve v{entry.to_version}: {json.dumps(said)[:300]}")
