"""The *restricted* Pod Security Standard, by its own list of controls (kubernetes.io/docs/concepts/security/pod-security-standards)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
SELINUX = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def containers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All containers of a pod's spec, whatever their kind."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def problems(spec: dict[str, Any]) -> list[str]:
    """What of a pod's spec the standard forbids, in words; empty when it may run."""
    return [*_of_pod(spec), *(f"{c['name']}: {said}" for c in containers(spec) for said in _of_container(c, spec))]


def _of_pod(spec: dict[str, Any]) -> Iterator[str]:
    security = spec.get("securityContext") or {}
    for shared in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(shared):
            yield f"{shared} is shared with the node"
    for volume in spec.get("volumes") or ():
        if unknown := set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is of the kind {', '.join(unknown)}"
    for sysctl in security.get("sysctls") or ():
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    if security.get("runAsUser") == 0:
        yield "runAsUser is 0"
    yield from _of_both(security)


def _of_container(container: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    security, pod = container.get("securityContext") or {}, spec.get("securityContext") or {}
    if security.get("privileged"):
        yield "privileged"
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if security.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if security.get("runAsUser") == 0:
        yield "runAsUser is 0"
    capabilities = security.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield "capabilities do not drop ALL"
    if more := set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield f"capabilities add {', '.join(sorted(more))}"
    profile = (security.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type")
    if profile not in ("RuntimeDefault", "Localhost"):
        yield f"seccompProfile is {profile}"
    if security.get("procMount", "Default") != "Default":
        yield f"procMount is {security['procMount']}"
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield "hostPort"
    yield from _hosts(container)
    yield from _of_both(security)


def _of_both(security: dict[str, Any]) -> Iterator[str]:
    if (security.get("windowsOptions") or {}).get("hostProcess"):
        yield "windowsOptions.hostProcess"
    selinux = security.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"
    if (security.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
        yield "appArmorProfile"


def _hosts(container: dict[str, Any]) -> Iterator[str]:
    """A probe or hook that names a host makes the node ask in the pod's stead."""
    hooks = [container.get(name) or {} for name in PROBES] + list((container.get("lifecycle") or {}).values())
    for hook in hooks:
        if any((hook.get(kind) or {}).get("host") for kind in ("httpGet", "tcpSocket")):
            yield "a probe or hook names a host"
