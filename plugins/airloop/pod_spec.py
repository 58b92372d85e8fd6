"""What a stage's pod looks like: resources, security, environment; everything by dvc.yaml's `meta` and the environment."""

from __future__ import annotations

import json
import os
from typing import Any

from kubernetes.client import models as k8s

from airloop.keys import variables
from airloop.places import ConfigError, Engine, image_for
from airloop.stage_spec import StageSpec

STORES = (
    "AIRLOOP_STORE",
    "AIRLOOP_LANDING",
    "AIRLOOP_DVC_REMOTE",
    "AIRLOOP_ONLINE_URL",
    "MLFLOW_TRACKING_URI",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
)
"""Addresses that a pod gets from the worker's environment. Secrets come from AIRLOOP_POD_SECRET, never through Airflow."""
SPOT = {"airloop.io/capacity": "spot"}
"""Node label, and taint, of machines that may be taken away."""
GPU = "nvidia.com/gpu"
USER = 10001
GRACE_SECONDS = 30
ENTRY = ["python", "-m", "tasks.common.pod"]
EVICTIONS = "airloop.io/evictions"
"""Label: how many pods of this task were lost before."""
SINCE = "airloop.io/since"
"""In a trigger's event: epoch seconds at which its pod was created."""


def settings(spec: StageSpec) -> dict[str, Any]:
    """Arguments of KubernetesPodOperator that do not depend on the run."""
    secret = os.environ.get("AIRLOOP_POD_SECRET")
    return {
        "name": f"airloop-{spec.name}",
        "image": image_of(spec),
        "cmds": ENTRY,
        "namespace": os.environ.get("AIRLOOP_NAMESPACE") or None,
        "service_account_name": os.environ.get("AIRLOOP_SERVICE_ACCOUNT") or "airloop-stage",
        "automount_service_account_token": False,  # a stage has no business with the cluster
        "labels": {
            "app.kubernetes.io/part-of": "airloop",
            "airloop.io/stage": spec.name,
            "airloop.io/model": os.environ.get("AIRLOOP_MODEL") or "airloop",
            "airloop.io/cost-owner": os.environ.get("AIRLOOP_COST_OWNER") or "airloop",
        },
        "container_resources": _resources(spec),
        "security_context": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
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
        "termination_grace_period": GRACE_SECONDS,
        "active_deadline_seconds": spec.timeout_minutes * 60,  # also ends a pod that Airflow has lost sight of
        "priority_class_name": (os.environ.get("AIRLOOP_SPOT_PRIORITY_CLASS") if spec.spot else None) or None,
    }


def image_of(spec: StageSpec) -> str:
    """The image of the stage's or act's pod; ConfigError when no setting names one."""
    role = "spark" if spec.engine is Engine.SPARK else "airflow" if spec.act else "train"
    return image_for(spec.name, role)


def place_on_nodes(pod: k8s.V1Pod, spec: StageSpec, *, spot: bool) -> None:
    """Say which nodes ``pod`` may run on: spot machines or others, and where its GPUs are."""
    selector = dict(SPOT) if spot else {}
    tolerations = [
        k8s.V1Toleration(key=key, operator="Equal", value=value, effect="NoSchedule")
        for key, value in (SPOT.items() if spot else ())
    ]
    if spec.gpus:
        selector |= _pairs("AIRLOOP_GPU_NODE_SELECTOR")
        tolerations.append(k8s.V1Toleration(key=GPU, operator="Exists", effect="NoSchedule"))
        pod.spec.runtime_class_name = os.environ.get("AIRLOOP_GPU_RUNTIME_CLASS") or None
    pod.spec.node_selector = selector or None
    pod.spec.tolerations = tolerations or None


def environment(spec: StageSpec, context: Any, *, begins: bool) -> list[k8s.V1EnvVar]:
    """What tasks/common/pod.py reads, and where things are."""
    month = variables(context)["AIRLOOP_MONTH"]
    values = {
        **{name: value for name in STORES if (value := os.environ.get(name))},
        **variables(context),
        "AIRLOOP_ACT" if spec.act else "AIRLOOP_STAGE": spec.name if spec.act else spec.item(month),
        "AIRLOOP_HOME": "/scratch",
        "HOME": "/scratch",
    }
    if begins:
        values["AIRLOOP_BEGINS"] = "1"
    if overrides := (context.get("params") or {}).get("overrides"):
        values["AIRLOOP_OVERRIDES"] = json.dumps(overrides)
    own_name = k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path="metadata.name"))
    return [
        *(k8s.V1EnvVar(name=name, value=value) for name, value in values.items()),
        k8s.V1EnvVar(name="AIRLOOP_POD", value_from=own_name),
    ]


def usage(spec: StageSpec, seconds: float, *, spot: bool) -> dict[str, Any]:
    """What a pod used, for the run's record: cores, GiB and GPUs that it held for ``seconds``."""
    held = {"cpu": spec.cpu, "memory_gib": gibibytes(spec.memory), "gpus": spec.gpus}
    return {"stage": spec.name, "spot": spot, "seconds": round(seconds, 1), **held}


def gibibytes(memory: str) -> float:
    """``4Gi`` or ``512Mi`` in GiB."""
    return float(memory[:-2]) / {"Gi": 1, "Mi": 1024}[memory[-2:]]


def _resources(spec: StageSpec) -> k8s.V1ResourceRequirements:
    # Requests equal limits: the class that is evicted last, and memory that is there when it is needed.
    amounts = {"cpu": str(spec.cpu), "memory": spec.memory, **({GPU: str(spec.gpus)} if spec.gpus else {})}
    return k8s.V1ResourceRequirements(requests=amounts, limits=dict(amounts))


def _pairs(name: str) -> dict[str, str]:
    """``a=b,c=d`` of an environment variable; ConfigError when it is written otherwise."""
    text = os.environ.get(name) or ""
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if any(not separator for _, separator, _ in pairs):
        raise ConfigError(f"{name}={text!r} is not written as label=value,label=value.")
    return {key: value for key, _, value in pairs}
