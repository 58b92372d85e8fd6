"""What a stage's pod looks like: resources, security, environment; everything by dvc.yaml's `meta` and the environment."""

from __future__ import annotations

from typing import Any

from kubernetes.client import models as k8s

from airloop.keys import variables
from airloop.places import image_for
from airloop.settings import PodSettings, forwarded, load
from tasks.running.catalogue import Work

SPOT = {"airloop.io/capacity": "spot"}
"""Node label, and taint, of machines that may be taken away."""
GPU = "nvidia.com/gpu"
USER = 10001
GRACE_SECONDS = 30
CA = "certificates"
CA_FOLDER = "/etc/airloop/certificates"
TRUST = ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "MLFLOW_TRACKING_SERVER_CERT_PATH")
"""By which botocore, httpx and uv, requests, and MLflow's client find the certificates that they trust."""
ENTRY = ["python", "-m"]
EVICTIONS = "airloop.io/evictions"
"""Label: how many pods of this task were lost before."""
SINCE = "airloop.io/since"
"""In a trigger's event: epoch seconds at which its pod was created."""


def settings(spec: Work, model: str) -> dict[str, Any]:
    """Arguments of KubernetesPodOperator that do not depend on the run: of a stage or job of ``model``."""
    cluster = load(PodSettings)
    return {
        "name": f"airloop-{model.replace('_', '-')}-{spec.name}",  # a host's name has no underscore
        "image": image_of(spec),
        "cmds": ENTRY,
        "namespace": cluster.namespace,
        "service_account_name": cluster.service_account,
        "automount_service_account_token": False,  # a stage has no business with the cluster
        "labels": {
            "app.kubernetes.io/part-of": "airloop",
            "airloop.io/stage": spec.name,
            "airloop.io/model": model,
            "airloop.io/cost-owner": cluster.cost_owner,
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
        "volumes": [k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource()), *_certificates(cluster)],
        "volume_mounts": [
            k8s.V1VolumeMount(name="scratch", mount_path="/scratch"),
            k8s.V1VolumeMount(name="scratch", mount_path="/tmp", sub_path="tmp"),  # noqa: S108 - the pod's own
            *([k8s.V1VolumeMount(name=CA, mount_path=CA_FOLDER, read_only=True)] if cluster.ca_config_map else []),
        ],
        "image_pull_secrets": [k8s.V1LocalObjectReference(name=name) for name in cluster.image_pull_secrets],
        "env_from": [
            k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=name)) for name in [cluster.secret] if name
        ],
        "termination_grace_period": GRACE_SECONDS,
        "active_deadline_seconds": spec.timeout_minutes * 60,  # also ends a pod that Airflow has lost sight of
        "priority_class_name": cluster.spot_priority_class if spec.spot else None,
    }


def image_of(spec: Work) -> str:
    """The image of the stage's or job's pod; ConfigError when no setting names one."""
    role = "spark" if spec.engine == "spark" else "train" if spec.stage else "airflow"
    return image_for(spec.name, role)


def place_on_nodes(pod: k8s.V1Pod, spec: Work, *, spot: bool) -> None:
    """Say which nodes ``pod`` may run on: spot machines or others, and where its GPUs are."""
    cluster = load(PodSettings)
    selector = dict(SPOT) if spot else {}
    tolerations = [
        k8s.V1Toleration(key=key, operator="Equal", value=value, effect="NoSchedule")
        for key, value in (SPOT.items() if spot else ())
    ]
    if spec.gpus:
        selector |= cluster.gpu_node_selector
        tolerations.append(k8s.V1Toleration(key=GPU, operator="Exists", effect="NoSchedule"))
        pod.spec.runtime_class_name = cluster.gpu_runtime_class
    pod.spec.node_selector = selector or None
    pod.spec.tolerations = tolerations or None


def environment(context: Any) -> list[k8s.V1EnvVar]:
    """Where things are, and what a run's processes get besides their command line."""
    values = {
        **forwarded(),
        **(dict.fromkeys(TRUST, f"{CA_FOLDER}/ca.crt") if load(PodSettings).ca_config_map else {}),
        **variables(context),
        "AIRLOOP_HOME": "/scratch",
        "HOME": "/scratch",
    }
    own_name = k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path="metadata.name"))
    return [
        *(k8s.V1EnvVar(name=name, value=value) for name, value in values.items()),
        k8s.V1EnvVar(name="AIRLOOP_POD", value_from=own_name),
    ]


def usage(spec: Work, seconds: float, *, spot: bool) -> dict[str, Any]:
    """What a pod used, for the run's record: cores, GiB and GPUs that it held for ``seconds``."""
    held = {"cpu": spec.cpu, "memory_gib": gibibytes(spec.memory), "gpus": spec.gpus}
    return {"stage": spec.name, "spot": spot, "seconds": round(seconds, 1), **held}


def gibibytes(memory: str) -> float:
    """``4Gi`` or ``512Mi`` in GiB."""
    return float(memory[:-2]) / {"Gi": 1, "Mi": 1024}[memory[-2:]]


def _resources(spec: Work) -> k8s.V1ResourceRequirements:
    # Requests equal limits: the class that is evicted last, and memory that is there when it is needed.
    amounts = {"cpu": str(spec.cpu), "memory": spec.memory, **({GPU: str(spec.gpus)} if spec.gpus else {})}
    return k8s.V1ResourceRequirements(requests=amounts, limits=dict(amounts))


def _certificates(cluster: PodSettings) -> list[k8s.V1Volume]:
    if not cluster.ca_config_map:
        return []
    return [k8s.V1Volume(name=CA, config_map=k8s.V1ConfigMapVolumeSource(name=cluster.ca_config_map))]
