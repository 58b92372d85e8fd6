"""The image's own small scripts, and the one that makes .env."""

import base64
import json
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from local.paths import ROOT

BODY = {"scheduler": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}, "dag_processor": {"status": None}}
AWAY = {"store": "Connection refused"}
ANSWERS = {
    "/health": (200, "application/json", BODY),
    "/loaded": (200, "application/json", {"ready": True, "models": {"a": {"problems": {}}}}),
    "/no-model-yet": (503, "application/json", {"ready": False, "models": {"a": {"problems": {}}}}),
    "/no-store": (503, "application/json", {"ready": False, "models": {"a": {"problems": AWAY}}}),
    "/stale": (200, "application/json", {"ready": True, "models": {"a": {"problems": AWAY}, "b": {"problems": AWAY}}}),
    "/one-away": (200, "application/json", {"ready": True, "models": {"a": {"problems": AWAY}, "b": {"problems": {}}}}),
    "/no-replica": (503, "application/json", {"error": "no replica answers", "problems": []}),
    "/s3/airloop?list-type=2&max-keys=1": (403, "application/xml", {}),
    "/squid/airloop?list-type=2&max-keys=1": (403, "text/html", {}),
    "/ill/airloop?list-type=2&max-keys=1": (503, "application/xml", {}),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, kind, body = ANSWERS.get(self.path, (404, "text/plain", {}))
        self.send_response(status)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_a_service_that_answers_is_well(health, server):
    assert health.problem(f"{server}/health") is None
    assert health.problem(f"{server}/health#scheduler") is None


@pytest.mark.parametrize("part", ["triggerer", "dag_processor", "worker"])
def test_a_part_that_is_not_healthy_or_not_there_is_not_well(health, server, part):
    assert part in health.problem(f"{server}/health#{part}")


def test_an_error_answer_and_a_closed_port_are_not_well(health, server):
    assert "404" in health.problem(f"{server}/elsewhere")
    assert health.problem("http://127.0.0.1:9/health")


@pytest.mark.parametrize(
    ("path", "says"),
    [("loaded", None), ("no-model-yet", None), ("no-store", "refused"), ("stale", "refused"), ("one-away", None),
     ("no-replica", "no replica answers"), ("health", "models"), ("elsewhere", "404")],
)  # fmt: skip
def test_a_replica_is_well_that_reads_its_store(health, server, path, says):
    found = health.problem(f"replica={server}/{path}")
    assert found is None if says is None else says in found


@pytest.mark.parametrize(
    ("path", "says"), [("s3", None), ("s3/", None), ("squid", "NO_PROXY"), ("ill", "503"), ("away", "404")]
)
def test_the_store_is_well_where_an_s3_answers(health, server, monkeypatch, path, says):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{server}/{path}")
    found = health.problem("store")
    assert found is None if says is None else says in found


def test_without_an_address_the_store_is_not_well(health, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert "AWS_ENDPOINT_URL" in health.problem("store")


def test_a_neighbour_is_asked_the_way_that_the_service_would(health, server, monkeypatch):
    """A proxy that takes the stack's names makes the stack unwell; this container's own address never goes there."""
    for variable in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    assert health.problem(f"{server}/health") is None
    found = health.problem("http://api-server.invalid:8080/health")
    assert "by the proxy http://127.0.0.1:9" in found and "refused" in found
    monkeypatch.setenv("no_proxy", "api-server.invalid")
    assert "proxy" not in health.problem("http://api-server.invalid:8080/health")


def test_the_exit_code_says_it_and_the_start_is_light(server):
    command = [sys.executable, "-IS", str(ROOT / "docker/health.py")]
    assert subprocess.run([*command, f"{server}/health#scheduler", f"{server}/health"], check=False).returncode == 0
    done = subprocess.run(
        [*command, f"{server}/health", f"{server}/health#triggerer"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "triggerer: unhealthy" in done.stderr


def test_make_env_adds_what_is_missing_and_keeps_the_rest(make_env, tmp_path):
    file = tmp_path / ".env"
    file.write_text("# mine\nAIRLOOP_MLFLOW_PORT=5001\nexport AIRLOOP_ADMIN_PASSWORD='kept'\nAIRLOOP_JWT_SECRET=")
    added = make_env.extend(file)
    assert set(added) == set(make_env.SECRETS) - {"AIRLOOP_ADMIN_PASSWORD"}
    text = file.read_text()
    assert text.startswith(
        "# mine\nAIRLOOP_MLFLOW_PORT=5001\nexport AIRLOOP_ADMIN_PASSWORD='kept'\nAIRLOOP_JWT_SECRET=\n"
    )
    assert make_env.missing(text) == []
    assert make_env.extend(file) == [] and file.read_text() == text


def test_only_the_owner_can_read_it(make_env, tmp_path):
    file = tmp_path / ".env"
    file.write_text("")
    file.chmod(0o644)
    make_env.extend(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_values_are_random_and_fit_into_an_address(make_env):
    for name in make_env.SECRETS:
        one, other = make_env.new(name), make_env.new(name)
        assert one != other and len(one) >= 16
        # Airflow signs its tokens with HS512, whose keys have 64 bytes or more (RFC 7518, 3.2).
        assert len(one) >= 64 or name not in ("AIRLOOP_JWT_SECRET", "AIRLOOP_SECRET_KEY")
        assert set(one.removesuffix("=")) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert len(base64.urlsafe_b64decode(make_env.new("AIRLOOP_FERNET_KEY"))) == 32


def test_make_env_never_shows_a_value(tmp_path):
    file = tmp_path / ".env"
    done = subprocess.run(
        [sys.executable, str(ROOT / "docker/make_env.py"), "--file", str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    values = [line.split("=", 1)[1] for line in file.read_text().splitlines() if "=" in line]
    assert "AIRLOOP_FERNET_KEY" in done.stdout and not any(value in done.stdout for value in values)


def test_make_env_says_which_kept_secret_is_too_short(tmp_path):
    file = tmp_path / ".env"
    file.write_text(f"AIRLOOP_JWT_SECRET={'k' * 43}\n")
    command = [sys.executable, str(ROOT / "docker/make_env.py"), "--file", str(file)]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert all("AIRLOOP_JWT_SECRET has fewer than 64" in text and "k" * 43 not in text for text in said)
    file.write_text(file.read_text().partition("\n")[2])
    assert "fewer" not in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_login_is_written_for_its_owner_only_and_replaced(init, tmp_path):
    file = tmp_path / "passwords.json"
    init.write_login(file, "first")
    init.write_login(file, 'a "quoted" one')
    assert json.loads(file.read_text()) == {"admin": 'a "quoted" one'}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_without_a_password_nothing_starts(init, monkeypatch, tmp_path):
    monkeypatch.setenv(init.PASSWORDS_FILE, str(tmp_path / "passwords.json"))
    monkeypatch.setenv("AIRLOOP_ADMIN_PASSWORD", "")
    with pytest.raises(SystemExit, match=r"make_env\.py"):
        init.main()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def entrypoint(script):
    return script("docker/spark_entrypoint.py")


POD = {
    "JAVA_HOME": "/opt/java",
    "SPARK_HOME": "/opt/spark",
    "SPARK_CONF_DIR": "/opt/spark/conf",
    "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@driver:7078",
    "SPARK_EXECUTOR_ID": "3",
    "SPARK_EXECUTOR_CORES": "2",
    "SPARK_EXECUTOR_MEMORY": "1024m",
    "SPARK_EXECUTOR_POD_IP": "10.0.0.7",
    "SPARK_EXECUTOR_POD_NAME": "features-exec-3",
    "SPARK_APPLICATION_ID": "spark-1",
    "SPARK_RESOURCE_PROFILE_ID": "0",
    "SPARK_DRIVER_BIND_ADDRESS": "10.0.0.6",
    **{f"SPARK_JAVA_OPT_{number}": f"-Dnumber={number}" for number in (10, 2, 0)},
}
"""What Spark sets in the pods that it starts."""


def test_spark_as_an_executor_registers_with_its_driver(entrypoint):
    words = entrypoint.command(["executor"], POD)
    java = words[: words.index("-cp")]
    assert java == ["/opt/java/bin/java", *(f"-Dnumber={n}" for n in (0, 2, 10)), "-Xms1024m", "-Xmx1024m"]
    assert words[len(java) + 1] == "/opt/spark/conf:/opt/spark/jars/*"
    backend, *told = words[len(java) + 2 :]
    assert backend.endswith(".k8s.KubernetesExecutorBackend")
    assert dict(zip(told[::2], told[1::2], strict=True)) == {
        "--driver-url": POD["SPARK_DRIVER_URL"], "--executor-id": "3", "--cores": "2", "--app-id": "spark-1",
        "--hostname": "10.0.0.7", "--resourceProfileId": "0", "--podName": "features-exec-3",
    }  # fmt: skip


def test_spark_as_a_driver_submits_in_its_own_pod(entrypoint):
    words = entrypoint.command(
        ["driver", "--properties-file", "/opt/spark/conf/spark.properties", "local:///a.py"], POD
    )
    assert words[0] == "/opt/spark/bin/spark-submit"
    assert "spark.driver.bindAddress=10.0.0.6" in words
    assert words[-5:] == [
        "--deploy-mode",
        "client",
        "--properties-file",
        "/opt/spark/conf/spark.properties",
        "local:///a.py",
    ]


def test_spark_without_its_variables_says_which_is_missing():
    command = [sys.executable, "-IS", str(ROOT / "docker/spark_entrypoint.py"), "executor"]
    done = subprocess.run(command, env={"JAVA_HOME": "/x"}, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "SPARK_EXECUTOR_MEMORY" in done.stderr


def test_another_command_in_sparks_image_runs_as_it_is():
    command = [sys.executable, "-IS", str(ROOT / "docker/spark_entrypoint.py"), "sh", "-c", "echo $0 $1; exit 7", "a b"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "a b\n")


def test_a_build_passes_on_what_the_environment_says_and_no_secret(script):
    build = script("docker/build.py")
    environ = {"AIRLOOP_IMAGE_PREFIX": "registry.example/team/", "AIRLOOP_IMAGE_TAG": "7", "AIRLOOP_PYTHON_IMAGE": "base:1",
               "AIRLOOP_BUILD_CA": "/ca.pem", "UV_DEFAULT_INDEX": "https://index.example", "XGBOOST": "gpu", "TORCH": "cu128", "JAVA_PACKAGE": "",
               "AWS_SECRET_ACCESS_KEY": "s3cret"}  # fmt: skip
    words = build.command("train", "abc", environ)
    assert words[words.index("--tag") + 1] == "registry.example/team/airloop-train:7"
    arguments = {words[i + 1] for i, word in enumerate(words) if word == "--build-arg"}
    assert arguments == {
        "AIRLOOP_CODE_REVISION=abc",
        "PYTHON_IMAGE=base:1",
        "UV_DEFAULT_INDEX=https://index.example",
        "XGBOOST=gpu",
        "TORCH=cu128",
    }
    assert words[words.index("--secret") + 1] == "id=ca,src=/ca.pem"
    assert "s3cret" not in " ".join(words)
    assert not any("XGBOOST" in word for word in build.command("serve", "abc", environ)), "only train has that argument"


def test_an_image_has_the_name_that_pods_and_compose_use(script):
    assert script("docker/build.py").name("serve", {"AIRLOOP_IMAGE_TAG": ""}) == "airloop-serve:local"
