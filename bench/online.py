"""The online service's cost of a request beside `mlflow models serve` on the same model.

Ours looks every feature up; MLflow's is sent the 24 finished numbers, which is the easier task. Both run as one process
with one worker, on the machine that also runs the load generator, whose own cost is a row of its own.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq

from bench.frame import Row
from bench.home import LAST, Home
from tasks import spec
from tasks.modelling.model import Contract
from tasks.settings.environment import CODE
from tasks.storage.artefacts import Store

REQUESTS = 5000
SECONDS = 8.0
CONNECTIONS = (1, 16)
FIGURES = {
    "server_cpu_us": ("CPU", "us/request"),
    "per_second": ("rate", "requests/s"),
    "p50_ms": ("p50", "ms"),
    "p99_ms": ("p99", "ms"),
}
"""What is reported of each load, and as what."""


@dataclass
class Arena:
    """A store with landed intervals and a live model, the model itself, and requests to send."""

    store: Store
    onnx: bytes
    ours: Path
    """One JSON body a line, for the online service."""
    mlflows: Path
    """The same rows as finished features, for MLflow's server."""


def prepare(home: Home, root: Path) -> Arena:
    """Requests for landed rows, in both servers' words; ``root`` is where they are kept."""
    model, data = spec.current(), home.ingested(LAST) / "data"
    rows = pq.read_table(data / f"kept/{LAST}/{model.rows}.parquet").to_pylist()
    features = pq.read_table(data / f"features/{LAST}.parquet")
    onnx, contract, _ = home.model()
    few = list(range(0, len(rows), max(1, len(rows) // REQUESTS)))[:REQUESTS]
    ours, mlflows = root / "ours.jsonl", root / "mlflows.jsonl"
    ours.write_text("\n".join(json.dumps(model.online.as_asked(rows[n])) for n in few))
    x = np.nan_to_num(Contract.parse(contract).encode(features.take(few))).tolist()
    mlflows.write_text("\n".join(json.dumps({"inputs": [row]}) for row in x))
    return Arena(home.store, onnx, ours, mlflows)


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

    example = np.zeros((1, len(spec.current().features)), dtype=np.float32)
    signature = infer_signature(example, np.zeros((1, 2), dtype=np.float32))
    mlflow.onnx.save_model(onnx.load_from_string(onnx_bytes), str(target), signature=signature, pip_requirements=[])


def measure(home: Home, repeats: int) -> list[Row]:
    """CPU-microseconds of the server a request, requests/s, p50 and p99 of both, at each number of connections."""
    found = compare(home, repeats)
    rows = []
    for (name, connections), seen in found.items():
        where = f"{name}, {connections} connection{'s' * (connections > 1)}"
        more = {"client_cpu_us": statistics.median(one["client_cpu_us"] for one in seen)}
        for figure, (label, unit) in FIGURES.items():
            rows.append(Row(f"{where}: {label}", unit, tuple(one[figure] for one in seen), "", more))
    return rows


def compare(home: Home, repeats: int = 1) -> dict[tuple[str, int], list[dict[str, float]]]:
    """Numbers of each server ("airloop", "mlflow") at each number of connections, one for each repeat."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}

    def drive(name: str, path: str, bodies: Path, port: int, process: psutil.Process) -> None:
        for connections in CONNECTIONS:
            found[name, connections] = [load(port, path, bodies, connections, process) for _ in range(repeats)]

    with tempfile.TemporaryDirectory() as folder:
        arena = prepare(home, Path(folder))
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "serving.app:app", "--port", str(port), "--no-access-log"]
        with server(command, port, "/readyz", AIRLOOP_STORE=arena.store.shared.url) as process:
            drive("airloop", f"/models/{spec.current().name}/predict", arena.ours, port, process)
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
            drive("mlflow", "/invocations", arena.mlflows, port, process)
    return found
