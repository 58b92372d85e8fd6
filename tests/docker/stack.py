"""docker-compose.yaml started from a copy of the checkout, as a project of the tests' own, and what the tests do to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from local.airflow_api import Airflow
from local.paths import ROOT
from models.flights import landing
from tasks.core.urls import url_of
from tasks.storage.artefacts import Store
from tests.e2e.loop import Loop

PROJECT = "airloop-test-demo"
"""What `make demo PLACE=compose` makes of the project airloop-test."""
IMAGES = [
    f"airloop-{name}:test"
    for name in ("airflow", "serve", "mlflow", "seaweedfs", "postgres", "proxy", "prometheus", "grafana")
] + ["airloop-serve:canary"]
PATIENCE = 1800
"""Seconds for a DAG run: a task that is lost, on a machine that has other work."""
WAIT_AND_KILL = """
import os, signal, sys, time
script, what, end = sys.argv[1], sys.argv[2], time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\\0")
        except OSError:
            continue
        if int(pid) != os.getpid() and any(word.endswith(script.encode()) for word in words):
            time.sleep(1)  # well at work
            if what != "nothing":
                os.kill(int(pid) if what == "it" else -1, signal.SIGKILL)
            sys.exit()
    time.sleep(0.1)
sys.exit(f"{script} was not seen at work")
"""
"""Run inside a container: waits for a process of a script, then kills ``it``, ``all`` that run there, or ``nothing``."""
FLIGHT = {"carrier": "UA", "flight": 1545, "origin": "EWR", "destination": "IAH", "scheduled_time": "2013-04-05T17:00"}


@dataclass
class Stack:
    """A stack that is up."""

    checkout: Path
    environ: dict[str, str]
    without: list[str]

    def compose(self, *words: str, check: bool = True, **environ: str) -> str:
        """Run docker compose; returns its standard output. Fails with its words."""
        return self._run("docker", "compose", *words, check=check, environ=environ)

    def docker(self, *words: str, check: bool = True) -> str:
        return self._run("docker", *words, check=check)

    def airloop(self, *words: str, check: bool = True) -> str:
        """A verb, of this checkout's own."""
        return self._run(sys.executable, "-m", "local.cli", *words, check=check)

    def start_background(self, *words: str) -> subprocess.Popen[str]:
        """A compose command that goes on beside the test."""
        command = ["docker", "compose", *words]
        return subprocess.Popen(command, cwd=self.checkout, env=self.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip

    def _run(self, *words: str, check: bool, environ: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            words, cwd=self.checkout, env={**self.environ, **(environ or {})}, capture_output=True, text=True, check=False, umask=0o077
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{' '.join(words)}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    @cached_property
    def settings(self) -> dict[str, str]:
        """What the copy's .env says, and over it the environment."""
        lines = (self.checkout / ".env").read_text().splitlines()
        told = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        return {name: self.environ.get(name, value) for name, value in told.items()}

    def url(self, what: str) -> str:
        """Address of a published service, by the name in its port's variable."""
        return f"http://127.0.0.1:{self.settings[f'AIRLOOP_{what}_PORT']}"

    @cached_property
    def loop(self) -> Loop:
        """DAG runs, through Airflow's API. The store is inside: what it holds is asked there."""
        airflow = Airflow(self.url("AIRFLOW"), self.settings["AIRLOOP_ADMIN_PASSWORD"])
        return Loop(airflow, Store(url_of(self.checkout)), self.checkout, PATIENCE)

    def land(self, interval: str) -> None:
        """The airline drops an interval, as docs/containers.md says."""
        mount = f"{landing.source().resolve()}:/source.tar.gz:ro"
        within = ["--volume", mount, "--env", "AIRLOOP_SOURCE=/source.tar.gz", "airflow-cli"]
        self.compose("run", "--rm", "--no-TTY", *within, "python", "models/flights/landing.py", "--month", interval)

    def services(self, *profiles: str) -> list[str]:
        """All services of these profiles that are to run."""
        named = [word for profile in profiles for word in ("--profile", profile)]
        return sorted(set(self.compose(*named, "config", "--services").split()) - set(self.without))

    def inside(self, container: str, code: str, *arguments: str, seconds: float = 600) -> None:
        """Run WAIT_AND_KILL's like in a container, by its name."""
        self.docker("exec", container, "python", "-c", code, *arguments, str(seconds))

    def containers(self, service: str) -> list[str]:
        """Names of a service's running containers."""
        return self.compose("ps", "--format", "{{.Name}}", service).split()

    def record(self, interval: str) -> dict[str, Any]:
        """What the store says of a landed interval."""
        code = f"from tasks.settings.environment import store; print(store().read('landed/{interval}.json').decode())"
        return dict(json.loads(self.compose("exec", "--no-TTY", "scheduler", "python", "-c", code)))

    def answered(self) -> dict[str, int]:
        """How many predictions each replica has answered."""
        found = {}
        for replica in ("online-1", "online-2"):
            code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())"
            text = self.compose("exec", "--no-TTY", replica, "python", "-c", code)
            lines = [
                line for line in text.splitlines() if line.startswith('airloop_online_requests_total{status="200"}')
            ]
            found[replica] = int(float(lines[0].split()[1])) if lines else 0
        return found

    def ask(self, count: int) -> Counter[int]:
        """Send predictions through the proxy, one after the other; returns how many answers had which status."""
        with httpx.Client(base_url=self.url("ONLINE"), timeout=30) as client:
            return Counter(client.post("/models/flights/predict", json=FLIGHT).status_code for _ in range(count))

    def balance(self, balance: str) -> None:
        """Change how the proxy spreads requests, as docs/containers.md says."""
        assert self.compose("exec", "--no-TTY", "proxy", "balance", balance) == f"balance: {balance}\n"

    def ids(self) -> dict[str, str]:
        """Container by service, of those that run."""
        listed = [json.loads(line) for line in self.compose("ps", "--format", "json").splitlines()]
        return {entry["Service"]: entry["ID"] for entry in listed}

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers at this moment; fails with its reason."""
        answer = httpx.get(f"{self.url('PROMETHEUS')}/api/v1/query", params={"query": expression}, timeout=30).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return list(answer["data"]["result"])

    def until(self, what: str, holds: Any, seconds: float = 120) -> Any:
        """Wait until ``holds()`` is truthy; returns it."""
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
            time.sleep(2)
        return found

    def left(self) -> dict[str, list[str]]:
        """What of the project the engine still has."""
        label = f"label=com.docker.compose.project={PROJECT}"
        return {
            "containers": self.docker("ps", "--all", "--quiet", "--filter", label).split(),
            "volumes": self.docker("volume", "ls", "--quiet", "--filter", label).split(),
            "networks": self.docker("network", "ls", "--quiet", "--filter", label).split(),
        }

    def mounted(self) -> set[str]:
        """Names of all volumes that its containers have, also those that compose gave no label."""
        containers = self.compose("--profile", "*", "ps", "--all", "--quiet").split()
        form = '{{range .Mounts}}{{if eq .Type "volume"}}{{println .Name}}{{end}}{{end}}'
        return set(self.docker("inspect", "--format", form, *containers).split())

    def states(self) -> dict[str, str]:
        """Health, or state where it has none, by service."""
        listed = [json.loads(line) for line in self.compose("ps", "--all", "--format", "json").splitlines()]
        return {entry["Service"]: entry["Health"] or entry["State"] for entry in listed}


def copy_checkout(target: Path) -> Path:
    """The files that git has or would take, as a clone under umask 077 would have them: no .env, no data."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), listed):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    for path in (target, *target.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    return target


def client_with_proxies(folder: Path) -> Path:
    """A folder for DOCKER_CONFIG: this client's settings, and a proxy for all containers that nobody reaches anything by."""
    own = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    folder.mkdir()
    for entry in own.iterdir() if own.is_dir() else ():
        if entry.name != "config.json":
            (folder / entry.name).symlink_to(entry)
    kept = json.loads((own / "config.json").read_text()) if (own / "config.json").exists() else {}
    nowhere = dict.fromkeys(("httpProxy", "httpsProxy"), "http://127.0.0.1:9")
    (folder / "config.json").write_text(json.dumps(kept | {"proxies": {"default": nowhere}}))
    return folder


def environment() -> dict[str, str]:
    """This process's, without what it says of another Airloop but with its images, and a project and tag of our own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRLOOP_", "AIRFLOW", "COMPOSE_")) or name.endswith("_IMAGE")
        or name in {"AIRLOOP_SOURCE", "AIRLOOP_BUILD_CA"}
    }  # fmt: skip
    return {**kept, "COMPOSE_PROJECT_NAME": PROJECT, "AIRLOOP_IMAGE_TAG": "test"}
