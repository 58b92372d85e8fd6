"""A stage that two pods work on together: the real operator against an API server with Jobs and faults."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import yaml
from airloop.pod_spec import EVICTIONS
from airloop.process import CommandError

from tests.kube.cluster import Cluster
from tests.kube.conftest import Project, Task
from tests.kube.jobs import INDEX
from tests.kube.test_pods import _die, _until_killed, meanwhile, stop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TOGETHER = """
    rank = os.environ["PET_NODE_RANK"]
    print(f"rank {rank} of {os.environ['PET_NNODES']}, by {os.environ['PET_MASTER_ADDR']}", flush=True)
    HOLD
    if rank == "0":
        Path("toy.txt").write_text("made")
"""


@pytest.fixture
def together(project: Project) -> Project:
    """The stage in two pods, which wait until they are let go."""
    path = project.root / "dvc.yaml"
    stages = yaml.safe_load(path.read_text())
    stages["stages"]["toy"]["meta"]["nodes"] = 2
    path.write_text(yaml.safe_dump(stages))
    project.write(TOGETHER)
    return project


def test_rank_0_records_the_result_and_all_is_deleted(
    cluster: Cluster, together: Project, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    together.release()
    result = task.run()
    assert result["stages"] == ["toy"] and list(together.outputs()) == ["toy.txt"]
    assert [pod.metadata["labels"][INDEX] for pod in cluster.created] == ["0", "1"]
    assert cluster.left() == []
    job = cluster.created[0].metadata["labels"]["batch.kubernetes.io/job-name"]
    assert f"rank 0 of 2, by {job}-0.{job}" in capsys.readouterr().out
    assert f"rank 1 of 2, by {job}-0.{job}" in "".join(cluster.created[1].log)
    (used,) = together.usage()
    assert (used["pod"], used["outcome"]) == (job, "completed")


@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_is_lost_all_begin_again_and_it_is_no_error(
    cluster: Cluster, together: Project, task: Task, rank: int
) -> None:
    def lose() -> None:
        cluster.wait_for("toy", nth=2)
        cluster.evict(cluster.wait_for("toy", nth=rank + 1))
        cluster.wait_for("toy", nth=3)
        together.release()

    losing = meanwhile(lose)
    assert task.run()["stages"] == ["toy"]
    losing.join()
    assert [pod.metadata["labels"][EVICTIONS] for pod in cluster.created] == ["0", "0", "1", "1"]
    assert sorted(use["outcome"] for use in together.usage()) == ["completed", "disrupted"]
    assert cluster.left() == []


def test_an_error_of_any_is_the_group_s_and_says_its_reason(cluster: Cluster, together: Project, task: Task) -> None:
    together.write(TOGETHER.replace("HOLD", "if rank == '1': raise RuntimeError('rank 1 has no rows')\n    HOLD"))
    with pytest.raises(CommandError, match="rank 1 has no rows"):
        task.run()
    assert len(cluster.created) == 2 and cluster.left() == []


def test_a_person_who_ends_the_task_ends_them_all(cluster: Cluster, together: Project) -> None:
    task = Task(deferrable=True)  # which a group never is
    working = stop(task, lambda: [cluster.wait_for("toy", nth=nth) for nth in (1, 2)], state="failed")
    assert isinstance(working.error, CommandError) and cluster.left() == []
    assert all(pod.process is not None and pod.process.returncode not in {None, 0} for pod in cluster.created)


def test_a_drained_worker_leaves_its_group_and_the_next_try_finds_it(
    cluster: Cluster, together: Project, task: Task
) -> None:
    stop(task, lambda: [cluster.wait_for("toy", nth=nth) for nth in (1, 2)])
    together.release()
    assert task.run()["stages"] == ["toy"]
    assert len(cluster.created) == 2 and cluster.left() == []


def test_a_restarted_worker_finds_its_group_again(cluster: Cluster, together: Project, task: Task) -> None:
    lost: Any = task.new()
    worker = threading.Thread(target=_until_killed, args=(lost, task.context), daemon=True)
    worker.start()
    cluster.wait_for("toy", nth=2)
    lost.client.list_namespaced_pod = _die
    worker.join(20)
    releasing = threading.Timer(1, together.release)
    releasing.start()
    assert task.run()["stages"] == ["toy"]
    releasing.join()
    assert len(cluster.created) == 2 and cluster.left() == []
