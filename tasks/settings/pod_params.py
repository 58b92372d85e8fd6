"""Settings of stages that run as pods."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.core.frozen import Frozen
from tasks.settings.value_types import Share


class Prices(Frozen):
    """What a pod's resources cost; the sums of a training run are kept with its model."""

    currency: str
    """Of the prices, for people."""
    cpu_hour: Annotated[float, Field(ge=0)]
    """One core for one hour."""
    memory_gib_hour: Annotated[float, Field(ge=0)]
    """One GiB of memory for one hour."""
    gpu_hour: Annotated[float, Field(ge=0)]
    """One GPU for one hour."""
    spot_factor: Share
    """Share of these prices that a spot machine costs."""


class PodParams(Frozen):
    """Stages as Kubernetes pods; plugins/airloop/pod.py acts on it."""

    evictions: Annotated[int, Field(ge=0)]
    """Pods that a task may lose to evictions, preemptions, lost nodes and failed image pulls before it fails."""
    on_demand_after: Annotated[int, Field(ge=0)]
    """Losses after which a spot stage goes to machines that are not taken away."""
    errors: Annotated[int, Field(ge=0)]
    """Crashes of a stage's code after which it is tried again; never when it crashes the same way twice."""
    prices: Prices
    """What their resources cost."""
