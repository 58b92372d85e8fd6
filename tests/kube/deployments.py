"""A small Kubernetes API server with one Deployment, server-side apply with owners of fields, and a controller to order.

The controller makes one step each time the Deployment is read: no test has to wait, and each run is the same. Its Service
answers /models/flights/predict from pods that are ready, in turn.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

NAMESPACE, NAME = "ml", "airloop-online"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
MANIFEST = Path(__file__).parents[2] / "kubernetes/base/online.yaml"
DEADLINE_STEPS = 8
VERSION = "AIRLOOP_ONLINE_VERSION__FLIGHTS"

Field = tuple[Any, ...]


class Pod:
    """A pod of one template."""

    def __init__(self, name: str, template: dict[str, Any], hashed: str) -> None:
        self.name, self.template, self.hash = name, template, hashed
        self.ready = False
        self.waiting: dict[str, str] | None = None
        self.ended: dict[str, Any] | None = None
        """How its container ended before, as in lastState."""

    @property
    def version(self) -> str | None:
        """The model version that it is for."""
        env = self.template["spec"]["containers"][0].get("env", [])
        return next((variable["value"] for variable in env if variable["name"] == VERSION), None)

    def seen(self) -> dict[str, Any]:
        state = {"waiting": self.waiting} if self.waiting else {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        container = {
            "name": "online", "image": "i", "imageID": "", "ready": self.ready, "restartCount": int(bool(self.ended)),
            "state": state, "lastState": {"terminated": self.ended} if self.ended else {},
        }  # fmt: skip
        conditions = [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True" if self.ready else "False"},
        ]
        metadata = {**self.template["metadata"], "name": self.name, "namespace": NAMESPACE}
        status = {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": self.template["spec"],
            "status": status,
        }


class Deployments:
    """The API server and the Service, on a free port of 127.0.0.1.

    Faults: `node` is called with each pod that is not ready, once a step, and makes it ready or not; `before_patch` is called
    when a change has arrived and is not made yet; `asleep` stops the controller; `away` and `refuse` are the API's; `answers` holds the probability of each version, `leaving` what the Service
    still answers from pods that are going.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.fields: dict[Field, Any] = {}
        self.owners: dict[Field, set[str]] = {}
        self.generation, self.observed = 1, 0
        self.resource_version = 1
        self.pods: list[Pod] = []
        self.started: list[Pod] = []
        """Every pod that ever was, in order."""
        self.reason, self.stuck = "NewReplicaSetAvailable", 0
        self.node: Callable[[Pod], None] = lambda pod: setattr(pod, "ready", True)
        self.before_patch: Callable[[], None] = lambda: None
        self.asleep = False
        self.refuse: int | None = None
        self.away_until = 0.0
        self.answers: dict[int, float] = {}
        self.leaving: list[int] = []
        self.least_ready = 10**6
        """Fewest pods that were ready at once, from the moment that all were."""
        self.requests: list[tuple[str, str]] = []
        self._turn = itertools.count()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Deployments]:
        """Serve, with the repository's own Deployment applied and an autoscaler that wants three replicas."""
        manifest = next(yaml.safe_load_all(MANIFEST.read_text()))
        self.apply(manifest, "kubectl", force=False)
        self.apply({"spec": {"replicas": 3}}, "kube-controller-manager", force=False)
        for _ in range(20):
            self.step()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig for it."""
        path = self.folder / "kubeconfig"
        context = {"name": "t", "context": {"cluster": "t", "user": "t"}}
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "t", "users": [{"name": "t", "user": {}}],
            "clusters": [{"name": "t", "cluster": {"server": self.url}}], "contexts": [context],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(content))
        return path

    def away(self, seconds: float) -> None:
        """Answer nothing for a while: connections are closed."""
        self.away_until = time.monotonic() + seconds

    def owned(self, manager: str) -> set[str]:
        """Fields of ``manager``, as text."""
        return {".".join(map(str, path)) for path, owners in self.owners.items() if manager in owners}

    def apply(self, body: dict[str, Any], manager: str, *, force: bool) -> list[Field]:
        """Server-side apply; returns the fields in conflict, and changes nothing when there are some."""
        wanted = dict(flatten({key: value for key, value in body.items() if key not in ("apiVersion", "kind")}))
        seen = ("metadata", "resourceVersion")
        if wanted.pop(seen, str(self.resource_version)) != str(self.resource_version):
            return [seen]
        self.resource_version += 1
        wanted.pop(("metadata", "name"), None)  # says which object, and is nobody's
        others = {p for p, v in wanted.items() if self.owners.get(p, set()) - {manager} and self.fields[p] != v}
        if others and not force:
            return sorted(others, key=str)
        before = {path: value for path, value in self.fields.items() if path[0] == "spec"}
        for path in [path for path, owners in self.owners.items() if manager in owners and path not in wanted]:
            self.owners[path].discard(manager)
            if not self.owners[path]:
                del self.owners[path], self.fields[path]
        for path, value in wanted.items():
            self.fields[path] = value
            self.owners[path] = {manager} if path in others else self.owners.get(path, set()) | {manager}
        if before != {path: value for path, value in self.fields.items() if path[0] == "spec"}:
            self.generation += 1
            self.reason, self.stuck = "ReplicaSetUpdated", 0
        return []

    @property
    def template(self) -> dict[str, Any]:
        return dict(unflatten(self.fields)["spec"]["template"])

    def step(self) -> None:
        """What the Deployment's controller and the nodes do in a moment: no replica is taken before another is ready."""
        if self.asleep:
            return
        self.observed = self.generation
        hashed = hashlib.sha256(json.dumps(self.template, sort_keys=True).encode()).hexdigest()[:8]
        wanted = int(self.fields[("spec", "replicas")])
        new, old = [p for p in self.pods if p.hash == hashed], [p for p in self.pods if p.hash != hashed]
        ready = sum(pod.ready for pod in self.pods)
        before = (len(new), len(old), sum(pod.ready for pod in new))
        if len(new) < wanted and len(self.pods) <= wanted:
            pod = Pod(f"{NAME}-{hashed}-{len(self.started)}", self.template, hashed)
            self.pods.append(pod)
            self.started.append(pod)
        elif old and (not all(pod.ready for pod in old) or ready > wanted):
            self.pods.remove(min(old, key=lambda pod: pod.ready))
        for pod in new:
            if not pod.ready:
                self.node(pod)
        after = [p for p in self.pods if p.hash == hashed]
        done = len(after) == len(self.pods) == wanted and all(pod.ready for pod in after)
        self.stuck = (
            0 if (len(after), len(self.pods) - len(after), sum(p.ready for p in after)) != before else self.stuck + 1
        )
        self.reason = (
            "NewReplicaSetAvailable"
            if done
            else "ProgressDeadlineExceeded"
            if self.stuck > DEADLINE_STEPS
            else "ReplicaSetUpdated"
            if self.stuck == 0
            else self.reason
        )
        self._hashed = hashed
        if self.least_ready < 10**6 or done:
            self.least_ready = min(self.least_ready, sum(pod.ready for pod in self.pods))

    def seen(self) -> dict[str, Any]:
        """The Deployment as the API shows it."""
        made = unflatten(self.fields)
        made["metadata"] |= {
            "name": NAME,
            "namespace": NAMESPACE,
            "generation": self.generation,
            "resourceVersion": str(self.resource_version),
        }
        new = [pod for pod in self.pods if pod.hash == self._hashed]
        ready = sum(pod.ready for pod in self.pods)
        exceeded = self.reason == "ProgressDeadlineExceeded"
        status = {
            "observedGeneration": self.observed, "replicas": len(self.pods), "updatedReplicas": len(new),
            "availableReplicas": ready, "readyReplicas": ready,
            "conditions": [{"type": "Progressing", "status": str(not exceeded), "reason": self.reason}],
        }  # fmt: skip
        return {"apiVersion": "apps/v1", "kind": "Deployment", **made, "status": status}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                path, _, query = self.path.partition("?")
                if time.monotonic() < cluster.away_until and path != "/models/flights/predict":
                    self.close_connection = True
                    return
                with cluster._lock:
                    cluster.requests.append((self.command, path))
                    status, answer = cluster._answer(self.command, path, query, self.headers.get_content_type(), body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PATCH = do_POST = _serve  # noqa: N815 - http.server's names

        return Handler

    def _answer(self, method: str, path: str, query: str, kind: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if path == "/models/flights/predict":
            return self._predict(json.loads(body)["flights"])
        if self.refuse is not None:
            return _problem(self.refuse, "Refused")
        if (method, path) == ("PATCH", DEPLOYMENT):
            self.before_patch()
            return self._patch(kind, dict(re.findall(r"(\w+)=([\w-]+)", query)), body)
        if (method, path) == ("GET", DEPLOYMENT):
            self.step()
            return 200, self.seen()
        if (method, path) == ("GET", PODS):
            seen = [pod.seen() for pod in self.pods]
            return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": seen}
        return _problem(404, "NotFound")

    def _patch(self, kind: str, told: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        if kind != "application/apply-patch+yaml":
            return _problem(415, "UnsupportedMediaType")
        force = told.get("force", "").lower() == "true"
        conflicts = self.apply(yaml.safe_load(body), told["fieldManager"], force=force)
        return _problem(409, "Conflict") if conflicts else (200, self.seen())

    def _predict(self, flights: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        ready = [pod for pod in self.pods if pod.ready and pod.version]
        if not ready and not self.leaving:
            return _problem(503, "no endpoints available")
        version = self.leaving.pop(0) if self.leaving else int(ready[next(self._turn) % len(ready)].version or 0)
        one = {"model_version": version, "probability_late": self.answers[version]}
        return 200, {"predictions": [one] * len(flights)}


def flatten(value: Any, path: Field = ()) -> Iterator[tuple[Field, Any]]:
    """Leaves of a Kubernetes object by path; items of a list go by their name where they have one."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flatten(inner, (*path, key))
    elif isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        for item in value:
            rest = {key: inner for key, inner in item.items() if key != "name"}
            yield from flatten(rest, (*path, ("name", item["name"])))
    else:
        yield path, value


def unflatten(fields: dict[Field, Any]) -> dict[str, Any]:
    """The object of these leaves."""
    made: dict[str, Any] = {}
    for path, value in fields.items():
        here: Any = made
        for key, following in zip(path, (*path[1:], None), strict=True):
            if isinstance(key, tuple):
                found = next((item for item in here if item["name"] == key[1]), None)
                if found is None:
                    found = {"name": key[1]}
                    here.append(found)
                if following is None:
                    found |= value if isinstance(value, dict) else {}
                here = found
            elif following is None:
                here[key] = value
            else:
                here = here.setdefault(key, [] if isinstance(following, tuple) else {})
    return made


def _problem(code: int, reason: str) -> tuple[int, dict[str, Any]]:
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": reason,
    }
