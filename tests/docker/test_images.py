"""The images for real: built, weighed, looked into, and run with a read-only root. Only where AIRLOOP_TEST_IMAGES=1 and an engine answers."""

import json
import os
import subprocess
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from local.paths import ROOT
from tasks.modelling.model import load
from tasks.storage.artefacts import sha256
from tests.docker.roles import ROLES
from tests.makers import Workspace

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.environ.get("AIRLOOP_TEST_IMAGES") != "1", reason="set AIRLOOP_TEST_IMAGES=1 to build the images (minutes)"
    ),
]
OWNER = "uid=10001,gid=10001"
LOCKED = [
    "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
    # As a pod's volumes: Spark's libraries are unpacked to /tmp and run there, which a tmpfs forbids unless told.
    "--tmpfs=/tmp:exec", f"--tmpfs=/scratch:{OWNER}", f"--tmpfs=/var/lib/airloop:{OWNER}",
]  # fmt: skip
TOOLS = ("gcc", "cc", "g++", "c++", "cpp", "ld", "as", "make", "cmake", "uv", "conda", "pip", "pip3", "easy_install")
# Paths in these are the container's own: its temporary folder, a tmpfs that ends with it.
SERVERS = {
    "serve": [],
    "mlflow": [
        "--env=MLFLOW_BACKEND_STORE_URI=sqlite:////tmp/mlflow.db",
        "--env=MLFLOW_ARTIFACTS_DESTINATION=/scratch/artifacts",
    ],
    "airflow": [
        f"--tmpfs=/var/lib/airflow:{OWNER}",
        "--env=AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite:////tmp/airflow.db",
        "--env=AIRFLOW__CORE__AUTH_MANAGER=airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "--env=AIRFLOW__API__WORKERS=1",
    ],
}
"""What a server needs to start alone, beside the image's own command."""
PREDICT = """
import pyarrow.parquet as pq
from pathlib import Path
from tasks.score import predict
model = tuple(Path("model", name).read_bytes() for name in ("model.onnx", "contract.json"))
interval = "2013-01"
found = predict(interval, Path(f"data/features/{interval}.parquet"), {1: (*model, Path("digest").read_text())})
pq.write_table(found[1], "predictions.parquet")
"""


def docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(words)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(script):
    """Builds a role's image, once, under a tag of the tests' own; returns its name."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no docker engine answers")
    build = script("docker/build.py")
    environ = os.environ | {"AIRLOOP_IMAGE_TAG": "test"}
    built = set()

    def image(role: str) -> str:
        if role not in built:
            assert subprocess.run(build.command(role, "of-the-tests", environ), cwd=ROOT, check=False).returncode == 0
            built.add(role)
        return build.name(role, environ)

    yield image
    for role in built:
        docker("image", "rm", build.name(role, environ), check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Workspace:
    """A run's folder of made features, which the image's user may write to."""
    return Workspace(tmp_path_factory.mktemp("run"), rows_a_day=40)


def stage(name: str, workspace: Workspace, *command: str) -> None:
    """Run a command in the workspace, as a pod would."""
    for path in (workspace.root, *workspace.root.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    docker("run", "--rm", *LOCKED, f"--volume={workspace.root}:/work", "--workdir=/work", name, *command)


@pytest.mark.parametrize("role", ROLES)
def test_it_is_no_larger_than_stated(image, script, role):
    assert script("docker/build.py").size(image(role)) / 1e6 <= ROLES[role]["limit_mb"], "see what grew: docker history"


@pytest.mark.parametrize("role", ROLES)
def test_it_says_which_code_it_is_and_runs_as_nobody_special(image, role):
    config = json.loads(docker("image", "inspect", image(role)))[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.revision"] == "of-the-tests"
    assert "AIRLOOP_CODE_REVISION=of-the-tests" in config["Env"]


@pytest.mark.parametrize("role", ROLES)
def test_no_compiler_and_no_installer_is_left_inside(image, role):
    look = f"id -u; for tool in {' '.join(TOOLS)}; do command -v $tool; done; python3 -m pip --version; exit 0"
    found = docker("run", "--rm", *LOCKED, "--entrypoint=sh", image(role), "-c", look).splitlines()
    assert found[0] == "10001"
    allowed = {"/opt/venv/bin/pip", "/opt/venv/bin/pip3"} if role == "airflow" else set()  # landing's
    assert {line for line in found[1:] if not line.startswith("pip ")} <= allowed
    assert role == "airflow" or found[1:] == []


def test_images_share_the_layers_below_their_packages(image):
    def layers(role):
        return json.loads(docker("image", "inspect", image(role)))[0]["RootFS"]["Layers"]

    for one, other in (("airflow", "spark"), ("train", "serve"), ("train", "mlflow")):
        shared = [a for a, b in zip(layers(one), layers(other), strict=False) if a == b]
        base = json.loads(docker("image", "inspect", "python:3.11-slim-bookworm"))[0]["RootFS"]["Layers"]
        assert len(shared) > len(base), f"{one} and {other}: their first RUN must be the same"


@pytest.mark.slow
@pytest.mark.parametrize("role", SERVERS)
def test_a_server_becomes_healthy_with_a_read_only_root(image, role):
    command = ["sh", "-c", "airflow db migrate && exec airflow api-server"] if role == "airflow" else []
    server = docker(
        "run", "--detach", *LOCKED, *SERVERS[role], "--health-interval=2s", "--health-start-period=180s", image(role), *command
    )  # fmt: skip
    try:
        states = [state(server)]
        end = time.monotonic() + 600  # a cold start with every core busy
        while states[-1] == "running starting" and time.monotonic() < end:
            time.sleep(2)
            states.append(state(server))
        assert states[-1] == "running healthy", logs(server)
    finally:
        docker("rm", "--force", server, check=False)


@pytest.mark.slow
def test_the_dag_processor_parses_every_dag_with_a_read_only_root(image):
    script = "airflow db migrate && airflow dag-processor --num-runs=1 && airflow dags list --output=json"
    said = docker("run", "--rm", *LOCKED, *SERVERS["airflow"], image("airflow"), "sh", "-c", script)
    assert {dag["dag_id"] for dag in json.loads(said.splitlines()[-1])} >= {
        "flights.ingest",
        "flights.train",
        "flights.deploy",
        "flights.score",
        "flights.monitor",
    }


def logs(container: str) -> str:
    done = subprocess.run(
        ["docker", "logs", "--tail=60", container],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def state(container: str) -> str:
    return docker("inspect", "--format={{.State.Status}} {{.State.Health.Status}}", container)


@pytest.mark.slow
def test_the_model_stages_give_the_bytes_that_they_give_here(image, made, tmp_path):
    twin = made.copy(tmp_path / "twin")
    digest = twin.golden()
    twin.train()
    made.raw["golden"]["digest"] = digest
    made.save()
    for name in ("golden", "train", "resolve", "evaluate", "gate"):
        stage(image("train"), made, "python", f"/opt/airloop/tasks/{name}.py")
    for name in ("golden/golden.json", "model/model.onnx", "model/contract.json"):
        assert (made.root / name).read_bytes() == (twin.root / name).read_bytes(), name
    assert json.loads((made.root / "gate/gate.json").read_text())["failures"] is not None


@pytest.mark.slow
def test_spark_scores_as_onnx_runtime_does_here(image, made):
    trained = made.train()
    (made.root / "digest").write_text(sha256(trained.onnx))
    stage(image("spark"), made, "python", "-c", PREDICT)
    model = load(trained.onnx, (made.root / "model/contract.json").read_bytes(), sha256(trained.onnx))
    expected = np.asarray(model.predict(model.contract.encode(made.interval("2013-01"))), dtype=np.float32)
    assert pq.read_table(made.root / "predictions.parquet")["probability"].to_pylist() == expected.tolist()


@pytest.mark.slow
def test_spark_reads_sorts_and_writes_with_the_jars_that_are_left(image, made):
    stage(image("spark"), made, "python", "-m", "tasks.engines.spark")
    said = docker("run", "--rm", *LOCKED, image("spark"), "spark-submit", "--version")
    assert said == ""  # on stderr
    docker(
        "run",
        "--rm",
        *LOCKED,
        "--entrypoint=sh",
        image("spark"),
        "-c",
        "test -e /opt/spark/jars/spark-kubernetes_*.jar",
    )
