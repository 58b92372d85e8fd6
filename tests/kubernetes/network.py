"""What NetworkPolicies let through, as their documentation says; ports by number."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

HERE = "here"


@dataclass(frozen=True)
class Pod:
    """One end of a connection: a pod of the environment's namespace, or of one with other labels."""

    labels: Mapping[str, str]
    namespace: Mapping[str, str] | str = HERE


@dataclass(frozen=True)
class Outside:
    """The other end, where it is no pod."""

    address: str


@dataclass(frozen=True)
class Network:
    """The policies of one namespace."""

    policies: list[dict[str, Any]] = field(repr=False)

    def allows(self, source: Pod, target: Pod | Outside, port: int, protocol: str = "TCP") -> bool:
        """Whether ``source`` reaches ``target``: its own rules must let it out, and the target's must let it in."""
        out = source.namespace != HERE or self._let(source, target, port, protocol, "Egress")
        into = isinstance(target, Outside) or target.namespace != HERE
        return out and (into or self._let(target, source, port, protocol, "Ingress"))

    def covered(self, pod: Pod, direction: str) -> bool:
        """Whether any policy is about ``pod``: without one, everything is let through."""
        return bool(self._about(pod, direction))

    def _about(self, pod: Pod, direction: str) -> list[dict[str, Any]]:
        specs = [policy["spec"] for policy in self.policies]
        return [s for s in specs if direction in s["policyTypes"] and selects(s["podSelector"], pod.labels)]

    def _let(self, pod: Pod, other: Pod | Outside, port: int, protocol: str, direction: str) -> bool:
        specs = self._about(pod, direction)
        rules = [rule for spec in specs for rule in spec.get(direction.lower(), ())]
        return not specs or any(_rule(rule, other, port, protocol, direction) for rule in rules)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector is about something with ``labels``; an empty one is about everything."""
    if any(labels.get(name) != value for name, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(each, labels) for each in selector.get("matchExpressions") or ())


def _expression(wanted: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(wanted["key"])
    match wanted["operator"]:
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "In":
            return value in wanted["values"]
        case "NotIn":
            return value not in wanted["values"]
    raise ValueError(wanted)


def _rule(rule: Mapping[str, Any], other: Pod | Outside, port: int, protocol: str, direction: str) -> bool:
    peers: Iterable[Any] = rule.get("to" if direction == "Egress" else "from") or [{}]
    ports = rule.get("ports") or [{"protocol": protocol, "port": port}]
    said = {"protocol": protocol, "port": port}
    return said in ports and any(_peer(peer, other) for peer in peers)


def _peer(peer: Mapping[str, Any], other: Pod | Outside) -> bool:
    if not peer:
        return True
    if "ipBlock" in peer:
        # Whether an address block also stands for pods is the network's own matter: nothing may depend on it.
        return isinstance(other, Outside) and _within(peer["ipBlock"], other.address)
    if isinstance(other, Outside):
        return False
    if "namespaceSelector" not in peer:
        return other.namespace == HERE and selects(peer["podSelector"], other.labels)
    labels = {} if isinstance(other.namespace, str) else other.namespace
    return selects(peer["namespaceSelector"], labels) and selects(peer.get("podSelector") or {}, other.labels)


def _within(block: Mapping[str, Any], address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    excepted = any(parsed in ipaddress.ip_network(each) for each in block.get("except") or ())
    return parsed in ipaddress.ip_network(block["cidr"]) and not excepted
