"""The real operator against an API server with faults: what each fault must come to, deferred or not."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from airloop.pod_end import Patience
from airloop.pod_spec import EVICTIONS
from airloop.process import CommandError, WaitError

from tests.kube.cluster import Cluster, Pod
from tests.kube.conftest import Project, Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

HELD = """
    print("working", flush=True)
    HOLD
    Path("toy.txt").write_text("made")
"""


def meanwhile(do: Callable[[], None]) -> threading.Thread:
    """Do it while the task runs."""
    thread = threading.Thread(target=do)
    thread.start()
    return thread


def spot(pod: Pod) -> bool:
    return bool((pod.spec.get("nodeSelector") or {}).get("airloop.io/capacity") == "spot")


def test_a_pod_that_records_its_result_is_a_success_and_is_deleted(
    cluster: Cluster, project: Project, either: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("print('epoch 1 loss 0.5'); Path('toy.txt').write_text('made')")
    result = either.run()
    assert result["stages"] == ["toy"]
    assert project.outputs() == {"toy.txt": hashlib.md5(b"made", usedforsecurity=False).hexdigest()}
    assert len(result["digest"]) == 64
    assert cluster.left() == [] and len(cluster.created) == 1
    assert "epoch 1 loss 0.5" in capsys.readouterr().out
    (used,) = project.usage()
    assert (used["stage"], used["outcome"], used["cpu"], used["memory_gib"], used["spot"]) == (
        "toy",
        "completed",
        1,
        1.0,
        True,
    )
    assert either.deferred == (1 if either.deferrable else 0)


def test_a_known_result_starts_no_pod(cluster: Cluster, project: Project, task: Task) -> None:
    task.run()
    made = project.outputs()
    second = Task(deferrable=False)
    second.context["dag_run"].run_id = "another"
    assert second.run()["known"] is True
    assert len(cluster.created) == 1
    locks = [yaml.safe_load(project.store.read(n)) for n in project.store.names("runs") if n.endswith("dvc.lock")]
    assert [lock["stages"]["toy"]["outs"][0]["md5"] for lock in locks] == [made["toy.txt"]] * 2


@pytest.mark.parametrize(
    "fault",
    [Cluster.evict, Cluster.vanish, Cluster.restart_node],
    ids=["evicted", "vanished", "restarted"],
)
def test_a_lost_pod_is_followed_by_another_and_is_no_error(
    cluster: Cluster, project: Project, either: Task, fault: Callable[[Cluster, Pod], None]
) -> None:
    project.write(HELD)

    def lose() -> None:
        for nth in (1, 2):
            fault(cluster, cluster.wait_for("toy", nth=nth))
        project.release()

    losing = meanwhile(lose)
    assert either.run()["stages"] == ["toy"]
    losing.join()
    assert [spot(pod) for pod in cluster.created] == [True, True, False], "on demand after two losses"
    assert [pod.metadata["labels"][EVICTIONS] for pod in cluster.created] == ["0", "1", "2"]
    assert [use["outcome"] for use in sorted(project.usage(), key=lambda u: u["outcome"])] == [
        "completed",
        "disrupted",
        "disrupted",
    ]
    assert cluster.left() == []


def test_the_eviction_api_and_kubectl_delete_are_losses_too(cluster: Cluster, project: Project, either: Task) -> None:
    project.write(HELD)

    def lose() -> None:
        import httpx

        base = f"http://127.0.0.1:{cluster.port}/api/v1/namespaces/ml/pods"
        httpx.post(f"{base}/{cluster.wait_for('toy').name}/eviction", json={})
        httpx.delete(f"{base}/{cluster.wait_for('toy', nth=2).name}")
        cluster.wait_for("toy", nth=3)
        project.release()

    losing = meanwhile(lose)
    assert either.run()["stages"] == ["toy"]
    losing.join()
    assert len(cluster.created) == 3 and cluster.left() == []


def test_a_pod_on_a_node_that_is_dead_is_given_up(cluster: Cluster, project: Project, task: Task) -> None:
    project.write(HELD)

    def lose() -> None:
        cluster.lose_node(cluster.wait_for("toy"))
        cluster.wait_for("toy", nth=2)
        project.release()

    losing = meanwhile(lose)
    assert task.run(Patience(deletion=1))["stages"] == ["toy"]
    losing.join()
    assert len(cluster.created) == 2 and cluster.left() == []


def test_more_losses_than_allowed_fail_for_good_and_say_so(cluster: Cluster, project: Project, task: Task) -> None:
    params = project.root / "params.yaml"
    params.write_text(params.read_text().replace("evictions: 6", "evictions: 1"))
    project.write(HELD)

    def lose() -> None:
        for nth in (1, 2):
            cluster.evict(cluster.wait_for("toy", nth=nth))

    losing = meanwhile(lose)
    with pytest.raises(AirflowFailException, match=r"lost 2 pods, and pods.evictions .* allows 1; .*Evicted"):
        task.run()
    losing.join()
    assert cluster.left() == []


def test_a_pod_that_ends_well_without_a_result_is_no_success(cluster: Cluster, project: Project, task: Task) -> None:
    """As a pod is seen that was killed and whose restart policy or node reported 0 (apache/airflow#71202)."""

    def empty(pod: Pod) -> None:
        pod.body["spec"]["containers"][0]["command"] = ["true"]

    cluster.on_create = empty
    with pytest.raises(CommandError, match="recorded no result"):
        task.run()
    assert cluster.left() == []


def test_a_result_that_was_recorded_counts_even_if_the_pod_is_lost_then(
    cluster: Cluster, project: Project, either: Task
) -> None:
    def vanish_when_recorded() -> None:
        while not [name for name in project.store.names("runs") if "/pods/" in name]:
            time.sleep(0.02)
        cluster.vanish(cluster.created[0])

    losing = meanwhile(vanish_when_recorded)
    assert either.run()["stages"] == ["toy"]
    losing.join()
    assert len(cluster.created) == 1


def test_a_refusal_fails_at_once_with_its_reason(cluster: Cluster, project: Project, task: Task) -> None:
    project.write(ends("DataError('interval 2013-01 has no rows; land it again.')"))
    with pytest.raises(AirflowFailException, match=r"^interval 2013-01 has no rows; land it again\.$"):
        task.run()
    assert len(cluster.created) == 1 and cluster.left() == []


def test_a_skip_is_a_skip(project: Project, task: Task) -> None:
    project.write(ends("Skip('nothing new')"))
    with pytest.raises(AirflowSkipException, match=r"^nothing new$"):
        task.run()


def test_what_it_waits_for_may_be_there_at_the_next_try(cluster: Cluster, project: Project, either: Task) -> None:
    project.write(ends("Unavailable('the registry does not answer')"))
    for _ in range(3):  # it is no error of the code, so no budget is spent on it
        with pytest.raises(WaitError, match=r"^the registry does not answer$"):
            either.run()
    project.write("Path('toy.txt').write_text('made')")
    either.context["dag_run"].run_id = "another"
    assert either.run()["stages"] == ["toy"]
    assert cluster.left() == []


@pytest.mark.parametrize(
    "script",
    [
        "print('error: 31% of the rows are bad', file=sys.stderr); sys.exit(1)",
        "print('error: 31% of the rows are bad', file=sys.stderr); sys.exit(65)",
        "print('error: 31% of the rows are bad', file=sys.stderr); sys.exit(99)",
    ],
)
def test_what_a_stage_prints_is_no_result(cluster: Cluster, project: Project, task: Task, script: str) -> None:
    project.write(script)
    with pytest.raises(CommandError, match="31% of the rows are bad"):
        task.run()
    with pytest.raises(AirflowFailException, match=r"same error as before.*31% of the rows"):
        task.run()
    assert len(cluster.created) == 2 and cluster.left() == []


def test_a_crash_is_tried_again_but_not_the_same_crash_twice(cluster: Cluster, project: Project, task: Task) -> None:
    project.write("raise RuntimeError('index out of range')")
    with pytest.raises(CommandError, match="index out of range"):
        task.run()
    with pytest.raises(AirflowFailException, match=r"same error as before.*index out of range"):
        task.run()
    assert len(cluster.created) == 2 and cluster.left() == []


def test_other_crashes_are_counted(cluster: Cluster, project: Project, task: Task) -> None:
    project.write("raise RuntimeError(f'crash {time.time()}')")
    with pytest.raises(CommandError, match="crash"):
        task.run()
    with pytest.raises(AirflowFailException, match=r"Error 2, and pods.errors allows 1: .*crash"):
        task.run()


def test_out_of_memory_says_what_to_change(cluster: Cluster, project: Project, task: Task) -> None:
    project.write("HOLD")

    def kill() -> None:
        pod = cluster.wait_for("toy")
        pod.state = {"terminated": {"reason": "OOMKilled"}}
        cluster.kill(pod)

    killing = meanwhile(kill)
    with pytest.raises(AirflowFailException, match=r"ran out of memory: raise `memory` .* dvc.yaml"):
        task.run()
    killing.join()
    assert len(cluster.created) == 1


def test_an_image_that_cannot_be_pulled_is_a_loss_until_the_budget_is_spent(
    cluster: Cluster, project: Project, either: Task
) -> None:
    def stuck(pod: Pod) -> None:
        if len(cluster.created) < 3:
            pod.state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image: bad gateway"}}

    cluster.on_create = stuck
    assert either.run(Patience(pull=0.5))["stages"] == ["toy"]
    assert len(cluster.created) == 3 and cluster.left() == []


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("CreateContainerConfigError", "failed to sync secret cache: timed out waiting for the condition"),
        ("CreateContainerError", "context deadline exceeded"),
    ],
)
def test_a_node_that_is_slow_to_start_a_container_is_waited_for(
    cluster: Cluster, project: Project, either: Task, reason: str, message: str
) -> None:
    cluster.on_create = lambda pod: cluster.start_late(pod, 3, reason, message)
    assert either.run()["stages"] == ["toy"]
    assert len(cluster.created) == 1 and cluster.left() == []


def test_a_secret_that_does_not_come_fails_and_says_which(cluster: Cluster, project: Project, task: Task) -> None:
    def missing(pod: Pod) -> None:
        pod.state = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "keys" not found'}}

    cluster.on_create = missing
    with pytest.raises(AirflowFailException, match='cannot start: CreateContainerConfigError: secret "keys" not found'):
        task.run(Patience(mistake=1))
    assert len(cluster.created) == 1 and cluster.left() == []


def test_a_wrong_image_name_fails_at_once(cluster: Cluster, project: Project, task: Task) -> None:
    def wrong(pod: Pod) -> None:
        pod.state = {"waiting": {"reason": "InvalidImageName", "message": "couldn't parse image name"}}

    cluster.on_create = wrong
    with pytest.raises(AirflowFailException, match="InvalidImageName: couldn't parse"):
        task.run()
    assert len(cluster.created) == 1 and cluster.left() == []


def test_an_api_server_that_is_away_is_waited_for(cluster: Cluster, project: Project, either: Task) -> None:
    project.write(HELD)

    def away() -> None:
        cluster.wait_for("toy")
        cluster.away(61)
        time.sleep(2)
        project.release()

    leaving = meanwhile(away)
    assert either.run()["stages"] == ["toy"]
    leaving.join()
    assert len(cluster.created) == 1 and cluster.left() == []


def test_a_restarted_worker_finds_its_pod_again(cluster: Cluster, project: Project, either: Task) -> None:
    """The first try's worker is gone in mid-stage, with no chance to clean up: what it knew is lost, the pod is not."""
    project.write(HELD)
    lost: Any = either.new()
    lost.deferrable = False
    worker = threading.Thread(target=_until_killed, args=(lost, either.context), daemon=True)
    worker.start()
    cluster.wait_for("toy")
    lost.client.read_namespaced_pod = _die
    worker.join(20)
    releasing = threading.Timer(1, project.release)
    releasing.start()
    assert either.run()["stages"] == ["toy"]
    releasing.join()
    assert len(cluster.created) == 1 and cluster.left() == []


@pytest.mark.parametrize("state", ["running", "up_for_retry", "queued", "no answer"])
def test_a_drained_worker_leaves_its_pod_and_the_next_try_finds_it(
    cluster: Cluster, project: Project, task: Task, state: str
) -> None:
    """As a worker whose node is drained, or whose heartbeats were late: SIGTERM says nothing of who wants the pod."""
    project.write(HELD)
    stopped = stop(task, lambda: cluster.wait_for("toy"), state=state)
    assert isinstance(stopped.error, CommandError), "Airflow tries again"
    (pod,) = cluster.created
    assert pod.phase == "Running"
    task.state = "running"
    project.release()
    assert task.run()["stages"] == ["toy"]
    assert cluster.created == [pod] and cluster.left() == []


@pytest.mark.parametrize("state", ["failed", "success", "restarting", "skipped", None])
def test_a_person_who_ends_clears_or_deletes_the_task_ends_its_pod(
    cluster: Cluster, project: Project, task: Task, state: str | None
) -> None:
    project.write(HELD)
    stopped = stop(task, lambda: cluster.wait_for("toy"), state=state)
    assert isinstance(stopped.error, CommandError) and cluster.left() == []
    (pod,) = cluster.created
    assert pod.process is not None and pod.process.returncode not in {None, 0}


def test_killing_a_deferred_task_ends_its_pod(cluster: Cluster, project: Project) -> None:
    """Airflow's triggerer calls on_kill of the trigger when a person ends a deferred task, and not when it stops itself."""
    project.write(HELD)
    task = Task(deferrable=True)
    task.context["ti"].start_date = dt.datetime.now(dt.UTC)
    with pytest.raises(TaskDeferred) as deferred:
        task.new().execute(task.context)
    pod = cluster.wait_for("toy")
    asyncio.run(deferred.value.trigger.on_kill())
    assert cluster.left() == []
    assert pod.process is not None and pod.process.returncode not in {None, 0}


class Stopped(threading.Thread):
    """A try in a thread; ``error`` is what it raised."""

    def __init__(self, operator: Any, context: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._operator, self._context = operator, context

    def run(self) -> None:
        """Do the try."""
        try:
            self._operator.execute(self._context)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error


def stop(task: Task, ready: Callable[[], object], *, state: str | None = "running") -> Stopped:
    """Run a try of ``task`` until ``ready`` returns, then signal it as Airflow does, which has the task in ``state``."""
    operator = task.new()
    working = Stopped(operator, task.context)
    working.start()
    ready()
    task.state = state
    operator.on_kill()
    working.join(60)
    assert not working.is_alive()
    return working


def ends(error: str) -> str:
    """A stage that ends with ``error`` of tasks.core.errors, as every stage does."""
    return f"""
        from tasks.core.errors import DataError, Skip, Unavailable, run_main
        def main():
            raise {error}
        run_main(main)
    """


class _Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


def _die(*_: object, **__: object) -> None:
    raise _Killed


def _until_killed(operator: Any, context: dict[str, Any]) -> None:
    with contextlib.suppress(BaseException):  # a killed worker says nothing
        operator.execute(context)
