"""What dvc.yaml and jobs.yaml say of a stage or a job: its command, what it reads, and where it likes to run.

Light: Airflow reads it when it parses a DAG.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tasks.core import fast_yaml
from tasks.core.errors import ConfigError
from tasks.intervals import cadence

ENGINES = ("python", "spark")
KEY = "${key}"
"""Stands for the interval in a command, as dvc.yaml's foreach writes it."""
_NEEDED = frozenset({"engine", "cpu", "memory", "timeout_minutes"})
_STAGE_META = _NEEDED | {"window", "gpus", "nodes", "spot", "tune", "lists", "span"}
_JOB_META = _NEEDED | {"window", "worker"}
_LEAST = {"cpu": 1, "timeout_minutes": 1, "gpus": 0, "nodes": 1}
_MEMORY = re.compile(r"[1-9][0-9]*(Gi|Mi)")


@dataclass(frozen=True)
class Work:
    """One stage of dvc.yaml, or one job of jobs.yaml."""

    name: str
    cmd: str
    stage: bool
    """Whether DVC knows its result; a job has effects outside its run instead."""
    keyed: bool
    """Whether it works on one interval at a time; if not, on all intervals of the run at once."""
    engine: str
    """What its script needs: python, or spark for spark-submit."""
    cpu: int
    """Cores."""
    memory: str
    """As Kubernetes writes it: 4Gi."""
    timeout_minutes: int
    window: str = ""
    """Intervals that a run needs which begins with it (tasks.running.windows); empty for a job without a workspace."""
    gpus: int = 0
    """Of each pod."""
    nodes: int = 1
    """Pods that work on it together, each with these cores, memory and GPUs."""
    spot: bool = False
    """Whether it may run on machines that can be taken away."""
    lists: bool = False
    """Whether it reads the files that lists among its dependencies name (tasks/storage/lists.py)."""
    span: bool = False
    """Whether its command takes several intervals at once: its option with ``${key}`` once for each."""
    worker: bool = False
    """Whether it runs beside Airflow wherever others run."""
    reads: tuple[str, ...] = ()
    """Stages whose outputs a job reads: of the interval (``features@${key}``), or of all intervals (``features``)."""
    tune: Mapping[str, Any] = field(default_factory=dict)
    """``cmd``, which chooses settings of the stage first, and ``when``: settings of which one must not be zero."""

    def item(self, key: str) -> str:
        """Its name in dvc.lock for the interval ``key``."""
        return f"{self.name}@{key}" if self.stage and self.keyed else self.name

    def argv(self, *keys: str) -> list[str]:
        """Its command line for these intervals, several of which only a command with `span` takes."""
        parts = shlex.split(self.cmd)
        if len(keys) == 1:
            return [part.replace(KEY, keys[0]) for part in parts]
        at = next(at for at, part in enumerate(parts) if KEY in part)
        options = [part.replace(KEY, key) for key in keys for part in parts[at - 1 : at + 1]]
        return [*parts[: at - 1], *options, *parts[at + 1 :]]


class Catalogue:
    """The stages and jobs of the checkout or workspace at ``root``."""

    def __init__(self, root: Path) -> None:
        self._stages_file, self._jobs_file = root / "dvc.yaml", root / "jobs.yaml"

    def stage(self, name: str) -> Work:
        """Stage ``name``; ConfigError when dvc.yaml has none, or its `meta` is not as it should be."""
        entry = _entry(self._stages_file, "stages", name)
        body = entry.get("do", entry)
        meta = _meta(self._stages_file, name, body, _STAGE_META)
        return Work(name, body["cmd"], stage=True, keyed="foreach" in entry, **meta)

    def job(self, name: str) -> Work:
        """Job ``name``; ConfigError when jobs.yaml has none, or its `meta` is not as it should be."""
        body = _entry(self._jobs_file, "jobs", name)
        meta = _meta(self._jobs_file, name, body, _JOB_META)
        reads = tuple(body.get("reads", ()))
        return Work(name, body["cmd"], stage=False, keyed=KEY in body["cmd"], reads=reads, **meta)

    def makes(self, path: str) -> str | None:
        """The item of dvc.lock that makes ``path``, where that is a whole output of a stage that works on one interval at a time."""
        for name, entry in _read(self._stages_file, "stages").items():
            for out in entry["do"]["outs"] if "foreach" in entry else []:
                before, _, after = out.partition(KEY)
                if found := re.fullmatch(f"{re.escape(before)}({cadence.KEY}){re.escape(after)}", path):
                    return f"{name}@{found[1]}"
        return None

    def from_here(self, work: Work) -> list[Work]:
        """Stage ``work`` and those that come after it and work on one interval at a time, too."""
        names = [name for name, entry in _read(self._stages_file, "stages").items() if "foreach" in entry]
        return [self.stage(name) for name in names[names.index(work.name) :]]

    def find(self, name: str) -> Work:
        """Stage or job ``name``; ConfigError when there is neither."""
        return self.job(name) if name in _read(self._jobs_file, "jobs") else self.stage(name)


def _entry(path: Path, section: str, name: str) -> dict[str, Any]:
    entries = _read(path, section)
    if name not in entries:
        raise ConfigError(f"{path} has no {section[:-1]} {name!r}; it has {', '.join(entries)}.")
    return dict(entries[name])


def _meta(path: Path, name: str, body: Mapping[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
    meta = dict(body.get("meta") or {})
    wrong = sorted(set(meta) - allowed) + sorted(_NEEDED - set(meta))
    if wrong:
        raise ConfigError(
            f"{path}, {name}: meta needs {', '.join(sorted(_NEEDED))}, and may have {', '.join(sorted(allowed - _NEEDED))}; "
            f"unknown or missing: {', '.join(wrong)}."
        )
    if meta["engine"] not in ENGINES:
        raise ConfigError(f"{path}, {name}: meta.engine={meta['engine']!r} is unknown; use {' or '.join(ENGINES)}.")
    _check_amounts(meta, f"{path}, {name}")
    return meta


def _check_amounts(meta: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError for an amount that neither Airflow nor Kubernetes would take."""
    if not _MEMORY.fullmatch(str(meta["memory"])):
        raise ConfigError(f"{where}: meta.memory={meta['memory']!r} is no amount of memory; write 4Gi or 512Mi.")
    for key, least in _LEAST.items():
        value = meta.get(key, least)
        if type(value) is not int or value < least:
            raise ConfigError(f"{where}: meta.{key}={value!r} is no whole number of at least {least}.")
    for key in ("spot", "worker", "lists", "span"):
        if type(meta.get(key, False)) is not bool:
            raise ConfigError(f"{where}: meta.{key}={meta[key]!r} is no switch; write true or false.")


def _read(path: Path, section: str) -> Mapping[str, Any]:
    try:
        changed = path.stat().st_mtime_ns
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing; set AIRLOOP_CODE to a checkout that has dvc.yaml and jobs.yaml."
        ) from None
    return _parsed(path, section, changed)


@cache
def _parsed(path: Path, section: str, _changed: int) -> Mapping[str, Any]:
    return dict(fast_yaml.load(path.read_text(encoding="utf-8"))[section])
