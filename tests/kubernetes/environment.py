"""An environment's objects, and what tests ask of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.kubernetes.airflow_values import pod_template, values_of
from tests.kubernetes.kustomize import ROOT, Object, render
from tests.kubernetes.network import Network


@dataclass(frozen=True)
class Environment:
    """Everything that `kubectl apply -k kubernetes/overlays/<name>` makes."""

    name: str
    objects: list[Object]

    def all(self, kind: str) -> dict[str, Object]:
        """Name to object, of one kind."""
        return {each["metadata"]["name"]: each for each in self.objects if each["kind"] == kind}

    @property
    def namespace(self) -> Object:
        """Its one namespace."""
        (found,) = self.all("Namespace").values()
        return found

    @property
    def workloads(self) -> dict[str, Object]:
        """Pods that it starts, by what starts them; Airflow's worker among them."""
        made = {n: o["spec"]["template"] for kind in ("Deployment", "StatefulSet") for n, o in self.all(kind).items()}
        return {**made, "airflow-worker": pod_template(values_of(self.name))}

    @property
    def network(self) -> Network:
        """Its network rules."""
        return Network(list(self.all("NetworkPolicy").values()))

    @property
    def settings(self) -> dict[str, str]:
        """What Airflow's pods get from ConfigMaps."""
        maps = self.all("ConfigMap")
        return {**maps["airloop-settings"]["data"], **maps["airloop-airflow"]["data"]}


def cluster_objects() -> list[Object]:
    """What `kubectl apply -k kubernetes/cluster` makes."""
    return render(ROOT / "cluster")


def role_rules(environment: Environment, account: str) -> list[dict[str, Any]]:
    """Every rule that a service account has."""
    roles = environment.all("Role")
    bound = [
        binding["roleRef"]["name"]
        for binding in environment.all("RoleBinding").values()
        if account in [subject["name"] for subject in binding["subjects"]]
    ]
    return [rule for name in bound for rule in roles[name]["rules"]]
