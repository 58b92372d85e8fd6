"""The online service's cost of a request beside `mlflow models serve` on the same model.

Ours looks every feature up; MLflow's is sent the 24 finished numbers, which is the easier task. Both run as one process
with one worker, on the machine that also runs the load generator, whose own cost is a row of its own.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa

from tasks import ingest, publish, train, validate
from tasks.common import landed, ledger, params
from tasks.common.artefacts import Store, sha256
from tasks.common.environment import CODE
from tasks.common.landing_zone import MANIFEST, parse_manifest
from tasks.common.model import Contract
from tasks.flights import landing
from tasks.flights.asof import Flight, State
from tasks.flights.definitions import FEATURES, KEY, LABEL
from tasks.flights.state import read_state, state_tables

MONTHS = ("2013-01", "2013-02", "2013-03")
REQUESTS = 5000
SECONDS = 8.0
CONNECTIONS = (1, 16)


@dataclass
class Arena:
    """A store with landed months and a live model, and requests to send."""

    store: Store
    onnx: bytes
    ours: Path
    """One JSON body a line, for the online service."""
    mlflows: Path
    """The same flights as finished features, for MLflow's server."""


def prepare(root: Path) -> Arena:
    """Land, validate and publish real months, train on the last, put the model live."""
    settings, zone, store = (
        params.load(CODE / "params.yaml"),
        Store((root / "landing").as_uri()),
        Store((root / "store").as_uri()),
    )
    tables, kept = landing.read_tables(landing.source()), {}
    for month in MONTHS:
        landing.land(month, tables, zone)
        kept[month] = _kept(month, zone)
        state = publish.put_state(month, state_tables(**{f"kept_{k}": t for k, t in kept[month].items()}), store)
        record = landed.Landed(
            month=month, previous=month, run="bench", manifest="", features="", counts={}, lock={}, state=state
        )
        landed.write(store, record)
    state = State(
        {m: read_state(store, record.state) for m, record in landed.read_all(store).items()}, settings.features
    )
    rows = kept[MONTHS[-1]]["flights"].to_pylist()
    features = _features(state, rows, settings.features.late_minutes)
    fit, stop = train.split(features, settings.holdout, settings.train.validation)
    contract = train.learn_contract(fit)
    onnx = train.to_onnx(train.boost(fit, stop, contract, settings.train), len(FEATURES))
    contract = contract.model_copy(update={"onnx_sha256": sha256(onnx)})
    _promote(store, onnx, contract)
    few = list(range(0, len(rows), len(rows) // REQUESTS))[:REQUESTS]
    ours, mlflows = root / "ours.jsonl", root / "mlflows.jsonl"
    ours.write_text("\n".join(json.dumps(_body(rows[n])) for n in few))
    x = np.nan_to_num(contract.encode(features.take(few))).tolist()
    mlflows.write_text("\n".join(json.dumps({"inputs": [row]}) for row in x))
    return Arena(store, onnx, ours, mlflows)


def _kept(month: str, zone: Store) -> dict[str, pa.Table]:
    os.environ["AIRLOOP_LANDING"] = zone.url  # where ingest reads
    ingest.environment.cache_clear()
    manifest = parse_manifest(zone.read(f"{month}/{MANIFEST}"), month, zone.uri(month))
    return {name: validate.judge(raw, name, month).kept for name, raw in ingest.ingest(month, manifest).items()}


def _features(state: State, rows: list[dict[str, Any]], late_minutes: int) -> pa.Table:
    """What the features stage would make of ``rows``, by the service's own lookup (equal by the parity test)."""
    columns = ("carrier", "flight", "origin", "dest", "date", "hour", "minute", "scheduled_at")
    known = [state.known(Flight(*(row[c] for c in columns))).features for row in rows]
    late = [None if row["arr_delay"] is None else int(row["arr_delay"] >= late_minutes) for row in rows]
    days = [(row["date"] - dt.date(2013, 1, 1)).days for row in rows]
    numbers = {f: pa.array([k[f] for k in known]) for f in FEATURES}
    keys = {k: pa.array([row[k] for row in rows]) for k in KEY if k not in numbers}
    return pa.table({**keys, **numbers, "day": pa.array(days, pa.int32()), LABEL: pa.array(late, pa.int8())})


def _promote(store: Store, onnx: bytes, contract: Contract) -> None:
    folder = f"models/{sha256(onnx)}"
    store.write(f"{folder}/model.onnx", onnx)
    digest = store.write(f"{folder}/contract.json", contract.to_bytes())
    evidence = ledger.Evidence(model=sha256(onnx), contract=digest, gate=None, run="bench", data_through=MONTHS[-1])
    ledger.Ledger(store).append(
        action="promote", to_version=1, effective_from=MONTHS[-1], who="bench", why="to be measured", evidence=evidence
    )


def _body(row: Mapping[str, Any]) -> dict[str, Any]:
    time = dt.datetime.combine(row["date"], dt.time(row["hour"], row["minute"]))
    return {
        "carrier": row["carrier"], "flight": row["flight"], "origin": row["origin"], "destination": row["dest"],
        "scheduled_time": time.isoformat(timespec="minutes"),
    }  # fmt: skip


@contextmanager
def server(command: list[str], port: int, path: str, **environment: str) -> Iterator[psutil.Process]:
    """Start ``command`` and wait until ``path`` answers 200; its whole process tree is gone afterwards."""
    started = psutil.Popen(
        command, env={**os.environ, **environment}, cwd=CODE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not _answers(f"http://127.0.0.1:{port}{path}"):
            if started.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} does not answer on port {port}")
            time.sleep(0.2)
        yield started
    finally:
        tree = [*started.children(recursive=True), started]
        for process in tree:
            process.terminate()
        for process in psutil.wait_procs(tree, timeout=10)[1]:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def load(port: int, path: str, bodies: Path, connections: int, process: psutil.Process) -> dict[str, float]:
    """Drive the server; what the load generator saw, and ``server_cpu_us`` a request of the server's process tree."""
    command = [sys.executable, "-m", "bench.load", f"http://127.0.0.1:{port}{path}", str(bodies), str(connections)]
    subprocess.run([*command, "1"], check=True, capture_output=True, cwd=CODE)  # warm
    before = _cpu_seconds(process)
    done = subprocess.run([*command, str(SECONDS)], check=True, capture_output=True, text=True, cwd=CODE)
    seen: dict[str, float] = json.loads(done.stdout)
    if seen["failed"]:
        raise RuntimeError(f"{seen['failed']} of {seen['requests']} requests to port {port} failed")
    return seen | {"server_cpu_us": 1e6 * (_cpu_seconds(process) - before) / seen["requests"]}


def _cpu_seconds(process: psutil.Process) -> float:
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return float(sum(t.user + t.system for t in times))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def save_for_mlflow(onnx_bytes: bytes, target: Path) -> None:
    """The model as the registry holds it: MLflow's onnx flavour with a signature."""
    import mlflow.onnx
    import onnx
    from mlflow.models import infer_signature

    example = np.zeros((1, len(FEATURES)), dtype=np.float32)
    signature = infer_signature(example, np.zeros((1, 2), dtype=np.float32))
    mlflow.onnx.save_model(onnx.load_from_string(onnx_bytes), str(target), signature=signature, pip_requirements=[])


def compare() -> dict[tuple[str, int], dict[str, float]]:
    """Numbers of each server ("airloop", "mlflow") at each number of connections."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        arena = prepare(Path(folder))
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "serving.app:app", "--port", str(port), "--no-access-log"]
        with server(command, port, "/readyz", AIRLOOP_STORE=arena.store.url) as process:
            for connections in CONNECTIONS:
                found["airloop", connections] = load(port, "/predict", arena.ours, connections, process)
        save_for_mlflow(arena.onnx, Path(folder) / "mlflow")
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "models",
            "serve",
            "-m",
            f"{folder}/mlflow",
            "--env-manager",
            "local",
        ]
        with server([*command, "--host", "127.0.0.1", "--port", str(port)], port, "/ping") as process:
            for connections in CONNECTIONS:
                found["mlflow", connections] = load(port, "/invocations", arena.mlflows, connections, process)
    return found
