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

from local import env, ports, question
from local.errors import LocalError
from local.paths import ROOT, home_from, is_demo
from local.place import PORTS, Place
from tasks.settings.environment import environment

PROJECT = "airloop"
"""As docker-compose.yaml names itself."""
CODE = "/opt/airloop"
"""The checkout in the images."""
WITHIN = {"AIRLOOP_AIRFLOW_URL": "http://api-server:8080", "AIRLOOP_DEMO_ONLINE_URL": "http://proxy:8000"}
"""Where the demo finds the stack from inside."""
RESULT = "/var/lib/airloop/demo.json"
SOURCE = "/var/lib/airloop-source.tar.gz"
OLDEST = {"compose": (2, 24), "engine": (25, 0)}
"""First versions that know a health check's start_interval; older ones refuse the file or wait for minutes."""
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
    _check_project()
    _secrets()
    wanted = services(without)
    compose("build", *wanted, extra=_revision())  # by itself, for `up` counts it among the seconds to wait
    try:
        compose("up", "--wait", "--wait-timeout", SECONDS_FOR_UP, *wanted, extra=_revision())
    except LocalError as error:
        raise LocalError("\n".join([str(error), *unwell()])) from None


def unwell() -> list[str]:
    """A line for each service that is not well: what its health check said last, or how it ended."""
    rows = [json.loads(row) for row in compose("ps", "--all", "--format", "json", capture=True).splitlines()]
    return [
        f"{row['Service']}: {_said(row)}"
        for row in rows
        if row["Health"] in ("starting", "unhealthy") or row["ExitCode"]
    ]


def _said(row: Mapping[str, Any]) -> str:
    if row["State"] != "running":
        return f"it ended with exit code {row['ExitCode']}; `docker compose logs {row['Service']}` says why"
    form = "{{range .State.Health.Log}}{{json .Output}}{{println}}{{end}}"
    outputs = _run(["docker", "inspect", "--format", form, row["ID"]], capture=True).split("\n")
    last = next((json.loads(output).strip() for output in reversed(outputs) if output.strip()), "")
    return last or f"its health check has not ended; see `docker compose logs {row['Service']}`"


def services(without: Sequence[str] = ()) -> list[str]:
    """The services of the chosen profiles but for ``without``; LocalError where one of those is not among them."""
    found = compose("config", "--services", capture=True).split()
    if unknown := set(without) - set(found):
        raise LocalError(
            f"--without {' '.join(sorted(unknown))} is no service; use some of {', '.join(sorted(found))}."
        )
    return sorted(set(found) - set(without))


def down() -> None:
    """Take away containers and network of every profile; the data stay in their volumes."""
    _check_engine()
    _check_project()
    _secrets()  # compose reads the whole file, also to end it
    scratch = _scratch()
    compose("--profile", "*", "down", "--remove-orphans")
    if scratch:
        subprocess.run(["docker", "volume", "rm", *scratch], capture_output=True, check=False)  # most went with `down`


def delete(*, sure: bool, again: str = "airloop delete --place compose") -> None:
    """As ``down``, and delete all volumes too; ask first unless ``sure``.

    Raises:
        LocalError: there is no engine, or no terminal to ask at.
    """
    _check_engine()
    _check_project()
    found = volumes()
    if not sure and not question.confirmed(
        [f"Docker's volumes of the project {project()}:", *(f"  {v}" for v in found)], again
    ):
        print("Nothing was deleted.")
        return
    down()
    if found:
        _run(["docker", "volume", "rm", "--force", *found], capture=True)
    print(f"Deleted {len(found)} volumes of the project {project()}.")


def volumes() -> list[str]:
    """Names of the project's volumes."""
    label = f"label=com.docker.compose.project={project()}"
    return _run(["docker", "volume", "ls", "--quiet", "--filter", label], capture=True).split()


def settings() -> dict[str, str]:
    """Docker compose's project and the published ports; the demo has a project and ports of its own."""
    variables = env.said()
    name = variables.get("COMPOSE_PROJECT_NAME") or PROJECT
    published = ports.usual(variables, {**PORTS, "AIRLOOP_PROMETHEUS_PORT": 9090, "AIRLOOP_GRAFANA_PORT": 3000})
    return {
        "COMPOSE_PROJECT_NAME": f"{name}-demo" if is_demo(variables) else name,
        **{variable: str(port) for variable, port in published.items()},
    }


def project() -> str:
    """The name that containers and volumes of this stack begin with."""
    return settings()["COMPOSE_PROJECT_NAME"]


def place() -> Place:
    """Where a browser on this machine finds the services."""
    published = settings()
    airflow, mlflow, online = (int(published[name]) for name in PORTS)
    return Place(home_from(env.said()), ROOT, airflow, mlflow, online)


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
        through: last interval to land.
        source: the example's data on this machine.

    Raises:
        LocalError: with what the demo says of why it stopped.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _play(through, *_readable(Path(folder), ROOT / "local", source.resolve()))


def _readable(folder: Path, *sources: Path) -> list[Path]:
    """Copies that the container's user can read, whatever the umask of the originals."""
    copies = []
    for source in sources:
        copy = folder / source.name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, copy)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        copies.append(copy)
    return copies


def _play(through: str, code: Path, source: Path) -> dict[str, Any]:
    name = f"airloop-demo-{os.getpid()}"
    options = [
        "run", "--name", name, *([] if sys.stdout.isatty() else ["--no-TTY"]),
        "--volume", f"{code}:{CODE}/local:ro", "--volume", f"{source}:{SOURCE}:ro",
        *(word for variable in (*WITHIN, "AIRLOOP_ADMIN_PASSWORD", "AIRLOOP_MODEL", "AIRLOOP_SOURCE") for word in ("--env", variable)),
    ]  # fmt: skip
    extra = {
        **WITHIN,
        "AIRLOOP_ADMIN_PASSWORD": password(),
        "AIRLOOP_MODEL": environment().model,
        "AIRLOOP_SOURCE": SOURCE,
    }
    try:
        compose(*options, "airflow-cli", "python", "-m", "local.demo", through, RESULT, extra=extra)  # fmt: skip
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
        return dict(json.loads(target.read_text(encoding="utf-8")))


def _revision() -> dict[str, str]:
    """The checkout's commit for the images' label and each model's record, unless somebody said it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = env.said().get("AIRLOOP_CODE_REVISION") or done.stdout.strip()
    return {"AIRLOOP_CODE_REVISION": found} if found else {}


def _secrets() -> None:
    """Make what .env lacks."""
    _run([sys.executable, str(ROOT / "docker/make_env.py")])


def _check_project() -> None:
    """LocalError where another checkout has a stack of this project's name: compose would take its containers for ours."""
    listed = _run(["docker", "compose", "ls", "--all", "--format", "json"], capture=True)
    for stack in json.loads(listed or "[]"):
        files = [Path(file) for file in str(stack.get("ConfigFiles", "")).split(",")]
        others = [file for file in files if file.is_absolute() and file.resolve().parent != ROOT]
        if stack.get("Name") == project() and others:
            raise LocalError(
                f"The project {project()} is the stack of {others[0].parent}; set COMPOSE_PROJECT_NAME and the AIRLOOP_*_PORT "
                "in .env, so that this checkout has its own."
            )


def _check_engine() -> None:
    if shutil.which("docker") is None:
        raise LocalError("There is no docker command here; install Docker with its compose plugin, 2.24 or later.")
    found = {}
    for what, words, reason in (
        ("compose", ["compose", "version", "--short"], "This docker command has no compose plugin; install it (2.24 or later)."),
        ("engine", ["version", "--format", "{{.Server.Version}}"], "No docker engine answers; start it, or name it by DOCKER_HOST."),
    ):  # fmt: skip
        done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise LocalError(reason)
        found[what] = done.stdout.strip()
    for what, least in OLDEST.items():
        if (version := _version(found[what])) and version < least:
            needed = ".".join(map(str, least))
            raise LocalError(
                f"Docker's {what} is {found[what]}; docker-compose.yaml needs {needed} or later. Update it."
            )


def _version(text: str) -> tuple[int, ...]:
    """Major and minor number; empty where the text has none, as of an engine that is not Docker's."""
    numbers = re.match(r"v?(\d+)\.(\d+)", text)
    return tuple(map(int, numbers.groups())) if numbers else ()


def _run(words: Sequence[str], *, extra: Mapping[str, str] | None = None, capture: bool = False) -> str:
    pipe = subprocess.PIPE if capture else None
    done = subprocess.run(words, env={**os.environ, **settings(), **(extra or {})}, stdout=pipe, text=True, check=False)
    if done.returncode:
        raise LocalError(f"This failed, see above: {' '.join(words)}")
    return done.stdout or ""
