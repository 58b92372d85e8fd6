"""The proxy for real, on loopback: what the four balancing settings do, and what happens when a replica goes."""

import os
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from local.paths import ROOT
from tests.docker.proxying import free_port, proxy, replicas


def told(balance, names="127.0.0.1:1 127.0.0.1:2"):
    """What start.sh would write."""
    environ = {**os.environ, "AIRLOOP_BALANCE": balance, "AIRLOOP_REPLICAS": names}
    return subprocess.run(
        ["sh", str(ROOT / "docker/proxy/start.sh"), "--print"], env=environ, capture_output=True, text=True, check=False
    )


def ask(url, count=1, path="/healthz", source="127.0.0.1", method="GET"):
    """How many answers came from whom."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source)) as client:
        return Counter(client.request(method, url + path).text for _ in range(count))


@pytest.mark.parametrize("balance", ["", "fastest", "canary:0", "canary:100", "canary:", "canary:-5", "least_conn; x"])
def test_an_unknown_balance_is_refused_with_the_way_out(balance):
    done = told(balance)
    if not balance:  # unset in compose
        assert "least_conn;" in done.stdout
    else:
        assert done.returncode == 1 and "canary:N" in done.stderr and done.stdout == ""


def test_round_robin_sends_every_other_request_to_each(tmp_path):
    with replicas() as both, proxy([r.address for r in both], tmp_path, "round_robin") as url:
        assert ask(url, 40) == {"replica 1": 20, "replica 2": 20}


def test_least_connections_avoids_the_busy_replica(tmp_path):
    with replicas() as both, proxy([r.address for r in both], tmp_path) as url, ThreadPoolExecutor() as pool:
        busy, idle = both
        busy.hold.clear()
        waiting = [pool.submit(ask, url, path="/slow") for _ in range(2)]
        deadline = time.monotonic() + 10
        while not busy.seen["GET /slow"] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ask(url, 30) == {idle.name: 30}, "round-robin would have sent half of them to wait"
        busy.hold.set()
        assert sum((each.result() for each in waiting), Counter()).total() == 2


def test_ip_hash_keeps_a_client_with_its_replica(tmp_path):
    with replicas() as both, proxy([r.address for r in both], tmp_path, "ip_hash") as url:
        clients = [f"127.0.{n}.1" for n in range(1, 25)]  # the hash is of the first three numbers
        found = {source: ask(url, 5, source=source) for source in clients}
    assert all(len(answers) == 1 for answers in found.values()), "each with one replica"
    assert len({next(iter(answers)) for answers in found.values()}) == 2, "and not all with the same"


@pytest.mark.parametrize(("balance", "share"), [("canary:10", 10), ("canary:35", 35)])
def test_the_canary_gets_its_share(tmp_path, balance, share):
    with replicas() as both, proxy([r.address for r in both], tmp_path, balance) as url:
        assert ask(url, 200) == {"replica 1": 2 * (100 - share), "replica 2": 2 * share}


def test_the_canarys_share_is_of_all_replicas_together():
    weights = [line.split("weight=")[1].split()[0] for line in told("canary:20", "127.0.0.1:1 127.0.0.1:2 127.0.0.1:3").stdout.splitlines() if "weight=" in line]  # fmt: skip
    assert [int(w) / sum(map(int, weights)) for w in weights] == pytest.approx([0.4, 0.4, 0.2])


def test_a_replica_without_an_address_keeps_its_place():
    lines = told("ip_hash", "no-such-host.invalid:8000 127.0.0.1:2").stdout.splitlines()
    servers = [line.split() for line in lines if "server" in line]
    assert [("down" in server, server[1]) for server in servers] == [(True, "127.0.0.1:8000"), (False, "127.0.0.1:2")]


def test_a_replica_that_is_away_costs_no_request(tmp_path):
    with replicas(1) as (there,), proxy([f"127.0.0.1:{free_port()}", there.address], tmp_path) as url:
        assert ask(url, 20) + ask(url, 20, path="/predict", method="POST") == {there.name: 40}


@pytest.mark.parametrize(
    ("method", "path", "status", "asked"),
    [("GET", "/readyz", 200, 2), ("POST", "/predict", 200, 2), ("POST", "/elsewhere", 503, 1)],
)
def test_a_request_that_was_sent_is_repeated_only_where_that_changes_nothing(tmp_path, method, path, status, asked):
    """A replica hangs up with the request in hand: GET and the question /predict go to the other, another POST does not."""
    with replicas() as both, proxy([r.address for r in both], tmp_path, "canary:99") as url:
        both[1].hangs_up = True  # it gets nearly all
        assert httpx.request(method, url + path).status_code == status
        assert sum(r.seen.total() for r in both) == asked


def test_a_replica_that_has_no_model_yet_costs_no_prediction(tmp_path):
    with replicas() as both, proxy([r.address for r in both], tmp_path, "round_robin") as url:
        both[0].status = 503
        assert ask(url, 20, path="/predict", method="POST") == {both[1].name: 20}
        assert both[0].seen.total() < 10, "after two failures it is left alone for a while"


def test_where_nobody_answers_a_sentence_does(tmp_path):
    with proxy([f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"], tmp_path) as url:
        answer = httpx.post(f"{url}/predict", json={})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "try again" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/metrics", "/-/sync"])
def test_what_is_each_replicas_own_is_not_published(tmp_path, path):
    with replicas() as both, proxy([r.address for r in both], tmp_path) as url:
        assert httpx.post(url + path).status_code == 404
        assert sum(r.seen.total() for r in both) == 0


def test_a_request_in_hand_is_answered_when_the_proxy_is_told_to_end(tmp_path):
    with replicas(1) as (slow,), ThreadPoolExecutor() as pool:
        with proxy([slow.address], tmp_path) as url:
            slow.hold.clear()
            waiting = pool.submit(ask, url)
            while not slow.seen:
                time.sleep(0.01)
            threading.Timer(1, slow.hold.set).start()
        assert waiting.result() == {slow.name: 1}
