"""The stack for real, one story in order: `make demo PLACE=compose` through the first promotion, then faults, then down.

Half an hour, so only where AIRLOOP_TEST_COMPOSE=1 and an engine answers. AIRLOOP_TEST_WITHOUT="grafana" leaves out services
whose image cannot be had.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from local.place import DEMO_STEP
from models.flights import landing
from tasks.core.urls import url_of
from tasks.storage.artefacts import Store
from tests.docker.loading import load
from tests.docker.stack import IMAGES, PROJECT, WAIT_AND_KILL, Stack, client_with_proxies, copy_checkout, environment
from tests.docker.watching import asked, panels, rules
from tests.e2e.conftest import _free_ports
from tests.e2e.loop import feed, in_processes

WITHOUT = os.environ.get("AIRLOOP_TEST_WITHOUT", "").split()
PORTS = ("AIRFLOW", "MLFLOW", "ONLINE", "PROMETHEUS", "GRAFANA")
SERVERS = {
    "postgres", "redis", "s3", "api-server", "scheduler", "dag-processor", "triggerer", "mlflow", "online-1", "online-2",
    "proxy", "prometheus", "grafana",
} - {*WITHOUT}  # fmt: skip
OURS = ("s3", "api-server", "scheduler", "dag-processor", "triggerer", "mlflow", "online-1", "online-2", "proxy")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(5400),
    pytest.mark.skipif(
        os.environ.get("AIRLOOP_TEST_COMPOSE") != "1",
        reason="set AIRLOOP_TEST_COMPOSE=1 to build the images and play on the stack (half an hour)",
    ),
]


@pytest.fixture(scope="module")
def stack(docker_compose, tmp_path_factory):
    """The stack with three intervals landed and the first model live, brought there by the demo; gone at the end.

    From a checkout under umask 077, and by a client whose containers get a proxy by which nothing is reached. Its builds would
    too, so they come first.
    """
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no docker engine answers")
    checkout = copy_checkout(tmp_path_factory.mktemp("compose") / "checkout")
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    # The demo has a project and ports of its own beside what these name: all else here is about the demo's.
    (checkout / ".env").write_text("".join(f"AIRLOOP_{name}_PORT={port - DEMO_STEP}\n" for name, port in ports.items()))
    made = Stack(checkout, environment() | {f"AIRLOOP_{name}_PORT": str(port) for name, port in ports.items()}, WITHOUT)
    beside = Stack(checkout, environment() | {"COMPOSE_PROJECT_NAME": PROJECT.removesuffix("-demo")}, WITHOUT)
    try:
        subprocess.run([sys.executable, checkout / "docker/make_env.py"], check=True)
        beside.compose("build", *beside.services())
        for each in (made, beside):
            each.environ["DOCKER_CONFIG"] = str(client_with_proxies(tmp_path_factory.mktemp("client") / "docker"))
        left_out = [word for name in WITHOUT for word in ("--without", name)]
        beside.airloop("demo", "--place", "compose", "--through", "2013-03", *left_out)
        yield made
    except AssertionError:
        print(made.compose("ps", "--all", check=False), made.compose("logs", "--tail", "40", check=False))
        raise
    finally:
        made.airloop("delete", "--yes", "--place", "compose", check=False)
        made.docker("image", "rm", *IMAGES, check=False)
        assert made.left() == {"containers": [], "volumes": [], "networks": []}


@pytest.fixture(scope="module")
def report(stack):
    """What the demo wrote."""
    return json.loads((stack.checkout / "reports/demo.json").read_text())


def test_the_demo_plays_three_intervals_and_the_first_promotion(report):
    assert [(m["interval"], m["outcome"]) for m in report["intervals"]] == [
        ("2013-01", "warming up"),
        ("2013-02", "warming up"),
        ("2013-03", "v1 promoted"),
    ]
    assert [interval["landed"] for interval in report["intervals"]] == [27004, 24951, 28834]
    assert [(p["to_version"], p["effective_from"]) for p in report["promotions"]] == [(1, "2013-04")]


def test_an_interval_in_containers_has_the_digests_of_an_interval_in_processes(stack, tmp_path):
    zone = url_of(tmp_path / "landing")
    landing.land("2013-01", feed(), Store(zone).part("flights"))
    assert stack.record("2013-01")["lock"] == in_processes(tmp_path, zone, "2013-01")


def test_every_server_is_healthy_and_what_runs_once_has_ended_well(stack):
    assert stack.states() == {**dict.fromkeys(SERVERS, "healthy"), "airflow-init": "exited"}
    ended = json.loads(stack.compose("ps", "--all", "--format", "json", "airflow-init"))
    assert ended["ExitCode"] == 0


def test_airflow_knows_the_login_and_every_dag(stack):
    airflow = stack.loop.airflow
    assert all(
        airflow.knows(dag)
        for dag in ("flights.ingest", "flights.score", "flights.monitor", "flights.train", "flights.deploy")
    )
    assert airflow.import_errors() == []


def test_a_wrong_password_is_refused(stack):
    answer = httpx.post(f"{stack.url('AIRFLOW')}/auth/token", json={"username": "admin", "password": "guess"})
    assert answer.status_code == 401


def test_mlflow_keeps_the_model_in_postgresql_and_its_files_in_s3(stack):
    query = "SELECT version, storage_location FROM model_versions"
    found = stack.compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "mlflow", "-tAF,", "-c", query)
    version, location = found.strip().split(",")
    assert version == "1" and location.startswith(("models:/", "s3://", "mlflow-artifacts:/"))
    code = "import fsspec; print(len(fsspec.filesystem('s3').find('airloop/mlflow')))"
    assert int(stack.compose("exec", "-T", "scheduler", "python", "-c", code)) > 0


def test_mlflow_answers_no_other_hosts_name(stack):
    request = urllib.request.Request(
        f"{stack.url('MLFLOW')}/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"Host": "elsewhere.example"}
    )
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30)


@pytest.mark.parametrize("service", OURS)
def test_nothing_of_ours_runs_as_root_or_finds_a_compiler(stack, service):
    found = stack.compose("exec", "-T", service, "sh", "-c", "id -u; command -v gcc cc uv apt-add-repository || true")
    assert found.split() == ["10001"]


@pytest.mark.parametrize("service", sorted(SERVERS))
def test_no_service_has_a_capability_or_can_write_to_its_root(stack, service):
    code = "id -u; grep CapEff /proc/1/status | cut -f 2; touch /etc/mark 2>/dev/null && echo written || echo locked"
    user, capabilities, root = stack.compose("exec", "-T", service, "sh", "-c", code).split()
    assert user != "0" and int(capabilities, 16) == 0 and root == "locked"


def test_only_the_pages_are_published_and_only_on_loopback(stack):
    rows = [json.loads(line) for line in stack.compose("ps", "--format", "json").splitlines()]
    published = {(row["Service"], p["URL"]) for row in rows for p in row["Publishers"] or [] if p["PublishedPort"]}
    assert published == {
        (service, "127.0.0.1")
        for service in {"api-server", "mlflow", "proxy", "prometheus", "grafana"} - {*WITHOUT}
    }  # fmt: skip


def test_both_replicas_answer_with_the_live_model(stack):
    def versions():
        return {
            row["metric"]["instance"]: row["metric"]["version"] for row in stack.query("airloop_online_model_info == 1")
        }

    stack.until("both replicas to say v1", lambda: versions() == {"online-1:8000": "1", "online-2:8000": "1"})
    assert httpx.get(f"{stack.url('ONLINE')}/models/flights/ready").json()["model_version"] == 1
    assert stack.ask(20) == {200: 20}


def test_prometheus_sees_every_target_and_evaluates_every_rule(stack):
    url = f"{stack.url('PROMETHEUS')}/api/v1"
    targets = httpx.get(f"{url}/targets").json()["data"]["activeTargets"]
    assert {(t["labels"]["instance"], t["health"], t["lastError"]) for t in targets} == {
        ("online-1:8000", "up", ""),
        ("online-2:8000", "up", ""),
        ("api-server:8080", "up", ""),
    }
    loaded = [rule for group in httpx.get(f"{url}/rules").json()["data"]["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} == {rule.get("alert") or rule["record"] for _, rule in rules()}
    assert {rule["health"] for rule in loaded} == {"ok"}, [r["lastError"] for r in loaded if r["health"] != "ok"]
    assert not [rule["name"] for rule in loaded if rule.get("state") == "firing"]


@pytest.mark.parametrize(
    ("balance", "shares"),
    [("least_conn", (35, 65)), ("round_robin", (49, 51)), ("ip_hash", (0, 100)), ("canary:20", (20, 80))],
)
def test_the_proxy_distributes_as_it_is_told(stack, balance, shares):
    """Of 100 requests; ip_hash sends all of one client to one replica, and the canary is the second replica."""
    stack.balance(balance)
    before = stack.answered()
    with ThreadPoolExecutor(4 if balance == "least_conn" else 1) as pool:
        asked_for = sum(pool.map(stack.ask, [25] * 4), Counter())
    assert asked_for == {200: 100}
    got = {replica: count - before[replica] for replica, count in stack.answered().items()}
    assert sum(got.values()) == 100
    assert shares[0] <= min(got.values()) and max(got.values()) <= shares[1], got
    assert balance != "canary:20" or got["online-2"] == 20


def test_the_split_changes_under_load_without_a_lost_request(stack):
    before = stack.ids()
    with load(stack.url("ONLINE")) as answers:
        for balance in ("canary:5", "least_conn", "canary:50", "ip_hash", "round_robin", "canary:1", "least_conn"):
            stack.balance(balance)
            time.sleep(1)
    assert answers.well and answers.connections == 50, f"no client's connection was closed: {answers}"
    assert stack.ids() == before, "nothing was replaced"


def test_a_canary_comes_and_goes_under_load_and_touches_nothing_else(stack):
    """By the lines of docs/containers.md."""
    stack.docker("tag", "airloop-serve:test", "airloop-serve:canary")
    before = stack.ids()
    line = ("up", "--wait", "--no-deps", "--no-build", "online-2")
    with load(stack.url("ONLINE")) as answers:
        stack.balance("canary:5")
        stack.compose(*line, AIRLOOP_CANARY_TAG="canary")
        during = stack.ids()
        assert "airloop-serve:canary" in stack.docker("inspect", "--format={{.Config.Image}}", during["online-2"])
        stack.balance("least_conn")
        stack.compose(*line)
    assert answers.well and answers.connections == 50, answers
    assert {name for name in before if during.get(name) != before[name]} == {"online-2"} and set(during) == set(before)


def test_replicas_are_replaced_under_load_without_a_lost_request(stack):
    with load(stack.url("ONLINE")) as answers:
        for replica in ("online-1", "online-2"):
            stack.compose("up", "--build", "--wait", "--no-deps", "--force-recreate", replica)
        for replica in ("online-1", "online-2"):
            stack.compose("restart", replica)
            stack.compose("up", "--wait", "--no-deps", "--no-recreate", replica)
    assert answers.well and answers.connections == 50, answers


def test_a_killed_replica_costs_no_request_and_comes_back_with_its_model(stack):
    with load(stack.url("ONLINE")) as answers:
        stack.compose("exec", "-T", "online-1", "sh", "-c", "kill -9 -1", check=False)
        time.sleep(2)
    assert answers.well, answers
    (name,) = stack.containers("online-1")
    assert stack.docker("inspect", "--format={{.RestartCount}}", name).strip() == "1"
    stack.until("online-1 to be ready", lambda: "1" in [r["value"][1] for r in stack.query('airloop_online_ready{model="flights",instance="online-1:8000"}')])  # fmt: skip


def test_docker_kill_costs_no_request_and_is_a_persons_wish(stack):
    """The engine does not start again what was killed by its own command: ADR 41. Whoever does is to say so."""
    name = stack.ids()["online-1"]
    with load(stack.url("ONLINE")) as answers:
        stack.docker("kill", name)
        time.sleep(5)
        assert stack.states()["online-1"] == "exited"
        stack.compose("start", "online-1")
        stack.compose("up", "--wait", "--no-deps", "--no-recreate", "online-1")
    assert answers.well, answers


def test_who_cannot_reach_the_store_is_unwell_and_predicts_all_the_same(stack):
    stack.compose("stop", "s3")
    needs = {"online-1", "online-2", "api-server", "scheduler", "mlflow", "proxy"}
    try:
        stack.until("those that need the store to be unwell", lambda: needs <= {n for n, s in stack.states().items() if s == "unhealthy"}, 300)  # fmt: skip
        assert stack.ask(20) == {200: 20}
    finally:
        stack.compose("start", "s3")
    stack.until("all to be well again", lambda: stack.states() == {**dict.fromkeys(SERVERS, "healthy"), "airflow-init": "exited"}, 300)  # fmt: skip


def test_an_interval_completes_though_its_stage_and_then_the_scheduler_are_killed(stack):
    """With the LocalExecutor: SIGKILL to the process that makes features; later to all that the scheduler's container runs."""
    stack.land("2013-04")
    (scheduler,) = stack.containers("scheduler")
    run_id = stack.loop.airflow.trigger("flights.ingest", {"interval": "2013-04"})
    stack.inside(scheduler, WAIT_AND_KILL, "tasks/features.py", "it")
    tasks = stack.loop.follow("flights.ingest", run_id)
    assert max(task["try_number"] for task in tasks.values()) == 2, "the killed task was tried again"

    score = stack.loop.started("flights.score", "2013-04")
    with suppress(AssertionError):  # the exec may die too
        stack.inside(scheduler, WAIT_AND_KILL, "tasks/score.py", "all")
    tasks = stack.loop.follow("flights.score", score)
    assert stack.docker("inspect", "--format={{.RestartCount}}", scheduler).strip() == "1"
    assert max(task["try_number"] for task in tasks.values()) >= 2
    tasks = stack.loop.follow("flights.monitor", stack.loop.started("flights.monitor", "2013-04"))
    assert tasks["request_retrain"]["state"] == "success", "April asks for a retrain: README, What the example shows"
    tasks = stack.loop.follow("flights.train", stack.loop.started("flights.train", "2013-04"))
    assert tasks["register"]["state"] == "success"
    stack.loop.follow("flights.deploy", stack.loop.started("flights.deploy", "2013-04"))
    assert httpx.get(f"{stack.url('ONLINE')}/models/flights/ready").json()["model_version"] == 2


def test_every_panel_has_something_to_show(stack):
    stack.ask(20)
    queries = {
        f"{board}: {title}: {query}": query.replace("$__rate_interval", "5m") for board, title, query in panels()
    }
    empty = queries

    def none():
        nonlocal empty
        empty = {where: query for where, query in empty.items() if not stack.query(query)}
        return not empty

    try:
        stack.until("every panel", none, 120)
    except AssertionError:
        raise AssertionError(
            f"nothing to show, and these metrics: { {w: asked(q) for w, q in empty.items()} }"
        ) from None


def test_a_celery_worker_that_is_gone_costs_no_interval(stack):
    """Two workers; the one that makes features is killed for good, and the other one does the rest from the store."""
    celery = {"AIRLOOP_EXECUTOR": "CeleryExecutor"}
    services = stack.services("celery")
    stack.compose(
        "--profile", "celery", "up", "--detach", "--wait", "--no-build", "--scale", "worker=2", *services, **celery
    )
    stack.land("2013-05")
    run_id = stack.loop.airflow.trigger("flights.ingest", {"interval": "2013-05"})
    workers = stack.containers("worker")
    assert len(workers) == 2
    waiting = {w: stack.start_background("exec", "-T", "--index", w.rsplit("-", 1)[1], "worker", "python", "-c", WAIT_AND_KILL, "tasks/features.py", "nothing", "600") for w in workers}  # fmt: skip
    victim = stack.until("a worker to make features", lambda: next((w for w, p in waiting.items() if p.poll() == 0), None), 600)  # fmt: skip
    stack.docker("kill", victim)
    for process in waiting.values():
        process.kill()
        process.wait()
    tasks = stack.loop.follow("flights.ingest", run_id)
    assert max(task["try_number"] for task in tasks.values()) >= 2
    for dag in ("flights.score", "flights.monitor"):
        stack.loop.follow(dag, stack.loop.started(dag, "2013-05"))
    assert stack.containers("worker") == [w for w in workers if w != victim], "nobody brought it back"
    stack.until(
        "no interval to wait", lambda: [r["value"][1] for r in stack.query("airloop_intervals_pending")] == ["0"]
    )


def test_down_keeps_the_data_and_delete_leaves_nothing(stack):
    """The scheduler's container was made anew for Celery: compose forgets the scratch volumes of such a one."""
    volumes = stack.mounted()
    assert len(volumes) > 6
    stack.airloop("down", "--place", "compose")
    assert len(stack.left()["volumes"]) > 3
    stack.airloop("delete", "--yes", "--place", "compose")
    assert stack.left() == {"containers": [], "volumes": [], "networks": []}
    assert not volumes & set(stack.docker("volume", "ls", "--quiet").split())
