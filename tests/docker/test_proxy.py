"""The proxy for real, on loopback: what the balancing settings do, how they change, and what happens when a replica goes."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.docker.loading import load
from tests.docker.proxying import Replica, free_port, proxy, replicas


def ask(url, count=1, path="/healthz", source="127.0.0.1", method="GET"):
    """How many answers came from whom."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source)) as client:
        return Counter(client.request(method, url + path).text for _ in range(count))


@pytest.mark.parametrize(
    "balance", ["", "fastest", "canary", "canary:0", "canary:100", "canary:", "canary:-5", "ip_hash; x"]
)
def test_an_unknown_balance_is_refused_with_the_way_out_and_changes_nothing(tmp_path, balance):
    with replicas() as both, proxy([r.address for r in both], tmp_path, "round_robin") as url:
        done = url.balance(balance)
        assert done.returncode == 1 and "canary:N" in done.stderr and done.stdout == ""
        assert url.balance().stdout == "balance: round_robin\n"
        assert ask(url, 10) == {"replica 1": 5, "replica 2": 5}


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
        clients = [f"127.0.{n}.1" for n in range(1, 25)]
        found = {source: ask(url, 5, source=source) for source in clients}
    assert all(len(answers) == 1 for answers in found.values()), "each with one replica"
    assert len({next(iter(answers)) for answers in found.values()}) == 2, "and not all with the same"


@pytest.mark.parametrize(("balance", "share"), [("canary:10", 10), ("canary:35", 35)])
def test_the_canary_gets_its_share(tmp_path, balance, share):
    with replicas() as both, proxy([r.address for r in both], tmp_path, balance) as url:
        assert ask(url, 200) == {"replica 1": 2 * (100 - share), "replica 2": 2 * share}


@pytest.mark.parametrize(("count", "percent"), [(2, 1), (2, 99), (3, 20), (5, 99), (9, 1)])
def test_the_canarys_share_is_of_all_replicas_together(script, count, percent):
    weights = script("docker/proxy/balance.py").weights(percent, count)
    assert len(weights) == count and all(1 <= weight <= 256 for weight in weights), "HAProxy takes no others"
    assert weights[-1] / sum(weights) == pytest.approx(percent / 100, abs=0.02)


def test_the_split_changes_under_load_without_a_lost_request_and_is_kept(tmp_path):
    """On reused connections, back and forth through all ways to balance; then as last set at the next start."""
    with replicas() as both:
        with proxy([r.address for r in both], tmp_path, "round_robin") as url, load(url, rate=400) as answers:
            for balance in ("canary:5", "least_conn", "canary:50", "ip_hash", "canary:1") * 2:
                assert url.balance(balance).returncode == 0
                time.sleep(0.3)
            before = Counter(answers.replicas)
            time.sleep(2)
            during = answers.replicas - before
        assert answers.well and answers.connections == 50, f"a connection was closed: {answers}"
        assert during["replica 2"] / during.total() < 0.04, during
        with proxy([r.address for r in both], tmp_path / "next", (tmp_path / "balance").read_text()) as url:
            assert ask(url, 100) == {"replica 1": 99, "replica 2": 1}


def test_a_replica_without_an_address_is_left_out(tmp_path):
    """As where a container is stopped: its name is gone."""
    with replicas(1) as (there,), proxy(["no-such-host.invalid:8000", there.address], tmp_path) as url:
        assert ask(url, 20) == {there.name: 20}


def test_a_replica_that_is_away_costs_no_request(tmp_path):
    with replicas(1) as (there,), proxy([f"127.0.0.1:{free_port()}", there.address], tmp_path) as url:
        assert ask(url, 20) + ask(url, 20, path="/models/flights/predict", method="POST") == {there.name: 40}


def test_a_replica_that_comes_back_is_asked_again(tmp_path):
    late = Replica("replica 2")
    with replicas(1) as (there,), proxy([there.address, late.address], tmp_path, "round_robin") as url:
        late.server.server_close()
        assert ask(url, 20) == {there.name: 20}
        with Replica("replica 2", late.server.server_port).running():
            deadline = time.monotonic() + 20
            while not ask(url, 10)["replica 2"]:
                assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("method", "path", "status", "asked"),
    [
        ("GET", "/models/flights/ready", 200, 2),
        ("POST", "/models/flights/predict", 200, 2),
        ("POST", "/elsewhere", 502, 1),
        ("DELETE", "/predictions", 502, 1),
    ],
)
def test_a_request_that_was_sent_is_repeated_only_where_that_changes_nothing(tmp_path, method, path, status, asked):
    """A replica hangs up with the request in hand: GET and the question /models/flights/predict go to the other, another POST does not."""
    with replicas() as both, proxy([r.address for r in both], tmp_path, "canary:99") as url:
        both[1].hangs_up = True  # it gets nearly all
        answer = httpx.request(method, url + path)
        assert answer.status_code == status
        assert status == 200 or ("send it again" in answer.json()["error"] and answer.headers["retry-after"] == "5")
        assert sum(r.seen.total() for r in both) == asked


def test_a_request_that_takes_too_long_is_not_repeated():
    """Seen in the file, for a test would take the 30 seconds."""
    from local.paths import ROOT

    (line,) = [
        line for line in (ROOT / "docker/proxy/haproxy.cfg").read_text().splitlines() if "retry-on" in line.split()
    ]
    assert line.split() == ["retry-on", "conn-failure", "empty-response", "503"]


@pytest.mark.parametrize("flights", [1, 1000])
def test_a_replica_that_has_no_model_yet_costs_no_prediction(tmp_path, flights):
    body = {"flights": [{"carrier": "UA", "flight": 1545, "origin": "EWR", "destination": "IAH", "scheduled_time": "2013-04-05T17:00"}] * flights}  # fmt: skip
    with replicas() as both, proxy([r.address for r in both], tmp_path, "round_robin") as url:
        both[0].status = 503
        answers = Counter(httpx.post(f"{url}/models/flights/predict", json=body).text for _ in range(20))
        assert answers == {both[1].name: 20}


def test_where_no_replica_answers_a_sentence_does(tmp_path):
    with proxy([f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"], tmp_path) as url:
        answer = httpx.post(f"{url}/models/flights/predict", json={})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "try again" in answer.json()["error"]


def test_a_body_above_the_proxys_limit_gets_json_too(tmp_path):
    with replicas() as both, proxy([r.address for r in both], tmp_path) as url:
        for _ in range(5):
            answer = httpx.post(f"{url}/models/flights/predict", content=b"x" * 3_000_000)
            assert answer.status_code == 413 and "fewer requests" in answer.json()["error"]
        assert sum(r.seen.total() for r in both) == 0
        assert httpx.post(f"{url}/models/flights/predict", content=b"x" * 1_900_000).text in {r.name for r in both}


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/%6detrics", "/-/sync/flights", "/%2d/sync", "/%2D%2fsync"])
def test_what_is_each_replicas_own_is_not_published(tmp_path, path):
    with replicas() as both, proxy([r.address for r in both], tmp_path) as url:
        assert httpx.post(url + path).status_code == 404
        assert sum(r.seen.total() for r in both) == 0


def test_a_request_in_hand_is_answered_when_the_proxy_is_asked_to_end(tmp_path):
    with replicas(1) as (slow,), ThreadPoolExecutor() as pool:
        with proxy([slow.address], tmp_path) as url:
            slow.hold.clear()
            waiting = pool.submit(ask, url)
            while not slow.seen:
                time.sleep(0.01)
            threading.Timer(1, slow.hold.set).start()
        assert waiting.result() == {slow.name: 1}


def test_a_replica_that_has_just_come_back_is_tried_before_a_check_found_it(tmp_path):
    """As where the replicas are restarted one after the other, faster than the checks."""
    ports = [free_port(), free_port()]
    with proxy([f"127.0.0.1:{port}" for port in ports], tmp_path) as url:
        deadline = time.monotonic() + 20
        while "least_conn has no server available" not in (tmp_path / "haproxy.log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with Replica("replica 1", ports[0]).running():
            assert ask(url, 4, path="/models/flights/predict", method="POST") == {"replica 1": 4}
