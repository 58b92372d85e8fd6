"""Services by their URLs: each follows the ledger by itself, and is asked to look at it now."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tasks.online import NotServedError
from tasks.online.client import post
from tasks.registry.ledger import Entry


class Replicas:
    """One service, or several that each have a URL."""

    patience = 0.0

    def __init__(self, model: str, urls: Sequence[str]) -> None:
        self.urls = urls
        self._model = model

    def put_live(self, entry: Entry) -> list[str]:
        """Ask each to look at the ledger; NotServedError unless it then serves the entry's version."""
        for url in self.urls if entry.to_version is not None else ():
            answer = post(url, f"/-/sync/{self._model}", {})
            if answer.get("model_version") != entry.to_version:
                raise NotServedError(f"{url} does not serve v{entry.to_version}: {json.dumps(answer)[:300]}")
        return []
