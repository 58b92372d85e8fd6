"""House rules for every pod that an environment starts."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from tests.kubernetes.environment import Environment, cluster_objects, role_rules
from tests.kubernetes.network import Pod
from tests.kubernetes.restricted import containers, problems

SECRET_LOOKING = re.compile(r"PASSWORD|TOKEN|SECRET|KEY|CREDENTIAL|URI")


def test_every_pod_passes_the_restricted_standard(environment: Environment) -> None:
    for name, template in environment.workloads.items():
        assert problems(template["spec"]) == [], name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec, _: spec.update(hostNetwork=True), "hostNetwork is shared"),
        (lambda spec, _: spec["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "of the kind hostPath"),
        (lambda spec, _: spec["securityContext"].pop("seccompProfile"), "seccompProfile is None"),
        (lambda spec, _: spec["securityContext"].pop("runAsNonRoot"), "runAsNonRoot is not true"),
        (lambda spec, _: spec["securityContext"].update(runAsUser=0), "runAsUser is 0"),
        (lambda _, c: c.pop("securityContext"), "capabilities do not drop ALL"),
        (lambda _, c: c["securityContext"].update(privileged=True), "privileged"),
        (lambda _, c: c["securityContext"].pop("allowPrivilegeEscalation"), "allowPrivilegeEscalation"),
        (lambda _, c: c["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]), "capabilities add SYS_ADMIN"),
        (lambda _, c: c["ports"][0].update(hostPort=80), "hostPort"),
        (lambda _, c: c["livenessProbe"]["httpGet"].update(host="10.0.0.1"), "names a host"),
    ],
)  # fmt: skip
def test_the_check_sees_what_the_standard_forbids(environment: Environment, change: Any, said: str) -> None:
    spec = copy.deepcopy(environment.workloads["airloop-online"]["spec"])
    change(spec, spec["containers"][0])
    assert any(said in problem for problem in problems(spec)), problems(spec)


def test_the_namespace_enforces_it(environment: Environment) -> None:
    assert environment.namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_roots_are_read_only_and_every_container_says_what_it_needs(environment: Environment) -> None:
    for name, template in environment.workloads.items():
        for container in containers(template["spec"]):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            for amounts in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][amounts].keys(), (name, amounts)


def test_images_are_pinned(environment: Environment) -> None:
    for name, template in environment.workloads.items():
        for container in containers(template["spec"]):
            tag = container["image"].rpartition(":")[2] if ":" in container["image"] else ""
            assert tag and tag != "latest", f"{name}: {container['image']} has no tag of its own"


def test_no_secret_is_written_down(environment: Environment) -> None:
    assert not environment.all("Secret")
    for name, data in environment.all("ConfigMap").items():
        said = [setting for setting in data["data"] if SECRET_LOOKING.search(setting)]
        # An address without a password in it, and the name of a Secret.
        assert set(said) <= {"MLFLOW_TRACKING_URI", "AIRLOOP_POD_SECRET"}, name
    for name, template in environment.workloads.items():
        for variable in (v for c in containers(template["spec"]) for v in c.get("env", ())):
            if SECRET_LOOKING.search(variable["name"]):
                assert "secretKeyRef" in variable.get("valueFrom", {}), (name, variable["name"])


def test_what_a_pod_refers_to_is_there(environment: Environment) -> None:
    maps = {*environment.all("ConfigMap"), "airflow-config"}  # the last one is made by Airflow's chart
    classes = {each["metadata"]["name"] for each in cluster_objects()}
    for name, template in environment.workloads.items():
        spec = template["spec"]
        sources = [source for c in containers(spec) for source in c.get("envFrom", ())] + spec.get("volumes", [])
        named = {s["configMap"]["name"] for s in sources if "configMap" in s}
        named |= {s["configMapRef"]["name"] for s in sources if "configMapRef" in s}
        assert named <= maps, name
        assert spec.get("priorityClassName") in {None, *classes}, name
        mounts = {mount["name"] for c in containers(spec) for mount in c["volumeMounts"]}
        made = {v["name"] for v in spec.get("volumes", ())}
        claims = environment.all("StatefulSet").get(name, {"spec": {}})["spec"].get("volumeClaimTemplates", ())
        assert mounts == made | {claim["metadata"]["name"] for claim in claims}, name


def test_a_pod_gets_a_token_only_if_its_account_has_rights(environment: Environment) -> None:
    accounts = environment.all("ServiceAccount")
    for name, template in environment.workloads.items():
        account = template["spec"]["serviceAccountName"]
        assert account in accounts, f"{name} runs as {account}, which base/service-accounts.yaml does not make"
    for account, made in accounts.items():
        assert made["automountServiceAccountToken"] is bool(role_rules(environment, account)), account


def test_network_rules_cover_every_pod(environment: Environment) -> None:
    pods = [Pod(template["metadata"]["labels"]) for template in environment.workloads.values()]
    for pod in [*pods, Pod({})]:
        assert environment.network.covered(pod, "Ingress") and environment.network.covered(pod, "Egress")
