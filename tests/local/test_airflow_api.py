"""What is asked of Airflow happens once, also where its answer was lost on the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from local.airflow_api import Airflow
from local.errors import LocalError


class Api(ThreadingHTTPServer):
    """Makes what it is asked for once; the first ``lost`` answers do not arrive."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.made: list[dict[str, Any]] = []
        self.lost = 0


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = any(one == body or one.get("dag_run_id", 0) == body.get("dag_run_id") for one in self.server.made)
        if not known:
            self.server.made.append(body)
        if self.server.lost:
            self.server.lost -= 1
            self.connection.close()
            return
        content = json.dumps({"detail": "there is one"} if known else body).encode()
        self.send_response(409 if known else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def airflow(api: Api) -> Airflow:
    return Airflow(f"http://127.0.0.1:{api.server_port}", "password")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_backfill_is_made_once(api: Api, airflow: Airflow, lost: int) -> None:
    api.lost = lost
    airflow.backfill("flights.ingest", "2013-01-01", "2013-02-01")
    assert len(api.made) == 1


@pytest.mark.parametrize("lost", [0, 1])
def test_a_run_is_started_once_and_its_id_known(api: Api, airflow: Airflow, lost: int) -> None:
    api.lost = lost
    run_id = airflow.trigger("flights.ingest", {"interval": "2013-01"})
    (made,) = api.made
    assert (made["dag_run_id"], made["conf"]) == (run_id, {"interval": "2013-01"}) and run_id.startswith("manual__")


def test_what_was_there_before_is_refused(api: Api, airflow: Airflow) -> None:
    airflow.backfill("flights.ingest", "2013-01-01", "2013-02-01")
    with pytest.raises(LocalError, match="Airflow refuses POST /backfills: 409"):
        airflow.backfill("flights.ingest", "2013-01-01", "2013-02-01")
