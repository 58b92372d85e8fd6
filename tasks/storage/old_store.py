"""A store that was made when there was one model, before each model had a folder in it."""

from __future__ import annotations

from tasks.core.errors import ConfigError
from tasks.storage.artefacts import Store

TOPS = ("ledger/000001.json", "versions/000001.json")
"""What such a store has at its top once a model was registered."""


def refuse(store: Store) -> None:
    """ConfigError with the way out when the whole ``store`` is such a one: its ledger would not be found, its code counts as garbage."""
    if any(store.exists(name) for name in TOPS):
        raise ConfigError(
            f"{store.url} has the ledger of one model at its top, as older versions kept it. Move every folder in it but code/ "
            "to a new folder that has the model's name, and the same in the landing zone; or name a new store as AIRLOOP_STORE."
        )
