"""Where a task runs. One function decides, from dvc.yaml's `meta` and the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import StrEnum


class ConfigError(ValueError):
    """A setting is missing or unknown; the message names the setting, the value and the way out."""


class Engine(StrEnum):
    """What a stage's script needs to run."""

    PYTHON = "python"
    SPARK = "spark"


class Place(StrEnum):
    """Where one task runs."""

    PROCESS = "process"
    """A process on the Airflow worker."""
    SPARK = "spark"
    """spark-submit to the connection spark_default, from the Airflow worker."""
    POD = "pod"
    """A Kubernetes pod with the stage's own image and resources."""


COLUMNS: dict[str, dict[Engine, Place]] = {
    "embedded": {Engine.PYTHON: Place.PROCESS, Engine.SPARK: Place.SPARK},
    "containers": {Engine.PYTHON: Place.PROCESS, Engine.SPARK: Place.SPARK},
    # A month fits one pod, whose Spark needs no volume that others see; AIRLOOP_PLACE_FEATURES=spark takes executors.
    "cluster": {Engine.PYTHON: Place.POD, Engine.SPARK: Place.POD},
}
"""AIRLOOP_PLACE picks a column; what differs between embedded and containers is outside Airflow's tasks."""


def variable(prefix: str, name: str) -> str:
    """``AIRLOOP_PLACE`` and ``train`` as AIRLOOP_PLACE_TRAIN."""
    return f"{prefix}_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"


def place_of(name: str, engine: Engine, environ: Mapping[str, str] = os.environ) -> Place:
    """Where the stage or act ``name`` runs: AIRLOOP_PLACE_<NAME> if set, else the column that AIRLOOP_PLACE names.

    ConfigError when either is unknown, or the place cannot run the engine.
    """
    column = environ.get("AIRLOOP_PLACE") or "embedded"
    if column not in COLUMNS:
        raise ConfigError(f"AIRLOOP_PLACE={column!r} is unknown; use one of {', '.join(COLUMNS)}.")
    setting = variable("AIRLOOP_PLACE", name)
    override = environ.get(setting)
    if not override:
        return COLUMNS[column][engine]
    if override not in list(Place):
        raise ConfigError(f"{setting}={override!r} is unknown; use one of {', '.join(Place)}, or unset it.")
    place = Place(override)
    if place is Place.SPARK and engine is not Engine.SPARK:
        raise ConfigError(f"{setting}=spark: {name} is no Spark script; use process or pod, or unset it.")
    return place


def image_for(name: str, role: str, environ: Mapping[str, str] = os.environ) -> str:
    """Image for ``name``: AIRLOOP_IMAGE_<NAME>, else AIRLOOP_IMAGE, with ``{role}`` replaced; ConfigError when neither is set."""
    setting = variable("AIRLOOP_IMAGE", name)
    image = environ.get(setting) or environ.get("AIRLOOP_IMAGE")
    if not image:
        raise ConfigError(
            f"{setting} and AIRLOOP_IMAGE are not set, so there is no image to run {name} in; set one to the image "
            f"that docker/ builds, or run it on the worker with {variable('AIRLOOP_PLACE', name)}=process."
        )
    return image.replace("{role}", role)
