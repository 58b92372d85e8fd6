"""What the online service's replicas go through while requests come in."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tasks.registry import versions
from tasks.storage.artefacts import sha256, to_json
from tests.e2e.loop import Loop

from . import settings, table
from .kube import Cluster
from .online import NAME, Load
from .story import MARKS, WARMUP

pytestmark = MARKS


@pytest.fixture
def load(loop: Loop, cluster: Cluster, told: settings.Settings) -> Iterator[Load]:
    """Requests from inside the cluster, on two replicas that are ready."""
    cluster.until(lambda: len(replicas(cluster)) >= 2, "two ready replicas", 300)
    asking = Load(cluster, told)
    yield asking
    asking.remove()


def test_the_approved_model_is_rolled_out(loop: Loop, cluster: Cluster) -> None:
    with table.fault("none: deploy", "v1 in the ledger and on every replica") as row:
        loop.follow("flights.deploy", loop.started("flights.deploy", WARMUP[-1]))
        (entry,) = loop.ledger()
        assert (entry.action, entry.to_version) == ("promote", 1)
        online = loop.online()
        assert online["model_version"] == 1, online
        row.saw(f"{entry.action} v{entry.to_version}; online serves v{online['model_version']}")


def test_a_serving_pod_is_deleted_under_load(cluster: Cluster, load: Load) -> None:
    with table.fault("serving pod deleted under load", "no request fails; two replicas again") as row:
        victim = replicas(cluster)[0]
        cluster.delete(victim)
        cluster.until(lambda: replaced(cluster, victim), "the replica's successor", 180)
        row.saw(answered(load))


def test_a_model_that_fails_its_smoke_test_never_serves(loop: Loop, cluster: Cluster, load: Load) -> None:
    """Put live by hand, so it is not taken back by itself: a person puts another one live."""
    with table.fault("model that fails its smoke test", "deploy fails, v1 goes on, no request fails") as row:
        version = register_wrong_model(loop)
        loop.run("flights.deploy", {"version": version, "reason": "the test says so"}, expect="failed")
        last = loop.ledger()[-1]
        assert (last.action, last.from_version, last.to_version) == ("rollback", 1, version), last
        assert loop.online()["model_version"] == 1, loop.online()
        loop.run("flights.deploy", {"version": 1, "reason": "the other one is wrong"})
        last = loop.ledger()[-1]
        assert loop.aliases()["champion"] == "1"
        row.saw(f"{last.action} to v{last.to_version} ({last.why[:200]})")
        row.saw(answered(load))


def replicas(cluster: Cluster) -> list[object]:
    """The service's pods that get requests."""
    selector = f"app.kubernetes.io/name={NAME}"
    found = cluster.core.list_namespaced_pod(cluster.namespace, label_selector=selector).items
    return [pod for pod in found if ready(pod)]


def ready(pod: object) -> bool:
    conditions = pod.status.conditions or []
    return pod.metadata.deletion_timestamp is None and any(c.type == "Ready" and c.status == "True" for c in conditions)


def replaced(cluster: Cluster, victim: object) -> bool:
    names = [pod.metadata.name for pod in cluster.pods() if pod.metadata.labels.get("app.kubernetes.io/name") == NAME]
    return victim.metadata.name not in names and len(replicas(cluster)) >= 2


def answered(load: Load) -> str:
    """AssertionError unless all that was asked was answered."""
    seen = load.end()
    assert set(seen) == {"200"}, f"answers: {seen}"
    return f"{seen['200']} requests, all answered"


def register_wrong_model(loop: Loop) -> int:
    """Another file of the live model, whose golden rows expect the opposite; returns its version."""
    import onnx

    live = loop.ledger()[-1]
    folder = f"models/{live.evidence.model}"
    model = onnx.load_model_from_string(loop.store.read(f"{folder}/model.onnx"))
    model.doc_string = "answers as before, and is expected to answer otherwise"
    data = model.SerializeToString()
    contract = to_json({**loop.store.read_json(f"{folder}/contract.json"), "onnx_sha256": sha256(data)})
    rows = [{**row, "probability": 1 - row["probability"]} for row in loop.store.read_json(f"{folder}/smoke.json")]
    wrong = f"models/{sha256(data)}"
    loop.store.write(f"{wrong}/contract.json", contract)
    loop.store.write(f"{wrong}/smoke.json", json.dumps(rows).encode())
    for name in ("gate.json", "evaluation.json"):
        loop.store.write(f"{wrong}/{name}", loop.store.read(f"{folder}/{name}"))
    loop.store.write(f"{wrong}/model.onnx", data)

    known = versions.read(loop.store, live.to_version)
    tags = {**known.tags, "airloop.onnx": sha256(data), "airloop.contract": sha256(contract), "airloop.run": "wrong"}
    files = {name: loop.store.read(known.file(name)) for name in (*known.settings, *versions.REBUILD, "gate.json")}
    number = max(versions.read_all(loop.store)) + 1
    assert versions.claim(loop.store, number, versions.put_record(loop.store, sha256(data), files), tags)
    return number
