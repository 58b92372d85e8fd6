"""The compose file as data, the scripts of docker/, and the docker command where there is one."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from local.paths import ROOT

PORTS = {"AIRLOOP_AIRFLOW_PORT": "18080", "AIRLOOP_MLFLOW_PORT": "15000", "AIRLOOP_ONLINE_PORT": "18000"}
"""Ports of the tests' stack, so that it can stand beside another."""


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Loads a Python file by its path. docker/'s scripts stand alone, and `docker` is also a package of the index."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"loaded_{Path(path).stem}", ROOT / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def health(script) -> ModuleType:
    return script("docker/health.py")


@pytest.fixture(scope="session")
def init(script) -> ModuleType:
    return script("docker/init.py")


@pytest.fixture(scope="session")
def make_env(script) -> ModuleType:
    return script("docker/make_env.py")


@pytest.fixture(scope="session")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yaml").read_text())


@pytest.fixture(scope="session")
def services(compose) -> dict:
    return compose["services"]


@pytest.fixture(scope="session")
def docker_compose() -> list[str]:
    """The command up to its own options; skips where there is no docker or it has no compose."""
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker command here")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("this docker command has no compose plugin")
    return [docker, "compose", "--project-directory", str(ROOT), "--file", str(ROOT / "docker-compose.yaml")]


@pytest.fixture(scope="session")
def new_env_file(tmp_path_factory, make_env) -> Path:
    """A .env as docker/make_env.py makes it, with ports of the tests' own."""
    file = tmp_path_factory.mktemp("compose") / "env"
    file.write_text("".join(f"{name}={port}\n" for name, port in PORTS.items()))
    make_env.extend(file)
    return file


@pytest.fixture
def env_file(tmp_path, new_env_file) -> Path:
    """A copy of it, to be changed."""
    return shutil.copy(new_env_file, tmp_path / "env")
