"""What a model may be called. Standard library only, so that Airflow can read it at each parse."""

from __future__ import annotations

import re

from tasks.core.errors import ConfigError

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LENGTH = 31
"""What a DAG's id, a store's prefix, a registered model, a URL, a variable's name and a pod's label can all be called."""
SHARED = ("code", "probe")
"""Folders of the artefact store that are no model's."""
TAKEN = {
    **dict.fromkeys(SHARED, "the artefact store uses it for all models"),
    "metrics": "/airloop/metrics/ has the pipeline's metrics",
}
"""Names that mean something else where a model's name is used."""


def check(name: str) -> str:
    """``name``, if a model may have it; ConfigError otherwise."""
    if not NAME.fullmatch(name) or len(name) > LENGTH:
        raise ConfigError(
            f"name={name!r} is no model's name; write at most 31 small letters, digits and single underscores, a letter first and no "
            "underscore last."
        )
    if name in TAKEN:
        raise ConfigError(f"name={name!r} is taken: {TAKEN[name]}; choose another.")
    return name
