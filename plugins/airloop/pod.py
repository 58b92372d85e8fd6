"""Stages and heavy jobs as Kubernetes pods: `python -m tasks.running`, as anywhere, in an image of the stage's.

KubernetesPodOperator builds, finds, kills and defers; what counts as success, as a loss and as an error is decided here,
because it has called vanished pods successes before (apache/airflow#71202, #59626, #53015). Success is the result that the
pod recorded in the store under its own name, and nothing else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import yaml
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout
from kubernetes.client import models as k8s

from airloop.keys import require_interval, run_key
from airloop.pod_end import End, Patience, Termination, end_of
from airloop.pod_group import GroupWatch
from airloop.pod_spec import EVICTIONS, SINCE, environment, place_on_nodes, settings, usage
from airloop.pod_watch import PodWatch, Stopped
from airloop.process import Command, CommandError, Outcome, conclude
from airloop.running import Arguments, RunOperator, announce_all, begins_run, call, report, running_argv, whose
from airloop.settings import PodSettings, code, load
from tasks.core import results
from tasks.running.catalogue import Work

LOG_SECONDS = 60
"""How often a deferred task wakes up to show what its pod wrote meanwhile."""
WANTED = frozenset({"running", "deferred", "up_for_retry", "up_for_reschedule", "scheduled", "queued"})
"""States of a task that a try works on, or will: also of one whose worker Airflow has given up."""


class StagePodOperator(RunOperator, KubernetesPodOperator):
    """One stage or job in one pod after another, until one records a result or a budget is spent.

    Evictions, preemptions, lost nodes and images that could not be pulled count against `pods.evictions` of params.yaml,
    and the task starts the next pod itself, on demand after `pods.on_demand_after` losses on spot. Errors of the code are
    what Airflow sees: a refusal fails for good, a crash is tried again up to `pods.errors` times unless it says the same
    as before.

    Args:
        model: name of the model whose run it is.
        work: the stage of dvc.yaml, or the job of jobs.yaml.
        before: light stages that run on the worker first.
        arguments: further arguments for a job's command.
    """

    def __init__(
        self,
        *,
        model: str,
        work: Work,
        before: Sequence[str] = (),
        arguments: Arguments | None = None,
        **kwargs: Any,
    ) -> None:
        self.model = model
        self.spec = work
        self.before = list(before)
        self.further = arguments
        self.patience = Patience()
        self._command = Command()
        self._evictions = 0
        self._created = 0.0
        self._begins = False
        self.stopped = False
        defaults: dict[str, Any] = {
            "durable": True,  # a worker that dies leaves the pod, and the next try finds it (_find)
            "deferrable": load(PodSettings).deferrable,
            "do_xcom_push": True,  # of what execute returns: names and digests
            "on_finish_action": "delete_pod",
            "on_kill_action": "delete_pod",
            "get_logs": True,
            "logging_interval": LOG_SECONDS,
            "schedule_timeout_seconds": int(self.patience.schedule),
            "startup_timeout_seconds": int(self.patience.pull),  # then the task wakes up and looks at the pod itself
        }
        super().__init__(**{**settings(work, model), **defaults, **kwargs})
        if work.nodes > 1:
            self.deferrable = False  # the provider's trigger looks at one pod

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> k8s.V1Pod:
        """The pod for this run and this many losses."""
        if context is not None:
            self.arguments = self._argv(context)
            self.env_vars = environment(context)
            interval = require_interval(context)
            self.labels = {**self.labels, "airloop.io/interval": interval, "airloop.io/run": run_key(context)}
        # The sidecar for XCom dies first at times and hides the real error; results go to the store by name.
        push, self.do_xcom_push = self.do_xcom_push, False
        try:
            pod = super().build_pod_request_obj(context, dry_run=dry_run)
        finally:
            self.do_xcom_push = push
        pod.metadata.labels[EVICTIONS] = str(self._evictions)
        place_on_nodes(pod, self.spec, spot=self._on_spot())
        return pod

    def _on_spot(self) -> bool:
        return self.spec.spot and self._evictions < int(budgets()["on_demand_after"])

    def _argv(self, context: Any) -> list[str]:
        """The pod's arguments: those of a process."""
        arguments = list(self.further(context)) if self.further else []
        rest = ["--rest", *arguments] if arguments else []
        action = "stage" if self.spec.stage else "job"
        return running_argv(action, [self.spec.name], context, rest, model=self.model, begins=self._begins)[1:]

    def perform(self, context: Any) -> dict[str, Any]:
        """Follow the pod that an earlier try left; else take the result from the cache, else start a pod."""
        self.name = self._set_name(self.name)
        if self._find(context):
            return self._follow(context)
        begins = begins_run(self)
        if self.before:
            self._running("stage", self.before, context, begins=begins)
            begins = False
        if self.spec.stage:
            known = self._running("restore", [self.spec.name], context, begins=begins)
            begins = False
            if known["known"]:
                self.log.info("%s: nothing changed since it was made; no pod is needed", self.spec.name)
                return known
        self._begins = begins
        return self._start(context)

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Go on where the triggerer left off, whatever it believes to have seen."""
        self._evictions, self._created = int(event[EVICTIONS]), float(event[SINCE])
        self.pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name=event["name"], namespace=event["namespace"]))
        watch = self._watch(since=event.get("last_log_time"))
        pod = watch.read()
        end = self._end(pod)
        if end is None and event["status"] == "timeout" and pod is not None and pod.status.phase != "Pending":
            watch.delete(pod)
            raise AirflowFailException(f"{event['message']} Raise `timeout_minutes` of {self.spec.name} in dvc.yaml.")
        watch.show(pod, whole=end is not None)
        result = self._concluded(end, watch, context) if end else self._follow(context)
        announce_all(self.outlets, result, context)
        return result

    def on_kill(self) -> None:
        """End the worker's own process; `_follow` decides about the pod, since a signal says nothing of who wants what."""
        self._command.stop()
        self.stopped = True

    def _find(self, context: Any) -> bool:
        """Whether an earlier try, whose worker died, left a pod that is still at work; others it left are deleted."""
        namespace = self.build_pod_request_obj(context).metadata.namespace
        selector = self._build_find_pod_label_selector(context, exclude_checked=False)
        watch = self._watch()
        found = watch.find(namespace, selector)
        at_work = [pod for pod in found if not pod.metadata.deletion_timestamp and not self._end(pod)]
        at_work.sort(key=lambda pod: pod.metadata.creation_timestamp)
        for pod in found:
            if pod not in at_work[-1:]:
                watch.delete(pod)
        if not at_work:
            return False
        self.pod = at_work[-1]
        self._created = self.pod.metadata.creation_timestamp.timestamp()
        self._evictions = int(self.pod.metadata.labels.get(EVICTIONS, 0))
        self.log.info("%s is still at work in pod %s", self.spec.name, self.pod.metadata.name)
        return True

    def _start(self, context: Any) -> dict[str, Any]:
        self.pod = self.pod_request_obj = self.build_pod_request_obj(context)
        self._watch().create()
        self._created = time.time()
        self.log.info("%s works in pod %s", self.spec.name, self.pod.metadata.name)
        return self._follow(context)

    def _end(self, pod: Any) -> End | None:
        return end_of(pod, self.base_container_name, self.patience)

    def _follow(self, context: Any) -> dict[str, Any]:
        if self.deferrable:
            self.trigger_kwargs = {EVICTIONS: self._evictions, SINCE: self._created}
            self.invoke_defer_method(context=context)  # does not return, unless the pod has ended already
        watch = self._watch()
        try:
            end = watch.to_the_end(self.patience)
        except Stopped:
            raise self._left(watch, context) from None
        except AirflowTaskTimeout:
            watch.delete(self.pod)
            raise
        return self._concluded(end, watch, context)

    def _left(self, watch: PodWatch, context: Any) -> Exception:
        """What to raise when this worker is stopped: a drained node leaves the pod to the next try, a person ends it."""
        if unwanted(context):
            watch.delete(self.pod)
            return CommandError(f"{self.spec.name} was ended by a person, and its pod with it.")
        return CommandError(f"This worker was stopped. {self.spec.name} goes on in its pod, and the next try finds it.")

    def _concluded(self, end: End, watch: PodWatch, context: Any) -> dict[str, Any]:
        """Return the result, start the next pod, or raise what makes Airflow skip, fail for good or try again."""
        assert self.pod is not None
        name = self.pod.metadata.name
        found = self._outcome(name, end, watch, context)
        watch.delete(self.pod, at_once=end.kind is Termination.DISRUPTED)  # a node that is gone would never confirm
        if recorded := found["recorded"]:
            result = results.parse(recorded)
            made = report(conclude(Outcome(result.exit_code, result)))
            return {**made, "digest": recorded["digest"]}
        if end.kind is Termination.DISRUPTED:
            return self._again(end, context)
        raise self._failure(end, watch.last, found["errors"])

    def _again(self, end: End, context: Any) -> dict[str, Any]:
        allowed = int(budgets()["evictions"])
        if self._evictions >= allowed:
            raise AirflowFailException(
                f"{self.spec.name} lost {self._evictions + 1} pods, and pods.evictions in params.yaml allows {allowed}; the "
                f"last one: {end.why}. Clear the task when the cluster is well again."
            )
        self._evictions += 1
        self.log.warning("Pod lost (%s of %s): %s. Starting another.", self._evictions, allowed, end.why)
        return self._start(context)

    def _failure(self, end: End, last: str, before: list[str]) -> Exception:
        """What to raise for an end that recorded nothing; ``before`` are earlier crashes of this task in this run."""
        if end.kind is Termination.NON_RETRYABLE:
            return AirflowFailException(f"{self.spec.name}: {end.why}.")
        reason = last if end.code else "the pod ended well but recorded no result"
        if reason in before:
            return AirflowFailException(f"The same error as before, so trying again would not help: {reason}")
        allowed = int(budgets()["errors"])
        if len(before) >= allowed:
            return AirflowFailException(f"Error {len(before) + 1}, and pods.errors allows {allowed}: {reason}")
        return CommandError(f"{end.why}: {reason}")

    def _outcome(self, name: str, end: End, watch: PodWatch, context: Any) -> dict[str, Any]:
        """Keep what the pod used, and read what it recorded and what went wrong before."""
        used = usage(self.spec, watch.seconds(self._created), spot=self._on_spot())
        used |= {"outcome": end.kind, "why": end.why}
        if end.kind is Termination.COMPLETED and end.code:
            used["error"] = watch.last  # which counts unless the pod recorded how it ended
        rest = [json.dumps(used), "--pod", name, *whose(self.model, context)]
        return call(self._command, ["-m", "tasks.running", "pod-result", self.spec.name, *rest], context, self.log)

    def _watch(self, since: Any = None) -> PodWatch:
        return PodWatch(self, since) if self.spec.nodes == 1 else GroupWatch(self, self.patience, since)

    def _running(self, action: str, names: Sequence[str], context: Any, *, begins: bool = False) -> dict[str, Any]:
        argv = running_argv(action, names, context, model=self.model, begins=begins)
        return call(self._command, argv, context, self.log)


def budgets() -> dict[str, Any]:
    """The section `pods` of params.yaml, which tasks/settings/pod_params.py explains and checks."""
    return dict(yaml.safe_load((code() / "params.yaml").read_text())["pods"])


def unwanted(context: Any) -> bool:
    """Whether a person ended, cleared or deleted this task, so that no try of it waits for its pod."""
    run, task = context["dag_run"], context["task"].task_id
    try:
        states = context["ti"].get_task_states(dag_id=run.dag_id, task_ids=[task], run_ids=[run.run_id])
    except Exception:  # noqa: BLE001 - without an answer the pod is left to its own deadline, which loses nothing
        return False
    return states.get(run.run_id, {}).get(task) not in WANTED
