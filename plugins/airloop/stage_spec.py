"""What dvc.yaml says of a stage, as Airflow needs to know it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from airloop.places import ConfigError, Engine
from airloop.workspace import code

META = frozenset({"engine", "cpu", "memory", "gpus", "nodes", "spot", "timeout_minutes"})


@dataclass(frozen=True)
class StageSpec:
    """What Airflow needs to know of a stage: its command, and what `meta` in dvc.yaml says of where it likes to run."""

    name: str
    cmd: str
    by_month: bool
    """Whether dvc.yaml has the stage once for each month."""
    engine: Engine
    cpu: int
    """Cores."""
    memory: str
    """As Kubernetes writes it: 4Gi."""
    timeout_minutes: int
    gpus: int = 0
    """Of each pod."""
    nodes: int = 1
    """Pods that work on it together (airloop.pod_group), each with these cores, memory and GPUs."""
    spot: bool = False
    """Whether it may run on machines that can be taken away."""
    act: bool = False
    """Whether it acts on the world and so is no stage of dvc.yaml."""

    def item(self, month: str) -> str:
        """Its name in dvc.lock for ``month``."""
        return f"{self.name}@{month}" if self.by_month else self.name

    def argv(self, month: str) -> list[str]:
        """Its command line for ``month``, as dvc runs it."""
        return [part.replace("${key}", month) for part in shlex.split(self.cmd)]


def spec(name: str) -> StageSpec:
    """Stage ``name`` of dvc.yaml; ConfigError when it is not there or its `meta` is not as it should be."""
    path = code() / "dvc.yaml"
    stages = _stages(path)
    if name not in stages:
        raise ConfigError(f"stage({name!r}): {path} has no such stage; it has {', '.join(stages)}.")
    entry = stages[name]
    by_month = "foreach" in entry
    body = entry["do"] if by_month else entry
    meta = body.get("meta") or {}
    wrong = sorted(set(meta) - META) + sorted({"engine", "cpu", "memory", "timeout_minutes"} - set(meta))
    if wrong:
        raise ConfigError(
            f"{path}, stage {name}: meta needs engine, cpu, memory and timeout_minutes, and may have gpus, nodes and spot; "
            f"unknown or missing: {', '.join(wrong)}."
        )
    if meta["engine"] not in list(Engine):
        raise ConfigError(
            f"{path}, stage {name}: meta.engine={meta['engine']!r} is unknown; use {' or '.join(Engine)}."
        )
    return StageSpec(name=name, cmd=body["cmd"], by_month=by_month, **{**meta, "engine": Engine(meta["engine"])})


@cache
def _stages(path: Path) -> Mapping[str, Any]:
    try:
        return dict(yaml.safe_load(path.read_text())["stages"])
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing; set AIRLOOP_CODE to the checkout that has dvc.yaml.") from None
