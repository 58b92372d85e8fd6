"""Stages as Kubernetes pods: the stage's own argv and resources; the image's entrypoint does the workspace around it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowFailException
from kubernetes.client import models as k8s

from airloop.keys import require_month, variables
from airloop.places import ConfigError, variable

if TYPE_CHECKING:
    from airloop.stage import StageSpec

STORES = (
    "AIRLOOP_STORE",
    "AIRLOOP_LANDING",
    "AIRLOOP_DVC_REMOTE",
    "AIRLOOP_CODE_REVISION",
    "AIRLOOP_ONLINE_URL",
    "MLFLOW_TRACKING_URI",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
)
"""Addresses that a pod gets from the worker's environment. Secrets come from AIRLOOP_POD_SECRET, never through Airflow."""
SPOT = {"airloop.io/capacity": "spot"}
"""Node label, and taint, of machines that may be taken away."""
GPU = "nvidia.com/gpu"
GRACE_SECONDS = 30


class StagePodOperator(KubernetesPodOperator):
    """One stage in one pod; arguments and environment follow from the run, when the pod is built."""

    def __init__(self, *, stages: Sequence[StageSpec], **kwargs: Any) -> None:
        self.stages = list(stages)
        self.names = [spec.name for spec in stages]
        main = self.stages[-1]
        super().__init__(**{**_pod(main), **kwargs})

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> k8s.V1Pod:
        """The pod for this run: the stage's command line, and in its environment what the run is about."""
        if context is not None:
            try:
                month = require_month(context)
            except ValueError as error:
                raise AirflowFailException(str(error)) from None
            self.arguments = self.stages[-1].argv(month)
            self.env_vars = _environment([spec.item(month) for spec in self.stages], context)
            self.labels = {**self.labels, "airloop.io/month": month}
        return super().build_pod_request_obj(context, dry_run=dry_run)


def image_of(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """AIRLOOP_IMAGE_<STAGE>, else AIRLOOP_IMAGE; ConfigError when neither is set."""
    setting = variable("AIRLOOP_IMAGE", name)
    image = environ.get(setting) or environ.get("AIRLOOP_IMAGE")
    if not image:
        raise ConfigError(
            f"{setting} and AIRLOOP_IMAGE are not set, so there is no image to run {name} in; set one to the image that "
            f"docker/ builds, or run it on the worker with {variable('AIRLOOP_PLACE', name)}=process."
        )
    return image


def _pod(spec: StageSpec) -> dict[str, Any]:
    """Everything of the pod that does not depend on the run."""
    secret = os.environ.get("AIRLOOP_POD_SECRET")
    return {
        "name": f"airloop-{spec.name}",
        "image": image_of(spec.name),
        "namespace": os.environ.get("AIRLOOP_NAMESPACE") or None,
        "service_account_name": os.environ.get("AIRLOOP_SERVICE_ACCOUNT") or "airloop-stage",
        "automount_service_account_token": False,  # a stage has no business with the cluster
        "labels": {"app.kubernetes.io/part-of": "airloop", "airloop.io/stage": spec.name},
        "container_resources": _resources(spec),
        "node_selector": SPOT if spec.spot else {},
        "tolerations": _tolerations(spec),
        "security_context": {
            "runAsNonRoot": True,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "container_security_context": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # The root is read-only; workspace, DVC cache and temporary files live and die with the pod.
        "volumes": [k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource())],
        "volume_mounts": [
            k8s.V1VolumeMount(name="scratch", mount_path="/scratch"),
            k8s.V1VolumeMount(name="scratch", mount_path="/tmp", sub_path="tmp"),  # noqa: S108 - the pod's own
        ],
        "env_from": [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=secret))] if secret else [],
        "durable": True,  # a worker that dies leaves the pod, and the next try attaches to it
        "deferrable": os.environ.get("AIRLOOP_DEFERRABLE", "").lower() in {"1", "true", "yes"},
        "get_logs": True,
        "do_xcom_push": False,  # a sidecar that dies first hides the real error; results go to the store by name
        "skip_on_exit_code": 99,
        "on_finish_action": "delete_pod",
        "on_kill_action": "delete_pod",
        "termination_grace_period": GRACE_SECONDS,
        "active_deadline_seconds": spec.timeout_minutes * 60,  # also ends a pod that Airflow has lost sight of
        "schedule_timeout_seconds": 900,  # a node, perhaps with a GPU, may have to be started first
        "startup_timeout_seconds": 600,
    }


def _resources(spec: StageSpec) -> k8s.V1ResourceRequirements:
    # Requests equal limits: the class that is evicted last, and memory that is there when it is needed.
    amounts = {"cpu": str(spec.cpu), "memory": spec.memory, **({GPU: str(spec.gpus)} if spec.gpus else {})}
    return k8s.V1ResourceRequirements(requests=amounts, limits=dict(amounts))


def _tolerations(spec: StageSpec) -> list[k8s.V1Toleration]:
    taints = [*(SPOT.items() if spec.spot else [])]
    found = [k8s.V1Toleration(key=key, operator="Equal", value=value, effect="NoSchedule") for key, value in taints]
    if spec.gpus:
        found.append(k8s.V1Toleration(key=GPU, operator="Exists", effect="NoSchedule"))
    return found


def _environment(items: Sequence[str], context: Any) -> list[k8s.V1EnvVar]:
    """``AIRLOOP_STAGE`` names the stage last; what stands before it, the entrypoint runs first."""
    values = {
        **{name: value for name in STORES if (value := os.environ.get(name))},
        **variables(context),
        "AIRLOOP_STAGE": " ".join(items),
        "AIRLOOP_HOME": "/scratch",
        "HOME": "/scratch",
    }
    overrides = (context.get("params") or {}).get("overrides")
    if overrides:
        import json

        values["AIRLOOP_OVERRIDES"] = json.dumps(overrides)
    return [k8s.V1EnvVar(name=name, value=value) for name, value in values.items()]
