"""deploy with the online service as a Deployment: real ledger, registry and Kubernetes client, an API server with faults."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from tasks import deploy, online
from tasks.core.errors import AirloopError, ConfigError, Unavailable
from tasks.core.urls import url_of
from tasks.online import REFUSED, deployment, rollout, waits
from tasks.online.deployment import Deployment
from tasks.registry import mlflow_registry
from tasks.registry.ledger import SupersededError
from tasks.settings import environment as environment_module
from tests.kube.deployments import DEPLOYMENT, NAME, NAMESPACE, VERSION, Deployments, Pod
from tests.tasks.test_deploy import Place

ENV = f"spec.template.spec.containers.('name', 'online').env.('name', '{VERSION}').value"
MARKS = "spec.template.metadata.annotations.airloop.io"
ANSWERS = {1: 0.25, 2: 0.125, 3: 0.5}


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Deployments]:
    with Deployments(tmp_path / "cluster").running() as running:
        running.answers = dict(ANSWERS)
        yield running


@pytest.fixture(scope="module")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry's database with no version in it, which takes seconds to make."""
    path = tmp_path_factory.mktemp("registry") / "registry.db"
    mlflow.MlflowClient(f"sqlite:///{path}").create_registered_model("flights")
    return path


@pytest.fixture
def place(fake: Deployments, empty_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    shutil.copy(empty_registry, tmp_path / "registry.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'registry.db'}")
    monkeypatch.setenv("AIRLOOP_STORE", url_of(tmp_path / "store"))
    monkeypatch.setenv("AIRLOOP_ONLINE_URL", fake.url)
    monkeypatch.setenv("AIRLOOP_ONLINE_DEPLOYMENT", f"{NAMESPACE}/{NAME}")
    monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig))
    monkeypatch.setattr(rollout, "POLL_SECONDS", 0.01)
    environment_module.environment.cache_clear()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'registry.db'}")
    yield Place(tmp_path)
    environment_module.environment.cache_clear()


def release(place: Place, version: int) -> None:
    """Register and promote ``version``, whose evaluation has what the cluster's Service answers."""
    interval = f"2013-0{version + 1}"
    assert place.register(version / 10, interval, smoke=ANSWERS[version]) == version
    deploy.promote(interval, "test", place.book, place.store)
    deploy.deploy(place.book, place.store)


def history(place: Place) -> list[tuple[str, int | None]]:
    return [(entry.action, entry.to_version) for entry in place.book.entries()]


def versions(fake: Deployments) -> list[str | None]:
    return [pod.version for pod in fake.pods if pod.ready]


def test_a_promotion_is_a_rollout_and_repeating_it_is_none(place: Place, fake: Deployments) -> None:
    release(place, 1)
    assert versions(fake) == ["1"] * 3
    assert fake.owned("airloop-deploy-flights") == {
        "metadata.annotations.airloop.io/ledger-entry-of-flights", ENV, f"{MARKS}/version-of-flights", f"{MARKS}/digest-of-flights"
    }, "replicas and all else are others'"  # fmt: skip
    entry = place.book.latest()
    assert entry is not None and entry.evidence is not None
    assert fake.template["metadata"]["annotations"]["airloop.io/digest-of-flights"] == entry.evidence.model

    generation, pods = fake.generation, list(fake.pods)
    deploy.deploy(place.book, place.store)
    assert (fake.generation, fake.pods) == (generation, pods)


def test_no_replica_is_lost_in_a_rollout(place: Place, fake: Deployments) -> None:
    release(place, 1)
    fake.least_ready = 3
    release(place, 2)
    assert versions(fake) == ["2"] * 3
    assert fake.least_ready == 3


def image_is_not_there(pod: Pod) -> None:
    pod.waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "airloop-serve:2"'}


def never_ready(pod: Pod) -> None:
    pod.waiting = None


def refuses(pod: Pod) -> None:
    pod.waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    pod.ended = {"exitCode": REFUSED, "reason": "Error", "message": "v2 is refused: the model answers 0.1 for flight 7"}


def test_a_model_that_its_replicas_refuse_is_taken_back(place: Place, fake: Deployments) -> None:
    release(place, 1)
    first = list(fake.pods)
    fake.least_ready = 3
    fake.node = refuses
    with pytest.raises(
        AirloopError, match=r"v2 was taken back, v1 is live again: .*ended: v2 is refused: the model answers 0.1"
    ):
        release(place, 2)
    assert history(place) == [("promote", 1), ("promote", 2), ("revert", 1)]
    assert fake.pods == first, "the pods of v1 were there all the time, and none was started for the way back"
    assert fake.least_ready == 3
    assert str(mlflow_registry.client().get_registered_model("flights").aliases["champion"]) == "1"
    last = place.book.latest()
    assert last is not None and "v2" in last.why


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (
            image_is_not_there,
            r"is at '1 of 3 replicas are new' .*\(airloop-online-.*: ImagePullBackOff \(Back-off pulling image",
        ),
        (never_ready, "does not become ready; its /readyz and its log say why"),
    ],
)
def test_a_rollout_that_makes_no_progress_takes_nothing_back(place: Place, fake: Deployments, fault, why: str) -> None:
    """An image that is not there, or a store: no evidence about the version, whose pods of before go on."""
    release(place, 1)
    fake.least_ready = 3
    fake.node = fault
    with pytest.raises(Unavailable, match=why):
        release(place, 2)
    assert history(place) == [("promote", 1), ("promote", 2)]
    assert fake.least_ready == 3

    fake.node = lambda pod: (setattr(pod, "waiting", None), setattr(pod, "ready", True))
    deploy.deploy(place.book, place.store)
    assert versions(fake) == ["2"] * 3


def test_a_replica_that_ended_for_another_model_is_no_evidence(place: Place, fake: Deployments) -> None:
    """It serves two models, and it is the other one that it refuses."""
    release(place, 1)
    other = {"spec": {"template": {"metadata": {"annotations": {"airloop.io/version-of-parcels": "7"}}}}}
    fake.apply(other, "airloop-deploy-parcels", force=True)

    def parcels_are_refused(pod: Pod) -> None:
        pod.waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
        pod.ended = {"exitCode": REFUSED, "reason": "Error", "message": "parcels: v7 is refused: no golden rows"}

    fake.node = parcels_are_refused
    with pytest.raises(Unavailable, match="CrashLoopBackOff"):
        release(place, 2)
    assert history(place) == [("promote", 1), ("promote", 2)]

    def flights_are_refused(pod: Pod) -> None:
        pod.waiting, pod.ready = None, pod.version == "1"
        pod.ended = {"exitCode": REFUSED, "reason": "Error", "message": "flights: v2 is refused: no golden rows"}

    fake.node = flights_are_refused
    with pytest.raises(AirloopError, match="v2 was taken back"):
        deploy.deploy(place.book, place.store)


def test_a_rollback_cuts_a_rollout_short_that_hangs(place: Place, fake: Deployments) -> None:
    """It lasted until the rollout's deadline, and then undid the rollback."""
    release(place, 1)
    looked = itertools.count()

    def node(pod: Pod) -> None:
        never_ready(pod)
        if next(looked) == 2:
            deploy.roll_back(1, "ann", "v2 answers nonsense", place.book, place.store)

    fake.node = node
    with pytest.raises(SupersededError, match=r"entry 3, a rollback to v1 by ann \(v2 answers nonsense\)"):
        release(place, 2)
    assert fake.reason != "ProgressDeadlineExceeded"
    deploy.deploy(place.book, place.store)
    assert history(place) == [("promote", 1), ("promote", 2), ("rollback", 1)]
    assert versions(fake) == ["1"] * 3


def test_a_deploy_that_was_held_up_cannot_bring_back_its_version(place: Place, fake: Deployments) -> None:
    """Between its look at the ledger and its change somebody rolled back, and the Deployment is theirs by then."""
    release(place, 1)

    def rolled_back() -> None:
        fake.before_patch = lambda: None
        entry = deploy.roll_back(1, "ann", "v2 answers nonsense", place.book, place.store)
        mark = {"metadata": {"annotations": {"airloop.io/ledger-entry-of-flights": str(entry.seq)}}}
        fake.apply(mark, "airloop-deploy-flights", force=True)

    fake.before_patch = rolled_back
    with pytest.raises(SupersededError, match="entry 3, a rollback to v1"):
        release(place, 2)
    assert [pod.version for pod in fake.started if pod.version == "2"] == [], "v2 was not begun"


def test_a_refusal_does_not_wait_for_the_deadline(place: Place, fake: Deployments) -> None:
    release(place, 1)
    fake.node = refuses
    with pytest.raises(AirloopError, match="v1 is live again"):
        release(place, 2)
    assert fake.reason != "ProgressDeadlineExceeded" and fake.stuck < 4


def test_wrong_answers_through_the_service_are_undone(place: Place, fake: Deployments) -> None:
    release(place, 1)
    fake.answers[2] = 0.9
    with pytest.raises(AirloopError, match=r"v2 was taken back, v1 is live again: At http.* answers 0\.900000"):
        release(place, 2)
    assert (history(place)[-1], versions(fake)) == (("revert", 1), ["1"] * 3)


def test_a_pod_that_leaves_may_answer_for_a_while(place: Place, fake: Deployments) -> None:
    release(place, 1)
    fake.leaving = [1, 1]
    release(place, 2)
    assert (history(place)[-1], fake.leaving) == (("promote", 2), [])


def test_old_answers_that_last_are_a_failure(place: Place, fake: Deployments, monkeypatch: pytest.MonkeyPatch) -> None:
    release(place, 1)
    monkeypatch.setattr(deployment.Deployment, "patience", 1.0)
    fake.leaving = [1] * 3
    with pytest.raises(AirloopError, match="answers with v1 in place of v2"):
        release(place, 2)
    assert history(place)[-1] == ("revert_unserved", 1), "nothing is known against v2"


@pytest.mark.parametrize("when", ["before", "during"])
def test_an_api_server_that_is_away_for_seconds_is_waited_for(place: Place, fake: Deployments, when: str) -> None:
    release(place, 1)
    if when == "before":
        fake.away(3)
    else:
        looked = itertools.count()

        def node(pod: Pod) -> None:
            """By looks and not by the clock, or a quick machine reaches the rollout's deadline first."""
            pod.ready = next(looked) > 2
            if not pod.ready and not fake.away_until:
                fake.away(3)

        fake.node = node
    began = time.monotonic()
    release(place, 2)
    assert time.monotonic() - began > 2
    assert (history(place)[-1], versions(fake)) == (("promote", 2), ["2"] * 3)


def test_an_api_server_that_stays_away_takes_nothing_back(
    place: Place, fake: Deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(place, 1)
    monkeypatch.setattr(waits, "AWAY_SECONDS", 1)
    fake.away(60)
    with pytest.raises(Unavailable, match=r"API does not answer.*clear this task"):
        release(place, 2)
    assert history(place) == [("promote", 1), ("promote", 2)]
    fake.away(0)
    deploy.deploy(place.book, place.store)
    assert versions(fake) == ["2"] * 3, "the next run heals"


def test_a_cluster_that_does_nothing_takes_nothing_back(
    place: Place, fake: Deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(place, 1)
    monkeypatch.setattr(rollout, "GRACE_SECONDS", -599)
    fake.asleep = True
    with pytest.raises(Unavailable, match="'the cluster has not seen it yet' for 1 s"):
        release(place, 2)
    assert history(place)[-1] == ("promote", 2)


def test_others_keep_what_is_theirs_and_the_ledger_has_what_is_its(place: Place, fake: Deployments) -> None:
    release(place, 1)
    by_hand = {"name": "online", "env": [{"name": VERSION, "value": "7"}, {"name": "LOG", "value": "debug"}]}
    fake.apply({"spec": {"template": {"spec": {"containers": [by_hand]}}}}, "kubectl-set", force=True)
    fake.apply({"spec": {"replicas": 5}}, "kube-controller-manager", force=True)
    release(place, 2)
    assert versions(fake) == ["2"] * 5, "the autoscaler's count, the ledger's version"
    env = {each["name"]: each.get("value") for each in fake.template["spec"]["containers"][0]["env"]}
    assert (env[VERSION], env["LOG"]) == ("2", "debug")


def test_a_first_model_that_fails_leaves_the_deployment_as_it_was(place: Place, fake: Deployments) -> None:
    before, generation = fake.template, fake.generation
    fake.node = refuses
    with pytest.raises(AirloopError, match="v1 was taken back, vNone is live again"):
        release(place, 1)
    assert history(place) == [("promote", 1), ("revert", None)]
    assert fake.template == before and fake.generation == generation + 2


@pytest.mark.parametrize(
    ("code", "hint"), [(404, "there is no such Deployment"), (403, "needs the Role airloop-deployer")]
)
def test_what_the_cluster_refuses_is_said_with_the_way_out(
    place: Place, fake: Deployments, code: int, hint: str
) -> None:
    fake.refuse = code
    with pytest.raises(AirloopError, match=hint):
        release(place, 1)
    assert history(place) == [("promote", 1)]


def test_a_paused_deployment_is_said_at_once(place: Place, fake: Deployments) -> None:
    fake.apply({"spec": {"paused": True}}, "kubectl-rollout", force=True)
    with pytest.raises(AirloopError, match=r"is paused.*kubectl rollout resume"):
        release(place, 1)


@pytest.mark.parametrize(
    ("name", "urls"), [("airloop-online", "http://a"), ("ml/online", "http://a,http://b"), ("a/b/c", "x")]
)
def test_settings_that_do_not_fit_are_named(
    monkeypatch: pytest.MonkeyPatch, place: Place, name: str, urls: str
) -> None:
    monkeypatch.setenv("AIRLOOP_ONLINE_DEPLOYMENT", name)
    monkeypatch.setenv("AIRLOOP_ONLINE_URL", urls)
    environment_module.environment.cache_clear()
    with pytest.raises(ConfigError, match=rf"AIRLOOP_ONLINE_DEPLOYMENT='{name}' with AIRLOOP_ONLINE_URL='{urls}'"):
        release(place, 1)


@pytest.mark.usefixtures("place")
def test_each_model_may_have_a_deployment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_MODEL", "card_payments")
    monkeypatch.setenv("AIRLOOP_ONLINE_DEPLOYMENT", "ml/online-{model}")
    monkeypatch.setenv("AIRLOOP_ONLINE_URL", "http://online-{model}:8000/")
    environment_module.environment.cache_clear()
    found = online.service()
    assert isinstance(found, Deployment)
    assert (found._namespace, found._name, found._model) == ("ml", "online-card-payments", "card_payments")
    assert found.urls == ["http://online-card-payments:8000"]


def test_the_deployment_is_asked_for_by_name_alone(place: Place, fake: Deployments) -> None:
    release(place, 1)
    assert {path for _, path in fake.requests} == {
        DEPLOYMENT,
        f"/api/v1/namespaces/{NAMESPACE}/pods",
        "/models/flights/predict",
    }
