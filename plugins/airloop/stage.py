"""Stages of dvc.yaml, and acts, as Airflow tasks: the one place that knows both."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, BaseOperator, get_parsing_context

from airloop.places import Engine, Place, place_of
from airloop.stage_spec import StageSpec, spec
from airloop.workspace import Arguments, WorkspaceOperator

ACT_MINUTES = 60
"""Deadline of an act's pod."""
LAUNCH_MINUTES = 15
"""What a pod may take to be scheduled, besides."""


def stage(*names: str, outlets: Sequence[Asset] = (), **kwargs: Any) -> BaseOperator:
    """The task that runs stage ``names[-1]``, and before it, in the same task, the light stages named before.

    ConfigError when dvc.yaml has no such stage or the environment names no such place.
    """
    specs = [spec(name) for name in names]
    main = specs[-1]
    place = _needed(place_of(main.name, main.engine), str(kwargs.get("task_id", main.name)))
    settings: dict[str, Any] = {
        "task_id": main.name,
        "outlets": list(outlets),
        "execution_timeout": timedelta(minutes=main.timeout_minutes),
        **kwargs,
    }
    match place:
        case Place.PROCESS:
            return WorkspaceOperator(action="stage", names=names, pool_slots=main.cpu, **settings)
        case Place.SPARK:
            from airloop.spark import WorkspaceSparkOperator

            memory = spark_memory(main.memory)
            return WorkspaceSparkOperator(action="stage", names=names, memory=memory, pool_slots=main.cpu, **settings)
        case Place.POD:
            return _pod(main, **{**settings, "before": list(names[:-1])})


def act(
    name: str,
    *,
    outlets: Sequence[Asset] = (),
    engine: Engine | str = Engine.PYTHON,
    workspace: bool = True,
    arguments: Arguments | None = None,
    cpu: int = 1,
    memory: str | None = None,
    **kwargs: Any,
) -> BaseOperator:
    """The task that runs tasks/<name>.py, which acts on the world and so is no stage of dvc.yaml.

    Args:
        name: the script.
        outlets: assets that have news when it succeeds.
        engine: ``spark`` for a script that spark-submit runs.
        workspace: False for one that reads no data of a run.
        arguments: from the task's context to the script's arguments.
        cpu: cores.
        memory: for one that is heavy, as Kubernetes writes it: it runs where heavy stages do. One without is small, talks
            to services, and runs beside Airflow whatever the place.
        kwargs: further settings of the task.
    """
    settings: dict[str, Any] = {"task_id": name, "outlets": list(outlets), "arguments": arguments, **kwargs}
    engine = Engine(engine)
    place = _needed(place_of(name, engine), str(kwargs.get("task_id", name))) if memory else Place.PROCESS
    match place:
        case Place.PROCESS:
            return WorkspaceOperator(action="act" if workspace else "direct", names=[name], pool_slots=cpu, **settings)
        case Place.SPARK:
            from airloop.spark import WorkspaceSparkOperator

            return WorkspaceSparkOperator(action="act", names=[name], memory=None, pool_slots=cpu, **settings)
        case Place.POD:
            assert memory is not None
            work = StageSpec(
                name=name, cmd=f"python tasks/{name}.py", by_month=False, engine=engine, cpu=cpu, memory=memory,
                timeout_minutes=ACT_MINUTES, act=True,
            )  # fmt: skip
            return _pod(work, **settings)


def _pod(spec: StageSpec, **settings: Any) -> BaseOperator:
    from airloop.pod import StagePodOperator, budgets

    # Each pod has its own deadline; the task has to last for all that may be lost.
    minutes = (spec.timeout_minutes + LAUNCH_MINUTES) * (int(budgets()["evictions"]) + 1)
    return StagePodOperator(spec=spec, **{**settings, "execution_timeout": timedelta(minutes=minutes)})


def _needed(place: Place, task_id: str) -> Place:
    """``place``, or the cheap one while another task of the DAG is about to run.

    Airflow parses the DAG's file again for each task that it starts, and says then which; only that task needs its
    operator, which costs 1.5 to 2.5 CPU-seconds to import. The others are there for the arrows.
    """
    running = get_parsing_context().task_id
    return place if running in (None, task_id) else Place.PROCESS


def spark_memory(kubernetes: str) -> str:
    """``4Gi`` as Spark and Java write it: ``4g``."""
    return kubernetes.removesuffix("i").lower()
