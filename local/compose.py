"""The place `compose`: docker-compose.yaml started, played on and taken down by docker's own command; docs/containers.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local import env
from local.errors import LocalError
from local.paths import ROOT

CODE = "/opt/airloop"
"""The checkout in the images."""
WITHIN = {"AIRLOOP_AIRFLOW_URL": "http://api-server:8080", "AIRLOOP_DEMO_ONLINE_URL": "http://proxy:8000"}
"""Where the demo finds the stack from inside."""
RESULT = "/var/lib/airloop/demo.json"
SOURCE = "/var/lib/airloop-source.tar.gz"
SECONDS_FOR_UP = "1800"
"""Two to three minutes on a busy laptop; what does not get well says so by its health check long before."""


def up(without: Sequence[str] = ()) -> None:
    """Make .env's secrets where they lack, build the images, and return when every service is well.

    Args:
        without: services to leave out, as those whose image cannot be had: ``grafana``.

    Raises:
        LocalError: there is no docker compose or engine, a service is unknown, or one did not get well.
    """
    _check_engine()
    _run([sys.executable, str(ROOT / "docker/make_env.py")])
    wanted = services(without)
    compose("build", *wanted, extra=_revision())  # by itself, for `up` counts it among the seconds to wait
    compose("up", "--wait", "--wait-timeout", SECONDS_FOR_UP, *wanted, extra=_revision())


def services(without: Sequence[str] = ()) -> list[str]:
    """The services of the chosen profiles but for ``without``; LocalError where one of those is not among them."""
    found = compose("config", "--services", capture=True).split()
    if unknown := set(without) - set(found):
        raise LocalError(f"WITHOUT={' '.join(sorted(unknown))} is no service; use some of {', '.join(sorted(found))}.")
    return sorted(set(found) - set(without))


def down(*, keep: bool = False) -> None:
    """Take away containers and network of every profile, and all volumes too unless ``keep``."""
    _check_engine()
    _run([sys.executable, str(ROOT / "docker/make_env.py")])  # compose reads the whole file, also to end it
    scratch = _scratch()
    compose("--profile", "*", "down", "--remove-orphans", *([] if keep else ["--volumes"]))
    if scratch:
        subprocess.run(["docker", "volume", "rm", *scratch], capture_output=True, check=False)  # most went with `down`


def _scratch() -> list[str]:
    """Volumes without a name that the containers have: compose hands them on to a new container, and forgets them then."""
    containers = compose("--profile", "*", "ps", "--all", "--quiet", capture=True).split()
    if not containers:
        return []
    form = '{{range .Mounts}}{{if eq .Type "volume"}}{{println .Name}}{{end}}{{end}}'
    mounted = _run(["docker", "inspect", "--format", form, *containers], capture=True).split()
    return [name for name in mounted if re.fullmatch(r"[0-9a-f]{64}", name)]


def play(through: str, source: Path) -> dict[str, Any]:
    """Play the demo in a container of the stack's network, where the S3 store is reached; returns its report.

    Args:
        through: last month to land.
        source: the example's data on this machine.

    Raises:
        LocalError: with what the demo says of why it stopped.
    """
    name = f"airloop-demo-{os.getpid()}"
    options = [
        "run", "--name", name, *([] if sys.stdout.isatty() else ["--no-TTY"]),
        "--volume", f"{ROOT / 'local'}:{CODE}/local:ro", "--volume", f"{source.resolve()}:{SOURCE}:ro",
        *(word for variable in (*WITHIN, "AIRLOOP_ADMIN_PASSWORD", "AIRLOOP_SOURCE") for word in ("--env", variable)),
    ]  # fmt: skip
    extra = {**WITHIN, "AIRLOOP_ADMIN_PASSWORD": password(), "AIRLOOP_SOURCE": SOURCE}
    try:
        compose(*options, "airflow-cli", "python", "-m", "local.demo", "--through", through, "--result", RESULT, extra=extra)  # fmt: skip
        return _copied(name)
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


def password() -> str:
    """The login of `admin`; LocalError where neither the environment nor .env has it."""
    try:
        return env.said()["AIRLOOP_ADMIN_PASSWORD"]
    except KeyError:
        raise LocalError("AIRLOOP_ADMIN_PASSWORD is not set; make it with `python3 docker/make_env.py`.") from None


def compose(*words: str, extra: Mapping[str, str] | None = None, capture: bool = False) -> str:
    """Run docker compose on this checkout's file; returns its output where ``capture``, else shows it. LocalError if it fails."""
    return _run(["docker", "compose", "--project-directory", str(ROOT), *words], extra=extra, capture=capture)


def _copied(container: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "demo.json")
        _run(["docker", "cp", f"{container}:{RESULT}", str(target)], capture=True)
        return dict(json.loads(target.read_text()))


def _revision() -> dict[str, str]:
    """The checkout's commit for the images' label and each model's record, unless somebody said it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = env.said().get("AIRLOOP_CODE_REVISION") or done.stdout.strip()
    return {"AIRLOOP_CODE_REVISION": found} if found else {}


def _check_engine() -> None:
    if shutil.which("docker") is None:
        raise LocalError("There is no docker command here; install Docker with its compose plugin, 2.24 or later.")
    for words, reason in (
        (["compose", "version"], "This docker command has no compose plugin; install it (2.24 or later)."),
        (["version"], "No docker engine answers; start it, or name it by DOCKER_HOST."),
    ):
        if subprocess.run(["docker", *words], capture_output=True, check=False).returncode:
            raise LocalError(reason)


def _run(words: Sequence[str], *, extra: Mapping[str, str] | None = None, capture: bool = False) -> str:
    pipe = subprocess.PIPE if capture else None
    done = subprocess.run(words, env={**os.environ, **(extra or {})}, stdout=pipe, text=True, check=False)
    if done.returncode:
        raise LocalError(f"This failed, see above: {' '.join(words)}")
    return done.stdout or ""
