"""Airflow's REST API, as far as the demo, the tests and the bench drive it: trigger, follow, read."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import httpx

from local import keys
from local.env import place
from local.errors import LocalError
from local.progress import waiting
from tasks.core import web

ENDED = {"success", "failed"}
RETRIES = 5
CONFLICT = 409


class RefusedError(LocalError):
    """Airflow answered that it will not; ``status`` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Airflow:
    """A logged-in client; it logs in again when its token has run out, and waits out a restarting api-server.

    Args:
        url: where Airflow answers; this machine's own unless given.
        password: of `admin`; the home's own unless given.
        pages: where a browser finds it, where that is elsewhere.
    """

    def __init__(self, url: str = "", password: str = "", pages: str = "") -> None:
        self._api = url or place().airflow_url
        self.url = pages or self._api
        self._login = {"username": "admin", "password": password or keys.load(place().home)["admin_password"]}
        self._http = web.client(f"{self._api}/api/v2", seconds=30)
        self._lost = 0
        """Requests without an answer, which were made again."""

    def trigger(self, dag: str, conf: dict[str, Any]) -> str:
        """Start a run of ``dag``; returns its run id. LocalError with the API's reason when it is refused."""
        run_id = f"manual__{dt.datetime.now(dt.UTC).isoformat()}"  # ours, so that asking twice starts one run
        self._create(f"/dags/{dag}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": conf})
        return run_id

    def runs(self, dag: str = "~") -> list[dict[str, Any]]:
        """The newest 100 runs of ``dag`` (of all DAGs by default), oldest first."""
        found = self._call("GET", f"/dags/{dag}/dagRuns", params={"limit": 100, "order_by": "-id"})["dag_runs"]
        return list(reversed(found))

    def run(self, dag: str, run_id: str) -> dict[str, Any]:
        """One run."""
        return self._call("GET", f"/dags/{dag}/dagRuns/{run_id}")

    def tasks(self, dag: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Task id to task instance of one run."""
        found = self._call("GET", f"/dags/{dag}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def log(self, dag: str, run_id: str, task: str, attempt: int) -> str:
        """The log of one try of a task, as text."""
        answer = self._call(
            "GET", f"/dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/logs/{attempt}", params={"full_content": True}
        )
        content = answer.get("content", "")
        if isinstance(content, str):
            return content
        return "\n".join(str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in content)

    def wait(self, dag: str, run_id: str, seconds: float = 600) -> dict[str, Any]:
        """Follow one run to its end; returns it. LocalError when it takes longer than ``seconds``."""
        run = self.run(dag, run_id)
        for _ in waiting(lambda: f"{dag} {run_id}", seconds, 0.5):
            run = self.run(dag, run_id)
            if run["state"] in ENDED:
                return run
        raise LocalError(f"{dag} {run_id} is still {run['state']} after {seconds:.0f} s; see {self.url}/dags/{dag}.")

    def clear(self, dag: str, run_id: str) -> None:
        """Clear the failed tasks of a run, so that it goes on."""
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": True}
        self._call("POST", f"/dags/{dag}/clearTaskInstances", json=body)

    def backfill(self, dag: str, first: str, last: str, *, max_active_runs: int = 1) -> None:
        """Start a backfill, oldest interval first, as `airflow backfill create --reprocess-behavior completed` does.

        Args:
            dag: whose.
            first: when the first interval begins: a moment in ISO 8601, or a day, which begins in UTC. Airflow takes no
                interval that has begun before it.
            last: when the last one begins, or later.
            max_active_runs: how many of its runs may be at work.
        """
        body = {
            "dag_id": dag,
            "from_date": first if "T" in first else f"{first}T00:00:00Z",
            "to_date": last if "T" in last else f"{last}T00:00:00Z",
            "reprocess_behavior": "completed",
            "max_active_runs": max_active_runs,
        }
        self._create("/backfills", body)

    def pause(self, dag: str) -> None:
        """Start no further runs of ``dag``."""
        self._call("PATCH", f"/dags/{dag}", json={"is_paused": True})

    def knows(self, dag: str) -> bool:
        """Whether ``dag`` has been parsed and can be triggered."""
        return self._http_call("GET", f"/dags/{dag}").status_code == 200

    def import_errors(self) -> list[str]:
        """What keeps DAG files from being loaded."""
        return [f"{e['filename']}: {e['stack_trace']}" for e in self._call("GET", "/importErrors")["import_errors"]]

    def _create(self, path: str, body: dict[str, Any]) -> None:
        """Make something once: a busy Airflow may have made it and answered too late, and then refuses the second request."""
        lost = self._lost
        try:
            self._call("POST", path, json=body)
        except RefusedError as error:
            if error.status != CONFLICT or self._lost == lost:
                raise

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        answer = self._http_call(method, path, **arguments)
        if answer.status_code >= 400:
            raise RefusedError(
                f"Airflow refuses {method} {path}: {answer.status_code} {answer.text[:500]}", answer.status_code
            )
        return dict(answer.json())

    def _http_call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        for attempt in range(RETRIES):
            try:
                answer = self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                if attempt == RETRIES - 1:
                    raise LocalError(
                        f"Airflow does not answer at {self._api} ({error}); start it with `airloop up`."
                    ) from None
                self._lost += 1
                time.sleep(1 + attempt)
                continue
            if answer.status_code == 401 and attempt < RETRIES - 1:
                self._http.headers["Authorization"] = f"Bearer {self._token()}"
                continue
            return answer
        raise LocalError(
            f"Airflow at {self._api} does not accept this home's login of `admin`: another home's may have that port, "
            "`airloop status` says it. Else `airloop down`, then `airloop up`."
        )

    def _token(self) -> str:
        with web.client(self._api, seconds=30) as client:
            answer = client.post("/auth/token", json=self._login)
        return str(answer.json().get("access_token", ""))
