"""House rules of docker-compose.yaml, read as data: no engine is needed."""

import json
import re
import subprocess
import sysconfig
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from urllib.request import proxy_bypass

import httpx
import pytest
import yaml

import local.services
from local.paths import ROOT

ONE_SHOT = {"airflow-init", "airflow-cli"}
AIRFLOW = {"airflow-init", "api-server", "scheduler", "worker", "dag-processor", "triggerer", "airflow-cli"}
STORES = {"postgres", "redis", "s3"}
WATCHING = {"prometheus", "grafana"}
OURS = ("airflow", "serve", "mlflow", "seaweedfs")
SETTLED = {
    "postgres": {"POSTGRES_IMAGE"},
    "proxy": {"PYTHON_IMAGE"},
    "prometheus": {"PROMETHEUS_IMAGE"},
    "grafana": {"GRAFANA_IMAGE"},
}
"""Images that are others' with files of ours, each with the argument that names its base."""
SCRATCH = {"/var/lib/airloop", "/tmp"}
"""Each container's own, made anew with it."""
PUBLISHED = {"api-server", "mlflow", "proxy", *WATCHING}
REQUIRED = re.compile(r"\$\{(\w+):\?")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|FERNET|_KEY\b")


def lasting(services):
    return {name: service for name, service in services.items() if name not in ONE_SHOT}


def test_the_services_of_the_loop_are_there(services):
    assert set(services) == {"mlflow", "online-1", "online-2", "proxy", *AIRFLOW, *STORES, *WATCHING}


def test_every_lasting_service_has_a_healthcheck_with_time_to_start(services):
    for name, service in lasting(services).items():
        check = service.get("healthcheck", {})
        assert check.get("test"), f"{name}: give it a healthcheck, or list it in ONE_SHOT if it ends by itself"
        assert {"interval", "timeout", "retries", "start_period"} <= set(check), (
            f"{name}: merge *health into its healthcheck"
        )


def test_what_runs_once_is_neither_checked_nor_restarted(services):
    for name in ONE_SHOT:
        assert services[name]["restart"] == "no", f"{name}: it would run again and again"
        assert services[name]["healthcheck"] == {"disable": True}, f"{name}: the image's own check is for a server"


def test_every_lasting_service_comes_back_by_itself(services):
    assert {name for name, service in lasting(services).items() if service.get("restart") != "unless-stopped"} == set()


def test_no_name_of_the_stack_goes_through_a_proxy(services):
    """Docker's client puts its `proxies` into every container; names here, and loopback, are reached without one."""
    for name, service in services.items():
        for variable in ("NO_PROXY", "no_proxy"):  # libraries differ in which they read
            kept = service.get("environment", {}).get(variable, "").partition("$")[0].split(",")
            lacks = {*services, "localhost", "127.0.0.1", "::1"} - {*kept, *ONE_SHOT}
            assert not lacks, f"{name}: {variable} lacks {', '.join(sorted(lacks))}; merge *proxies"
            assert service["environment"][variable].endswith("${AIRLOOP_NO_PROXY:+,${AIRLOOP_NO_PROXY:-}}")


def test_a_neighbours_name_is_reached_past_the_clients_proxy(services, monkeypatch):
    """By what the libraries make of these variables, for every name that another service is called by."""
    for variable in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, "http://proxy.example:3128")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, services["scheduler"]["environment"][variable].partition("$")[0])
    with httpx.Client() as client:
        for name in set(services) - ONE_SHOT:
            url = f"http://{name}:8000/"
            assert proxy_bypass(name), f"urllib, and botocore by it, goes to {name} through the proxy"
            assert client._transport_for_url(httpx.URL(url)) is client._transport, f"httpx does for {name}"
        assert client._transport_for_url(httpx.URL("http://elsewhere.example/")) is not client._transport
    assert not proxy_bypass("elsewhere.example")


def test_every_service_has_a_memory_limit(services):
    assert {name for name, service in services.items() if "mem_limit" not in service} == set()


def test_every_dependency_has_a_condition_that_can_be_met(services):
    for name, service in services.items():
        assert name in STORES or service.get("depends_on"), f"{name}: say what it waits for"
        for other, wait in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert wait["condition"] == wanted, f"{name} waits for {other}: use {wanted}"


def test_only_pages_are_published_and_only_on_loopback(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == PUBLISHED
    for name, ports in published.items():
        for port in ports:
            assert re.fullmatch(r"127\.0\.0\.1:\$\{AIRLOOP_\w+_PORT:-\d+\}:\d+", port), (
                f"{name}: publish {port} on 127.0.0.1"
            )
    assert not any("network_mode" in service for service in services.values())


def test_every_secret_comes_from_the_environment_and_is_required(services):
    secrets = [
        (f"{name}.{variable}", str(value))
        for name, service in services.items()
        for variable, value in service.get("environment", {}).items()
        if SECRET.search(variable) and not variable.endswith("_FILE")
    ]
    assert len(secrets) > 10
    for name, value in secrets:
        assert REQUIRED.match(value), f"{name}: write it as ${{NAME:?how to make it}}"


def test_no_address_holds_a_password_in_clear():
    text = (ROOT / "docker-compose.yaml").read_text()
    assert re.findall(r"://[^\s:/@]+:(?!\$\{\w+:\?)[^\s@]*@", text) == []


def test_make_env_makes_exactly_the_secrets_that_are_required(make_env):
    assert set(REQUIRED.findall((ROOT / "docker-compose.yaml").read_text())) == set(make_env.SECRETS)


def test_every_setting_is_explained(make_env):
    text = (ROOT / "docker-compose.yaml").read_text()
    settings = set(re.findall(r"\$\{(AIRLOOP_\w+)", text)) - set(make_env.SECRETS)
    told = (ROOT / "docs/containers.md").read_text()
    told += "".join(f"AIRLOOP_S3_{end}" for end in ("BUCKET", "KEY_ID", "REGION") if f"`_{end}`" in told)
    assert [name for name in sorted(settings) if name not in told] == []


def test_images_are_pinned_and_each_of_ours_is_built_once(services):
    built = Counter()
    for name, service in services.items():
        image = default(service["image"])
        assert re.search(r":[\w.-]+$", image) and not image.endswith(":latest"), f"{name}: pin {image} to a version"
        if image.startswith("airloop-"):
            built[image] += "build" in service
            assert service["pull_policy"] == "${AIRLOOP_PULL_POLICY:-never}", f"{name}: a registry has no {image}"
    assert built == dict.fromkeys((f"airloop-{name}:local" for name in (*OURS, *SETTLED)), 1)


def test_every_image_comes_from_a_dockerfile_of_its_own(services):
    for service in services.values():
        if "build" in service:
            role = default(service["image"]).removeprefix("airloop-").removesuffix(":local")
            file = f"docker/{role}/Dockerfile" if role in SETTLED else f"docker/{role}.Dockerfile"
            assert service["build"]["dockerfile"] == file
            wanted = {"AIRLOOP_CODE_REVISION", "PIP_INDEX_URL", "PYTHON_IMAGE"} if role in OURS else SETTLED[role]
            assert wanted <= set(service["build"]["args"])


def test_no_container_reads_a_file_of_the_checkout(compose, services):
    """With umask 077 another user could not: settings are in images. Build contexts are read by the person who builds."""
    assert "configs" not in compose and not any("configs" in service for service in services.values())
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    assert [mount for mount in mounts if mount.startswith((".", "docker", "~", "$"))] == []


@pytest.mark.parametrize("name", sorted(SETTLED))
def test_files_get_into_settled_images_by_their_mode(name):
    """The umask of the checkout does not matter, and every file of the folder that the service reads is there."""
    text = (ROOT / f"docker/{name}/Dockerfile").read_text()
    copies = [line.split() for line in text.splitlines() if line.startswith("COPY")]
    assert copies and all(words[1] in ("--chmod=0644", "--chmod=0755") for words in copies)
    copied = {source for words in copies for source in words[2:-1]}
    there = {str(file.relative_to(ROOT)) for file in (ROOT / f"docker/{name}").rglob("*.*") if file.is_file()}
    assert copied - {"docker/health.py"} == {file for file in there if "__pycache__" not in file}
    assert not re.search(r"^#\s*syntax\s*=", text, re.MULTILINE)
    (argument,) = SETTLED[name]
    assert f"FROM ${{{argument}}} AS {name}" in text


@pytest.mark.parametrize("name", sorted(SETTLED))
def test_hadolint_finds_nothing_in_settled_images(name):
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    done = subprocess.run([hadolint, "--no-color", f"docker/{name}/Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def default(text):
    """A value as it is where no variable is set."""
    while "${" in text:
        text = re.sub(r"\$\{\w+(?::-([^${}]*))?\}", lambda found: found[1] or "", text)
    return text


def test_containers_have_no_capability_gain_no_privilege_and_write_nowhere_else(services):
    for name, service in services.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"], f"{name}: a container that can write to itself keeps what an intruder leaves"
        assert "cap_add" not in service and "privileged" not in service, name


def test_state_lies_in_named_volumes_only(compose, services):
    used = {mount.partition(":")[0] for service in services.values() for mount in service.get("volumes", [])}
    assert used - SCRATCH == set(compose["volumes"])


def test_nothing_of_a_run_is_on_a_volume_that_others_see(services):
    """Workers and the online service meet in the store only, as they would on machines of their own."""
    for name, service in services.items():
        shared = [mount for mount in service.get("volumes", []) if ":" in mount and mount.split(":")[1] in SCRATCH]
        assert not shared, f"{name}: {shared} would let a test pass that fails with a second machine"
        if "AIRLOOP_STORE" in service.get("environment", {}):
            places = {service["environment"][f"AIRLOOP_{what}"] for what in ("STORE", "LANDING", "DVC_REMOTE")}
            assert all(place.startswith("s3://") for place in places)


def test_a_worker_is_a_scheduler_in_all_that_tasks_see(services):
    worker, scheduler = services["worker"], services["scheduler"]
    assert worker["profiles"] == ["celery"]
    for key in ("image", "environment", "volumes", "mem_limit"):
        assert worker[key] == scheduler[key]


def test_airflow_is_set_as_on_a_laptop(services):
    from local import airflow_settings

    laptop = airflow_settings.tuning()
    here = services["scheduler"]["environment"]
    different = {name: (value, here.get(name)) for name, value in laptop.items() if str(here.get(name)) != value}
    # How many cores Spark gets is the container's matter.
    assert set(different) == {"AIRFLOW_CONN_SPARK_DEFAULT"}, (
        "set these as local/airflow_settings.py does, or say here why not"
    )


def test_spark_is_reached_as_on_a_laptop(services):
    from local import airflow_settings

    here = services["scheduler"]["environment"]["AIRFLOW_CONN_SPARK_DEFAULT"]
    assert json.loads(here.replace("${AIRLOOP_SPARK_CORES:-2}", "2")) == json.loads(
        airflow_settings.spark_connection(2)
    )


def test_all_parts_of_airflow_share_one_environment(services):
    parts = ["api-server", "scheduler", "worker", "dag-processor", "triggerer"]
    assert all(services[part]["environment"] == services["scheduler"]["environment"] for part in parts)


def test_the_online_service_runs_by_the_same_command_everywhere(services):
    """In compose, in the image by itself, in a pod, and on a laptop, but for where it listens, and how long it may take to end."""
    image = re.search(
        r"^CMD (\[.*?\])", (ROOT / "docker/serve.Dockerfile").read_text().replace("\\\n", ""), re.MULTILINE
    )
    pod = yaml.safe_load((ROOT / "kubernetes/base/online.yaml").read_text().split("\n---\n")[0])
    commands = [
        services["online-1"]["command"],
        json.loads(image[1]),
        pod["spec"]["template"]["spec"]["containers"][0]["command"],
    ]
    same = {frozenset(word for word in command if not word.startswith("--host=")) for command in commands}
    assert len(same) == 1, commands
    laptop = local.services._online(SimpleNamespace(online_port=1, online_url="http://127.0.0.1:1", code=ROOT)).command
    given = dict(pairwise(laptop))
    assert (given["--http"], given["--timeout-keep-alive"]) == ("serving.whole:Protocol", "75")
    assert int(given["--timeout-graceful-shutdown"]) < 10, "Service.stop_seconds"
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in commands[0] if word.startswith("--"))
    assert int(flags["timeout-keep-alive"]) > 60, "the balancers in front keep an idle connection for a minute"
    grace = int(services["online-1"]["stop_grace_period"].removesuffix("s"))
    assert int(flags["timeout-graceful-shutdown"]) + 5 < grace, "the log is flushed after that"
    assert flags["http"] == "serving.whole:Protocol"


def test_the_place_is_one_that_the_plugins_know(services, script):
    # By its file: the package around it imports Airflow, which takes seconds.
    assert services["scheduler"]["environment"]["AIRLOOP_PLACE"] in script("plugins/airloop/places.py").COLUMNS


def test_compose_accepts_the_file(docker_compose, env_file):
    done = subprocess.run(
        [*docker_compose, "--env-file", str(env_file), "--profile", "*", "config", "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)["services"]
    assert resolved["scheduler"]["mem_limit"] == str(8 * 2**30)
    assert resolved["mlflow"]["ports"][0]["host_ip"] == "127.0.0.1"
    arguments = resolved["airflow-init"]["build"]["args"]
    assert "" not in arguments.values(), "an empty index address would be used as one"


@pytest.mark.parametrize("name", ["AIRLOOP_FERNET_KEY", "AIRLOOP_MLFLOW_DB_PASSWORD"])
def test_compose_names_the_missing_secret_and_the_way_out(docker_compose, env_file, monkeypatch, name):
    monkeypatch.delenv(name, raising=False)
    env_file.write_text("".join(line for line in env_file.open() if not line.startswith(name)))
    done = subprocess.run(
        [*docker_compose, "--env-file", str(env_file), "config", "-q"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert name in done.stderr and "docker/make_env.py" in done.stderr
