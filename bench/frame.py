"""What every measurement is made of: rows of a table, commands timed with all their processes, and the machine."""

from __future__ import annotations

import datetime as dt
import os
import platform
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tasks.settings.environment import CODE

SAMPLE_SECONDS = 0.2  # each look walks all of /proc; at 0.05 that took 7% of a core


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, how often, and what came out."""

    name: str
    unit: str
    """Unit of the values: "s", "rows/s", "ms", ..."""
    values: tuple[float, ...]
    """One for each repeat."""
    note: str = ""
    """What a reader must know to use the number."""
    more: Mapping[str, float] = field(default_factory=dict)
    """Figures that go with it: cpu_s, peak_mb, rows, ..."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the spread beside the values."""
        spread = {"min": min(self.values), "median": statistics.median(self.values), "max": max(self.values)}
        return {"name": self.name, "unit": self.unit, "repeats": len(self.values), "values": list(self.values), **spread,
                "note": self.note, **self.more}  # fmt: skip


@dataclass
class Usage:
    """What a command took, its children and theirs included (sampled, so that a JVM nobody waits for counts too)."""

    seconds: float
    cpu_s: float
    """CPU-seconds of all its processes."""
    peak_mb: float
    """Largest sum of the resident memory of all its processes, in MiB; pages they share count once for each."""
    output: str


def run(argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end and say what it took; RuntimeError with its output when it fails."""
    start = time.perf_counter()
    before = _reaped_cpu()
    process = subprocess.Popen(
        [str(a) for a in argv],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    usage = Usage(0.0, 0.0, 0.0, "")
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, done, usage))
    watcher.start()
    usage.output = process.communicate()[0]
    usage.seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    # The kernel counts every process that was waited for, to the last tick; sampling alone sees those that were not.
    usage.cpu_s = max(usage.cpu_s, _reaped_cpu() - before)
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))} failed:\n{usage.output[-3000:]}")
    return usage


def _reaped_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(pid: int, done: threading.Event, usage: Usage) -> None:
    cpu: dict[int, float] = {}
    while not done.wait(SAMPLE_SECONDS):
        memory = 0
        for process in _family(pid):
            try:
                times = process.cpu_times()
                memory += process.memory_info().rss
            except psutil.Error:
                continue
            cpu[process.pid] = times.user + times.system
        usage.peak_mb = max(usage.peak_mb, memory / 2**20)
    usage.cpu_s = sum(cpu.values())


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def timed(name: str, work: Callable[[], Usage], repeats: int, note: str = "") -> Row:
    """``work`` done ``repeats`` times, in seconds, with the largest memory and the median CPU of them."""
    found = [work() for _ in range(repeats)]
    more = {"cpu_s": statistics.median(u.cpu_s for u in found), "peak_mb": max(u.peak_mb for u in found)}
    return Row(name, "s", tuple(u.seconds for u in found), note, more)


@dataclass
class Machine:
    """What the numbers are taken on, and how busy it was meanwhile; no name and no address."""

    begun: float = field(default_factory=time.monotonic)
    before: Any = field(default_factory=psutil.cpu_times)
    load: list[float] = field(default_factory=lambda: [os.getloadavg()[0]])

    def look(self) -> None:
        """Note the load average; to be called now and then."""
        self.load.append(os.getloadavg()[0])

    def describe(self) -> dict[str, Any]:
        """Hardware, versions, and what else ran since this object was made."""
        self.look()
        java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr.splitlines()
        return {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "java": java[0] if java else "none",
            "revision": _git("rev-parse", "HEAD"),
            "changed_since": bool(_git("status", "--porcelain")),
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.begun, 1),
            "load_before": round(self.load[0], 2),
            "load_highest": round(max(self.load), 2),
            "steal_share": round(self._share("steal"), 4),
            "iowait_share": round(self._share("iowait"), 4),
        }

    def busy(self) -> str:
        """Why the numbers should not be trusted; empty when the machine was idle."""
        cores = os.cpu_count() or 1
        reasons = []
        if self.load[0] > 0.3 * cores:
            reasons.append(f"the load average was {self.load[0]:.1f} on {cores} cores before anything was started")
        if (steal := self._share("steal")) > 0.02:
            reasons.append(f"other machines on the same host took {steal:.0%} of the CPU time")
        return " and ".join(reasons)

    def _share(self, kind: str) -> float:
        now = psutil.cpu_times()
        passed = sum(now) - sum(self.before)
        return (getattr(now, kind, 0.0) - getattr(self.before, kind, 0.0)) / passed if passed > 0 else 0.0


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=CODE, capture_output=True, text=True, check=False)
    return done.stdout.strip()
