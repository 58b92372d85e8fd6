"""What the end-to-end tests do to a running stack, and what they ask of it."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from local.airflow_api import Airflow
from models.flights.landing import land, read_tables, source
from tasks.core.urls import url_of
from tasks.landing import landed
from tasks.registry import mlflow_registry
from tasks.registry.ledger import Entry, Ledger
from tasks.settings.environment import environment, landing
from tasks.storage.artefacts import Store, sha256, to_json
from tasks.versioning.lock_file import read_lock

INGEST = ("manifest", "ingest", "validate", "labels", "features")
"""Stages of the DAG `ingest`."""
Change = Callable[[pd.DataFrame], pd.DataFrame]


@cache
def feed() -> dict[str, tuple[list[str], list[list[str]]]]:
    """The year, read once."""
    return read_tables(source())


@dataclass
class Loop:
    """A started stack."""

    airflow: Airflow
    store: Store
    home: Path
    patience: float = 600
    """Seconds that one DAG run may take, or take to begin."""
    model: str = "flights"
    """Whose store, versions and answers these are."""

    def land(self, interval: str, change: Change | None = None) -> None:
        """Land a real interval of flights; ``change`` makes another April of its flights (all cells are text)."""
        zone = landing()
        land(interval, feed(), zone)
        if change is None:
            return
        table = pd.read_csv(
            io.BytesIO(gzip.decompress(zone.read(f"{interval}/flights.csv.gz"))), dtype=str, keep_default_na=False
        )
        changed = change(table)
        data = gzip.compress(changed.to_csv(index=False).encode(), mtime=0)
        manifest = zone.read_json(f"{interval}/manifest.json")
        manifest["files"]["flights.csv.gz"] = {"sha256": sha256(data), "bytes": len(data), "rows": len(changed)}
        zone.write(f"{interval}/flights.csv.gz", data)
        zone.write(f"{interval}/manifest.json", to_json(manifest))

    def run(self, dag: str, conf: dict[str, Any], expect: str = "success") -> dict[str, dict[str, Any]]:
        """Trigger, follow to the end; returns the task instances. Fails with the logs unless it ends as expected."""
        return self.follow(dag, self.airflow.trigger(dag, conf), expect)

    def follow(self, dag: str, run_id: str, expect: str = "success") -> dict[str, dict[str, Any]]:
        """Wait for a run; returns its task instances."""
        ended = self.airflow.wait(dag, run_id, self.patience)
        tasks = self.airflow.tasks(dag, run_id)
        if ended["state"] != expect:
            words = [
                self.airflow.log(dag, run_id, n, t["try_number"])[-3000:]
                for n, t in tasks.items()
                if t["state"] == "failed"
            ]
            raise AssertionError(f"{dag} {run_id} ended as {ended['state']}:\n" + "\n".join(words))
        return tasks

    def started(self, dag: str, interval: str, nth: int = 1, seconds: float | None = None) -> str:
        """Run id of the ``nth`` run of ``dag`` that an asset event started for ``interval``."""
        seconds = seconds or self.patience
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.partition_runs(dag, interval)
            if len(found) >= nth:
                return str(found[nth - 1]["dag_run_id"])
            time.sleep(0.5)
        raise AssertionError(
            f"no run {nth} of {dag} for {interval} within {seconds} s: {[r['dag_run_id'] for r in self.airflow.runs()]}"
        )

    def partition_runs(self, dag: str, interval: str) -> list[dict[str, Any]]:
        """Runs of ``dag`` that asset events started for ``interval``."""
        return [run for run in self.airflow.runs(dag) if run.get("partition_key") == interval]

    def landed(self, interval: str) -> landed.Landed:
        """The interval's record; fails when it has not landed."""
        record = landed.read(self.store, interval)
        assert record is not None, f"{interval} has not landed"
        return record

    def ledger(self) -> list[Entry]:
        """All entries."""
        return Ledger(self.store).entries()

    def aliases(self) -> dict[str, str]:
        """MLflow's aliases."""
        return dict(mlflow_registry.client().get_registered_model(self.model).aliases)

    def online(self) -> dict[str, Any]:
        """What the online service says of itself."""
        return dict(httpx.get(f"{environment().online_url}/models/{self.model}/ready", timeout=30).json())


def in_processes(folder: Path, landing_url: str, interval: str) -> dict[str, object]:
    """dvc.lock of an interval that has landed, run here as processes, in a home and on a remote of its own."""
    env = {
        "AIRLOOP_HOME": str(folder / "home"),
        "AIRLOOP_LANDING": landing_url,
        "AIRLOOP_STORE": url_of(folder / "store"),
        "AIRLOOP_DVC_REMOTE": str(folder / "remote"),
        "AIRLOOP_DVC_CACHE": str(folder / "cache"),
    }
    argv = ["-m", "tasks.running", "stage", *INGEST, "--run", "here", "--first", interval]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        subprocess.run([sys.executable, *argv, "--begins"], check=True, capture_output=True)
    return read_lock(folder / "home/runs/here")
