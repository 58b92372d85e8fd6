"""A small Kubernetes API server with a node that really runs its pods' commands, as processes, and with faults to order.

It speaks what KubernetesPodOperator and its trigger ask: create, read, list by labels, patch, delete, evict, logs, events.
Time runs as on a cluster (Pending, ContainerCreating, Running, ended), only faster.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.kube.jobs import Jobs

PODS = "/api/v1/namespaces/{namespace}/pods"
TICK = 0.05


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Pod:
    """One pod: what was asked for, and how it stands."""

    def __init__(self, body: dict[str, Any], namespace: str, scratch: Path) -> None:
        self.body = body
        self.metadata: dict[str, Any] = body["metadata"]
        self.metadata |= {
            "namespace": namespace,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": now(),
            "resourceVersion": "1",
        }
        self.name: str = self.metadata["name"]
        self.scratch = scratch / self.name
        self.state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        self.phase = "Pending"
        self.reason: str | None = None
        self.conditions = [{"type": "PodScheduled", "status": "True"}]
        self.started: str | None = None
        self.log: list[str] = []
        self.process: asyncio.subprocess.Process | None = None

    @property
    def spec(self) -> dict[str, Any]:
        return dict(self.body["spec"])

    @property
    def stage(self) -> str:
        """Value of its label airloop.io/stage."""
        return str(self.metadata.get("labels", {}).get("airloop.io/stage", ""))

    def seen(self) -> dict[str, Any]:
        """As the API shows it."""
        container = {
            "name": self.spec["containers"][0]["name"], "ready": self.phase == "Running", "restartCount": 0,
            "image": self.spec["containers"][0]["image"], "imageID": "", "state": self.state,
        }  # fmt: skip
        status = {"phase": self.phase, "conditions": self.conditions, "containerStatuses": [container]}
        status |= {"startTime": self.started} if self.started else {}
        status |= {"reason": self.reason} if self.reason else {}
        return {"apiVersion": "v1", "kind": "Pod", **self.body, "status": status}

    def environment(self) -> dict[str, str]:
        """The container's variables; fields of the pod itself where the specification asks for them."""
        values = {"PATH": os.environ["PATH"], "HOSTNAME": self.name}
        for variable in self.spec["containers"][0].get("env") or []:
            field = (variable.get("valueFrom") or {}).get("fieldRef", {}).get("fieldPath")
            values[variable["name"]] = self._field(field) if field else variable.get("value") or ""
        # What the image says, and the node's own disk in place of the container's.
        values |= {name: os.environ[name] for name in ("PYTHONPATH", "AIRLOOP_CODE", "JAVA_HOME") if name in os.environ}
        return {n: v.replace("/scratch", str(self.scratch)) if v == "/scratch" else v for n, v in values.items()}

    def _field(self, path: str) -> str:
        """``metadata.name``, or ``metadata.labels['key']``."""
        _, label, key = path.partition("metadata.labels[")
        return str(self.metadata["labels"][key.strip("[]'")]) if label else self.name


class Cluster:
    """The API server, on a free port of 127.0.0.1, in a thread of its own.

    Faults are methods: `evict`, `vanish`, `away`; `on_create` is called with each new pod before it is admitted and may
    set its state.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.pods: dict[str, Pod] = {}
        self.created: list[Pod] = []
        """Every pod that ever was, in order."""
        self.requests: list[tuple[str, str]] = []
        self.on_create: Callable[[Pod], None] = lambda _: None
        self._away_until = 0.0
        self._dead: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.jobs = Jobs(self)

    @contextlib.contextmanager
    def running(self) -> Iterator[Cluster]:
        """Serve until the context ends; then every process that a pod started is ended."""
        ready = threading.Event()
        thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            for pod in self.created:
                _signal(pod, signal.SIGKILL)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig for it."""
        path = self.folder / "kubeconfig"
        cluster = {"server": f"http://127.0.0.1:{self.port}"}
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": "test", "user": {}}],
                    "contexts": [
                        {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}
                    ],
                }
            )
        )
        return path

    @property
    def connection(self) -> str:
        """Airflow's connection to it, as its variable has it."""
        return json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(self.kubeconfig)}})

    def wait_for(self, stage: str, phase: str = "Running", *, nth: int = 1, seconds: float = 60) -> Pod:
        """The ``nth`` pod of ``stage`` once it is in ``phase``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = [pod for pod in list(self.created) if pod.stage == stage]
            if len(found) >= nth and found[nth - 1].phase == phase:
                return found[nth - 1]
            time.sleep(TICK)
        raise AssertionError(
            f"no pod {nth} of {stage} {phase} within {seconds} s: {[(p.name, p.phase) for p in self.created]}"
        )

    def left(self, seconds: float = 15) -> list[str]:
        """Names of pods, Jobs and Services that nobody deleted; deletion takes a moment."""
        deadline = time.monotonic() + seconds
        while self._all() and time.monotonic() < deadline:
            time.sleep(TICK)
        return self._all()

    def _all(self) -> list[str]:
        return [*self.pods, *self.jobs.jobs, *self.jobs.services]

    def evict(self, pod: Pod, reason: str = "Evicted") -> None:
        """As a node under pressure does: the process is ended, the pod stays, failed."""
        pod.reason = reason
        pod.conditions += [
            {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "low on memory"}
        ]
        _signal(pod, signal.SIGKILL)

    def kill(self, pod: Pod) -> None:
        """SIGKILL to its process."""
        _signal(pod, signal.SIGKILL)

    def restart_node(self, pod: Pod) -> None:
        """As when its node, or the node's container runtime, starts again: the real end of the container is not known."""
        pod.state["terminated"] = {"exitCode": 255, "reason": "Unknown"}
        _signal(pod, signal.SIGKILL)

    def start_late(self, pod: Pod, seconds: float, reason: str, message: str) -> None:
        """Let the container wait with ``reason`` first, and start it after ``seconds``."""

        async def start() -> None:
            await asyncio.sleep(seconds)
            await self._run(pod)

        pod.state = {"waiting": {"reason": reason, "message": message}}
        self.in_background(start())

    def vanish(self, pod: Pod) -> None:
        """As when its node is taken away and the garbage collector has passed: no trace is left."""
        _signal(pod, signal.SIGKILL)
        self.pods.pop(pod.name, None)

    def lose_node(self, pod: Pod) -> None:
        """As when its node no longer answers: the pod is deleted by the cluster, and nobody confirms that it is gone."""
        self._dead.add(pod.name)
        pod.metadata["deletionTimestamp"] = now()

    def away(self, seconds: float) -> None:
        """Answer nothing for a while: connections are closed."""
        self._away_until = time.monotonic() + seconds

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)

        @web.middleware
        async def faults(request: web.Request, handler: Any) -> web.StreamResponse:
            if time.monotonic() < self._away_until and request.transport is not None:
                request.transport.abort()
            self.requests.append((request.method, request.path))
            answer: web.StreamResponse = await handler(request)
            return answer

        app = web.Application(middlewares=[faults])
        routes = [
            web.post(PODS, self._create), web.get(PODS, self._list), web.get(PODS + "/{name}", self._read),
            web.patch(PODS + "/{name}", self._patch), web.delete(PODS + "/{name}", self._delete),
            web.post(PODS + "/{name}/eviction", self._evict), web.get(PODS + "/{name}/log", self._log),
            web.get("/api/v1/namespaces/{namespace}/events", self._events), web.get("/version", self._version),
        ]  # fmt: skip
        app.add_routes([*routes, *self.jobs.routes()])

        async def start() -> None:
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]
            ready.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["metadata"]["name"] in self.pods:
            return _problem(409, f"pods {body['metadata']['name']} already exists")
        return web.json_response(self.admit(body, request.match_info["namespace"]).seen(), status=201)

    def admit(self, body: dict[str, Any], namespace: str) -> Pod:
        """Take a new pod in, and start it unless `on_create` gave it another state."""
        pod = Pod(body, namespace, self.folder / "nodes")
        self.pods[pod.name] = pod
        self.created.append(pod)
        self.on_create(pod)
        if pod.state == {"waiting": {"reason": "ContainerCreating"}}:
            self.in_background(self._run(pod))
        return pod

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it run beside the server."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, pod: Pod) -> None:
        """The node: start the container's command, keep its log, say how it ended."""
        (pod.scratch / "tmp").mkdir(parents=True)
        container = pod.spec["containers"][0]
        argv = [*(container.get("command") or []), *(container.get("args") or [])]
        pod.process = await asyncio.create_subprocess_exec(
            *argv, cwd=os.environ.get("AIRLOOP_CODE"), env=pod.environment(), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True, limit=2**20,
        )  # fmt: skip
        pod.phase, pod.started, pod.state = "Running", now(), {"running": {"startedAt": now()}}
        assert pod.process.stdout is not None
        async for line in pod.process.stdout:
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + f"{len(pod.log) % 1000:03d}Z"
            pod.log.append(f"{stamp} {line.decode(errors='replace').rstrip()}\n")
        code = await pod.process.wait()
        code = code if code >= 0 else 128 - code
        ended = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "startedAt": pod.started,
            "finishedAt": now(),
        }
        pod.state = {"terminated": ended | pod.state.get("terminated", {})}
        pod.phase = "Succeeded" if code == 0 else "Failed"

    async def _list(self, request: web.Request) -> web.Response:
        selector = [part for part in request.query.get("labelSelector", "").split(",") if part]
        found = [pod.seen() for pod in self.pods.values() if all(_matches(pod, part) for part in selector)]
        return web.json_response(
            {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": found}
        )

    async def _read(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        return web.json_response(pod.seen()) if pod else _missing(request)

    async def _patch(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        if pod is None:
            return _missing(request)
        pod.metadata.setdefault("labels", {}).update(((await request.json()).get("metadata") or {}).get("labels") or {})
        return web.json_response(pod.seen())

    async def _delete(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        if pod is None:
            return _missing(request)
        if request.query.get("gracePeriodSeconds") == "0":
            self.vanish(pod)
        elif pod.name not in self._dead:
            self.end(pod)
        return web.json_response(pod.seen())

    async def _evict(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        if pod is None:
            return _missing(request)
        pod.conditions += [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
        self.end(pod)
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"}, status=201)

    def end(self, pod: Pod) -> None:
        """Ask the process to end; the pod goes when it has."""
        pod.metadata["deletionTimestamp"] = now()
        _signal(pod, signal.SIGTERM)

        async def go() -> None:
            for _ in range(200):
                if pod.process is None or pod.process.returncode is not None:
                    break
                await asyncio.sleep(TICK)
            _signal(pod, signal.SIGKILL)
            self.pods.pop(pod.name, None)

        self.in_background(go())

    async def _log(self, request: web.Request) -> web.StreamResponse:
        pod = self.pods.get(request.match_info["name"])
        if pod is None:
            return _missing(request)
        stamps = request.query.get("timestamps", "").lower() == "true"
        return web.Response(text="".join(line if stamps else line.partition(" ")[2] for line in pod.log))

    async def _events(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"kind": "EventList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}
        )

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.0"})


def _signal(pod: Pod, number: int) -> None:
    if pod.process is not None and pod.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pod.process.pid, number)


def _matches(pod: Pod, requirement: str) -> bool:
    labels = pod.metadata.get("labels") or {}
    if requirement.startswith("!"):
        return requirement[1:] not in labels
    if "!=" in requirement:
        key, _, value = requirement.partition("!=")
        return bool(labels.get(key.strip()) != value.strip())
    key, _, value = requirement.partition("=")
    return bool(labels.get(key.strip()) == value.strip())


def _missing(request: web.Request) -> web.Response:
    return _problem(404, f'pods "{request.match_info["name"]}" not found')


def _problem(code: int, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
    return web.json_response(body, status=code)
