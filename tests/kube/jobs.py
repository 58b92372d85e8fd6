"""Indexed Jobs that are never tried again, and headless Services, for the small API server of tests/kube/cluster.py."""

from __future__ import annotations

import asyncio
import copy
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from tests.kube.cluster import Cluster, Pod

JOBS = "/apis/batch/v1/namespaces/{namespace}/jobs"
SERVICES = "/api/v1/namespaces/{namespace}/services"
LABEL = "batch.kubernetes.io/job-name"
INDEX = "batch.kubernetes.io/job-completion-index"


class Jobs:
    """The Job controller, and what is asked of Jobs and Services: create, read, list by labels, delete.

    A Job whose pod fails, is deleted or vanishes has failed; its other pods are then deleted, as with a backoffLimit of 0.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.jobs: dict[str, dict[str, Any]] = {}
        self.services: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[web.RouteDef]:
        """For the server."""
        one = JOBS + "/{name}"
        return [
            web.post(JOBS, self._create), web.get(JOBS, self._list), web.get(one, self._read), web.delete(one, self._delete),
            web.post(SERVICES, self._serve),
        ]  # fmt: skip

    def pods(self, name: str) -> list[Pod]:
        """Pods of a Job, by rank, that are there."""
        found = [pod for pod in self._cluster.pods.values() if pod.metadata["labels"].get(LABEL) == name]
        return sorted(found, key=lambda pod: int(pod.metadata["labels"][INDEX]))

    async def _create(self, request: web.Request) -> web.Response:
        job = await request.json()
        metadata, spec = job["metadata"], job["spec"]
        name = metadata["name"]
        if name in self.jobs:
            return _answer({"code": 409, "message": f"jobs {name} already exists"}, 409)
        metadata |= {
            "uid": str(uuid.uuid4()),
            "creationTimestamp": _now(),
            "namespace": request.match_info["namespace"],
        }
        job["status"] = {"conditions": []}
        self.jobs[name] = job
        for index in range(spec["completions"]):
            body = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(spec["template"])}
            body["metadata"]["name"] = f"{name}-{index}-{uuid.uuid4().hex[:5]}"
            body["metadata"]["labels"] |= {LABEL: name, INDEX: str(index)}
            self._cluster.admit(body, metadata["namespace"])
        self._cluster.in_background(self._control(job))
        return _answer(job, 201)

    async def _control(self, job: dict[str, Any]) -> None:
        name, completions = job["metadata"]["name"], job["spec"]["completions"]
        while name in self.jobs:
            pods = self.pods(name)
            bad = [pod for pod in pods if pod.phase == "Failed" or "deletionTimestamp" in pod.metadata]
            if bad or len(pods) < completions:
                job["status"]["conditions"].append(
                    {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
                )
                for pod in pods:
                    if pod not in bad and pod.phase != "Succeeded":
                        self._cluster.end(pod)
                return
            if all(pod.phase == "Succeeded" for pod in pods):
                job["status"]["conditions"].append({"type": "Complete", "status": "True"})
                return
            await asyncio.sleep(0.02)

    async def _list(self, request: web.Request) -> web.Response:
        asked = [part.partition("=") for part in request.query.get("labelSelector", "").split(",") if "=" in part]
        wanted = {key: value for key, _, value in asked if not key.endswith("!")}
        found = [job for job in self.jobs.values() if wanted.items() <= job["metadata"]["labels"].items()]
        return _answer({"kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": found})

    async def _read(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["name"])
        return _answer(job) if job else _answer({"code": 404, "message": "not found"}, 404)

    async def _delete(self, request: web.Request) -> web.Response:
        job = self.jobs.pop(request.match_info["name"], None)
        if job is None:
            return _answer({"code": 404, "message": "not found"}, 404)
        for pod in self.pods(job["metadata"]["name"]):
            self._cluster.end(pod)
        owned = [name for name, service in self.services.items() if _owner(service) == job["metadata"]["uid"]]
        for name in owned:
            del self.services[name]
        return _answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    async def _serve(self, request: web.Request) -> web.Response:
        service = await request.json()
        if _owner(service) in [
            job["metadata"]["uid"] for job in self.jobs.values()
        ]:  # else it is garbage, and collected
            self.services[service["metadata"]["name"]] = service
        return _answer(service, 201)


def _owner(service: dict[str, Any]) -> str:
    return str(service["metadata"]["ownerReferences"][0]["uid"])


def _now() -> str:
    from tests.kube.cluster import now

    return now()


def _answer(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(body, status=status)
