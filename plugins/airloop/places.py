"""Where a task runs. One function decides, from dvc.yaml's `meta` and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from airloop.setting_types import image
from airloop.settings import PlaceSettings, load, of_stage, variable
from tasks.core.errors import ConfigError


class Place(StrEnum):
    """Where one task runs."""

    PROCESS = "process"
    """A process on the Airflow worker."""
    SPARK = "spark"
    """spark-submit to the connection spark_default, from the Airflow worker."""
    POD = "pod"
    """A Kubernetes pod with the stage's own image and resources."""


COLUMNS: dict[str, dict[str, Place]] = {
    "embedded": {"python": Place.PROCESS, "spark": Place.SPARK},
    "containers": {"python": Place.PROCESS, "spark": Place.SPARK},
    # An interval fits one pod, whose Spark needs no volume that others see; AIRLOOP_PLACE_FEATURES=spark takes executors.
    "cluster": {"python": Place.POD, "spark": Place.POD},
}
"""AIRLOOP_PLACE picks a column; what differs between embedded and containers is outside Airflow's tasks."""


def place_of(name: str, engine: str, environ: Mapping[str, str] | None = None) -> Place:
    """Where the stage or job ``name`` runs: AIRLOOP_PLACE_<NAME> if set, else the column that AIRLOOP_PLACE names.

    ConfigError when either is unknown, or the place cannot run the engine.
    """
    column = load(PlaceSettings, environ).place
    if column not in COLUMNS:
        raise ConfigError(f"AIRLOOP_PLACE={column!r} is unknown; use one of {', '.join(COLUMNS)}.")
    setting = variable("AIRLOOP_PLACE", name)
    override = of_stage("AIRLOOP_PLACE", name, environ)
    if not override:
        return COLUMNS[column][engine]
    if override not in list(Place):
        raise ConfigError(f"{setting}={override!r} is unknown; use one of {', '.join(Place)}, or unset it.")
    place = Place(override)
    if place is Place.SPARK and engine != "spark":
        raise ConfigError(f"{setting}=spark: {name} is no Spark script; use process or pod, or unset it.")
    return place


def image_for(name: str, role: str, environ: Mapping[str, str] | None = None) -> str:
    """Image for ``name``: AIRLOOP_IMAGE_<NAME>, else AIRLOOP_IMAGE, with ``{role}`` replaced; ConfigError when neither is set."""
    setting = variable("AIRLOOP_IMAGE", name)
    found = of_stage("AIRLOOP_IMAGE", name, environ) or load(PlaceSettings, environ).image
    if not found:
        raise ConfigError(
            f"{setting} and AIRLOOP_IMAGE are not set, so there is no image to run {name} in; set one to the image "
            f"that docker/ builds, or run it on the worker with {variable('AIRLOOP_PLACE', name)}=process."
        )
    try:
        return image(found).replace("{role}", role)
    except ValueError as error:
        raise ConfigError(f"{setting}={found!r} {error}") from None
