"""Where MLflow's registry differs from the store, as it was last seen: said once, and shown on the Airloop page while it lasts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.core.errors import warn
from tasks.storage.artefacts import Store, to_json

NAME = "registry/notices.json"


def kept(store: Store) -> dict[str, Any]:
    """What was seen last: which registered model (``since``), versions that are ``gone`` from it, and what was ``said``."""
    empty: dict[str, Any] = {"since": None, "gone": [], "said": {}}
    return dict(store.read_json(NAME)) if store.exists(NAME) else empty


def sentences(store: Store) -> list[str]:
    """What differs, a sentence each."""
    return [str(said["text"]) for said in kept(store)["said"].values()]


def say_once(store: Store, since: int | None, gone: Iterable[int], found: Mapping[str, str]) -> None:
    """Warn of each of ``found`` that is new, and keep all of them.

    Args:
        store: where they are kept.
        since: when the registered model was made: which one it is.
        gone: numbers that it will not give again.
        found: a sentence, by what it is about.
    """
    before, now = kept(store), dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    said = {}
    for about, text in found.items():
        if about not in before["said"]:
            warn(text)
        said[about] = {"text": text, "at": before["said"].get(about, {}).get("at", now)}
    wanted = {"since": since, "gone": sorted(gone), "said": said}
    if wanted != before:
        store.write(NAME, to_json(wanted))
