"""Where a model's records are, for what runs in Airflow itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.storage.artefacts import Store


def store_of(model: str) -> Store:
    """The part of the artefact store that is ``model``'s: its ledger, landed intervals, predictions and reports."""
    from tasks.settings.environment import store  # when it is needed: each process of Airflow reads this file

    return store(model)
