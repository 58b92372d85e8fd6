"""Stages and heavy acts as Kubernetes pods: `python -m tasks.common.pod` around the stage's own argv, in its own image.

KubernetesPodOperator builds, finds, kills and defers; what counts as success, as a loss and as an error is decided here,
because it has called vanished pods successes before (apache/airflow#71202, #59626, #53015). Success is the result that the
pod recorded in the store under its own name, and nothing else.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any

import yaml
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from kubernetes.client import models as k8s

from airloop.keys import require_month, run_key
from airloop.pod_end import End, Kind, Patience, end_of
from airloop.pod_group import GroupWatch
from airloop.pod_spec import EVICTIONS, SINCE, environment, place_on_nodes, settings, usage
from airloop.pod_watch import PodWatch
from airloop.process import EXIT_SKIP, Command, CommandError, Listener
from airloop.stage_spec import StageSpec
from airloop.workspace import Arguments, announce_all, begins_run, call, code, workspace_argv

LOG_SECONDS = 60
"""How often a deferred task wakes up to show what its pod wrote meanwhile."""


class StagePodOperator(KubernetesPodOperator):
    """One stage or act in one pod after another, until one records a result or a budget is spent.

    Evictions, preemptions, lost nodes and images that could not be pulled count against `pods.evictions` of params.yaml,
    and the task starts the next pod itself, on demand after `pods.on_demand_after` losses on spot. Errors of the code are
    what Airflow sees: a refusal fails for good, a crash is tried again up to `pods.errors` times unless it says the same
    as before.

    Args:
        spec: the stage of dvc.yaml, or the act.
        before: light stages that run on the worker first.
        arguments: further arguments for an act's script.
    """

    def __init__(
        self, *, spec: StageSpec, before: Sequence[str] = (), arguments: Arguments | None = None, **kwargs: Any
    ) -> None:
        self.spec = spec
        self.before = list(before)
        self.further = arguments
        self.patience = Patience()
        self._command = Command()
        self._evictions = 0
        self._created = 0.0
        self._begins = False
        defaults: dict[str, Any] = {
            "durable": True,  # a worker that dies leaves the pod, and the next try finds it (_find)
            "deferrable": os.environ.get("AIRLOOP_DEFERRABLE", "").lower() in {"1", "true", "yes"},
            "do_xcom_push": True,  # of what execute returns: names and digests
            "on_finish_action": "delete_pod",
            "on_kill_action": "delete_pod",
            "get_logs": True,
            "logging_interval": LOG_SECONDS,
            "schedule_timeout_seconds": int(self.patience.schedule),
            "startup_timeout_seconds": int(self.patience.pull),  # then the task wakes up and looks at the pod itself
        }
        super().__init__(**{**settings(spec), **defaults, **kwargs})
        if spec.nodes > 1:
            self.deferrable = False  # the provider's trigger looks at one pod

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> k8s.V1Pod:
        """The pod for this run and this many losses."""
        if context is not None:
            month = _month(context)
            self.arguments = [*self.spec.argv(month), *(self.further(context) if self.further else [])]
            self.env_vars = environment(self.spec, context, begins=self._begins)
            self.labels = {**self.labels, "airloop.io/month": month, "airloop.io/run": run_key(context)}
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

    def execute(self, context: Any) -> dict[str, Any]:
        """Follow the pod that an earlier try left; else take the result from the cache, else start a pod."""
        self.name = self._set_name(self.name)
        if self._find(context):
            return self._follow(context)
        begins = begins_run(self)
        if self.before:
            self._workspace("stage", self.before, context, begins=begins)
            begins = False
        if not self.spec.act:
            known = self._workspace("adopt", [self.spec.name], context, begins=begins)
            begins = False
            if known.get("cached"):
                self.log.info("%s: nothing changed since it was made; no pod is needed", self.spec.name)
                return self._report(known, context)
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
            self.on_kill()
            raise AirflowFailException(f"{event['message']} Raise `timeout_minutes` of {self.spec.name} in dvc.yaml.")
        watch.show(pod, whole=end is not None)
        return self._concluded(end, watch, context) if end else self._follow(context)

    def on_kill(self) -> None:
        """End what runs now: the worker's own process, and the pod."""
        self._command.stop()
        if self.spec.nodes > 1 and self.pod is not None:
            self._killed = True
            self._watch().delete(self.pod)
        else:
            super().on_kill()

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
        return self._concluded(watch.to_the_end(self.patience), watch, context)

    def _concluded(self, end: End, watch: PodWatch, context: Any) -> dict[str, Any]:
        """Return the result, start the next pod, or raise what tells Airflow to skip, to fail for good or to try again."""
        assert self.pod is not None
        name = self.pod.metadata.name
        said = self._outcome(name, end, watch, context)
        watch.delete(self.pod, at_once=end.kind is Kind.LOST)  # a node that is gone would never confirm
        if result := said["result"]:
            return self._report(result, context)
        if self._killed:
            raise AirflowFailException(f"{self.spec.name} was killed, and its pod with it.")
        if end.kind is Kind.LOST:
            return self._again(end, context)
        raise self._failure(end, watch.listener, said["errors"])

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

    def _failure(self, end: End, listener: Listener, before: list[str]) -> Exception:
        """What to raise for an end that recorded nothing; ``before`` are earlier errors of this task in this run."""
        if end.kind is Kind.HOPELESS:
            return AirflowFailException(f"{self.spec.name}: {end.why}.")
        outcome = listener.outcome(end.code or 0)
        if end.code == EXIT_SKIP:
            return AirflowSkipException(outcome.last.removeprefix("skipped: ") or "nothing to do")
        if outcome.refused:
            return AirflowFailException(outcome.reason)
        reason = outcome.reason if end.code else "the pod ended well but recorded no result"
        if reason in before:
            return AirflowFailException(f"The same error as before, so trying again would not help: {reason}")
        allowed = int(budgets()["errors"])
        if len(before) >= allowed:
            return AirflowFailException(f"Error {len(before) + 1}, and pods.errors allows {allowed}: {reason}")
        return CommandError(f"{end.why}: {reason}")

    def _outcome(self, name: str, end: End, watch: PodWatch, context: Any) -> dict[str, Any]:
        """Keep what the pod used, and ask what it recorded and what went wrong before."""
        used = usage(self.spec, watch.seconds(self._created), spot=self._on_spot())
        used |= {"outcome": end.kind, "why": end.why}
        if end.kind is Kind.ENDED and end.code not in {0, EXIT_SKIP}:
            used["error"] = watch.listener.outcome(end.code or 0).reason
        return self._workspace("outcome", [self.spec.name], context, [name, json.dumps(used)])

    def _report(self, result: dict[str, Any], context: Any) -> dict[str, Any]:
        announce_all(self.outlets, result, context)
        return result

    def _watch(self, since: Any = None) -> PodWatch:
        return PodWatch(self, since) if self.spec.nodes == 1 else GroupWatch(self, self.patience, since)

    def _workspace(
        self, action: str, names: Sequence[str], context: Any, rest: Sequence[str] = (), *, begins: bool = False
    ) -> dict[str, Any]:
        argv = workspace_argv(action, names, context, rest, begins=begins)
        return call(self._command, argv, context, self.log)


def budgets() -> dict[str, Any]:
    """The section `pods` of params.yaml, which tasks/common/params.py explains and checks."""
    return dict(yaml.safe_load((code() / "params.yaml").read_text())["pods"])


def _month(context: Any) -> str:
    try:
        return require_month(context)
    except ValueError as error:
        raise AirflowFailException(str(error)) from None
