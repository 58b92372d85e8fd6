"""Stages of dvc.yaml, and jobs of jobs.yaml, as Airflow tasks: the one place that knows both."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, BaseOperator, get_parsing_context

from airloop.model import Model
from airloop.places import Place, place_of
from airloop.running import Arguments, ProcessOperator, RunOperator
from airloop.settings import code
from tasks.running.catalogue import Catalogue, Work

LAUNCH_MINUTES = 15
"""What a pod may take to be scheduled, besides."""


def stage(
    model: Model, *names: str, resumable: bool = False, outlets: Sequence[Asset] = (), **kwargs: Any
) -> BaseOperator:
    """Make the task that runs stage ``names[-1]``, and before it, in the same task, the light stages named before.

    Args:
        model: whose run it is.
        names: stages of dvc.yaml.
        resumable: whether a run that has waited in vain is started again by itself (`ResumeOperator`).
        outlets: assets that have news when it succeeds.
        kwargs: further settings of the task.

    Raises:
        ConfigError: dvc.yaml has no such stage, or the environment names no such place.
    """
    works = [Catalogue(code()).stage(name) for name in names]
    task = _task(works[-1], "stage", {"model": model.name, "names": list(names), "outlets": list(outlets), **kwargs})
    task.resumable = resumable
    return task


def job(
    model: Model, name: str, *, outlets: Sequence[Asset] = (), arguments: Arguments | None = None, **kwargs: Any
) -> BaseOperator:
    """Make the task that runs job ``name`` of jobs.yaml.

    Args:
        model: whose run it is.
        name: the job.
        outlets: assets that have news when it succeeds.
        arguments: from the task's context to further arguments of the job's command.
        kwargs: further settings of the task.

    Raises:
        ConfigError: jobs.yaml has no such job, or the environment names no such place.
    """
    work = Catalogue(code()).job(name)
    settings = {"model": model.name, "names": [name], "outlets": list(outlets), "arguments": arguments, **kwargs}
    return _task(work, "job" if work.window else "direct", settings)


def _task(work: Work, action: str, settings: dict[str, Any]) -> RunOperator:
    settings = {
        "task_id": work.name,
        "execution_timeout": timedelta(minutes=work.timeout_minutes),
        **settings,
    }
    match _needed(work, str(settings["task_id"])):
        case Place.PROCESS:
            return ProcessOperator(action=action, pool_slots=work.cpu, **settings)
        case Place.SPARK:
            from airloop.spark import SparkOperator

            return SparkOperator(action=action, memory=spark_memory(work.memory), pool_slots=work.cpu, **settings)
        case Place.POD:
            from airloop.pod import StagePodOperator, budgets

            # Each pod has its own deadline; the task has to last for all that may be lost.
            minutes = (work.timeout_minutes + LAUNCH_MINUTES) * (int(budgets()["evictions"]) + 1)
            names = settings.pop("names")
            timeout = timedelta(minutes=minutes)
            return StagePodOperator(work=work, before=names[:-1], **{**settings, "execution_timeout": timeout})


def _needed(work: Work, task_id: str) -> Place:
    """Where ``work`` runs, or the cheap place while another task of the DAG is about to run.

    Airflow parses the DAG's file again for each task that it starts, and says then which; only that task needs its
    operator, which costs 1.5 to 2.5 CPU-seconds to import. The others are there for the arrows.
    """
    if work.worker:
        return Place.PROCESS
    place = place_of(work.name, work.engine)
    running = get_parsing_context().task_id
    return place if running in (None, task_id) else Place.PROCESS


def spark_memory(kubernetes: str) -> str:
    """``4Gi`` as Spark and Java write it: ``4g``."""
    return kubernetes.removesuffix("i").lower()
