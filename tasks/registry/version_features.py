"""What a version's features are made with: the settings of its own training, by the code at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from tasks.core.errors import DataError
from tasks.registry import recorded_settings
from tasks.spec import ModelSpec, Settings, sections
from tasks.storage.artefacts import Store


def recorded(version: int, run: str, source: Store, model: str) -> Settings | None:
    """Read the settings that the training features of a version were made with.

    Args:
        version: its number.
        run: its training run, whose record is read where the version has none of its own.
        source: the model's part of the store.
        model: the model's name.

    Returns:
        The settings as the code at hand types them; None where the store has no record of them.

    Raises:
        DataError: the code at hand cannot read them.
    """
    found = recorded_settings.read(version, run, source, model)
    return None if found is None else typed(found[1], model, f"v{version} is of another time: {found[0]}")


def golden_intervals(version: int, run: str, source: Store, model: str) -> tuple[str, ...]:
    """The intervals that the golden set of a version's training is from; none where they are not recorded. Arguments as above."""
    _, content = recorded_settings.read(version, run, source, model) or ("", {})
    golden = content.get("golden")
    golden = golden if isinstance(golden, dict) else {}
    return tuple(
        str(key) for key in golden.get("intervals") or golden.get("months") or ()
    )  # as an older run called them


def typed(content: Mapping[str, Any], model: str, where: str) -> Settings:
    """The section ``features`` of ``content`` as the model types it; DataError, which begins with ``where``, when it cannot."""
    try:
        return sections(model)["features"].model_validate(content["features"])
    except (ValidationError, KeyError, TypeError) as error:
        raise DataError(
            f"{where} has no feature settings that models/{model}/params.py can read: {error}. A setting that came later needs a "
            "default there, one that went has to stay while a version has it."
        ) from None


def require_declared(version: int, names: Iterable[str], model: ModelSpec) -> None:
    """DataError unless the code at hand computes all features ``names`` of a version."""
    if unknown := [name for name in names if name not in model.features]:
        raise DataError(
            f"v{version} needs {', '.join(unknown)}, which models/{model.name} does not compute. Use code that does: a newer checkout "
            "where the version is newer than this one; where the feature was removed, put it back until no rollback reaches the "
            f"version. Or put another version live: `airloop rollback <n> --model {model.name}`."
        )
