"""The services of one machine: what each is called, how it starts, where it listens and how it says that it is well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from local import postgres
from local.paths import scripts
from local.place import HOST, Place
from tasks.core.urls import url_of


def _answering(_body: object, _since: datetime) -> bool:
    """That the endpoint answered with a 2xx is enough."""
    return True


@dataclass(frozen=True)
class Service:
    """One supervised program."""

    name: str
    title: str
    command: tuple[str, ...]
    health_url: str = ""
    port: int | None = None
    """The port it must itself be listening on, with the variable that moves it; None for Airflow's parts that listen on none."""
    port_variable: str = ""
    healthy: Callable[[object, datetime], bool] = _answering
    """Reads the health endpoint's JSON body (None if it is no JSON); `since` is when this process started, in UTC."""
    stop_seconds: int = 10
    answers: Callable[[int], bool] | None = None
    """In place of a health endpoint: whether the process of this id is well."""
    first: bool = False
    """The others start when it is well, and stop before it."""


def services(place: Place) -> tuple[Service, ...]:
    """All services; dependencies first. The online service is left out while serving/app.py does not exist."""
    online = (_online(place),) if (place.code / "serving" / "app.py").exists() else ()
    return (_postgres(place), _mlflow(place), _api_server(place), *_airflow_parts(place), *online)


def _postgres(place: Place) -> Service:
    home = place.home
    return Service(
        "postgres",
        "PostgreSQL",
        (str(scripts() / "python"), "-m", "local.postgres_server", str(home)),
        stop_seconds=30,
        answers=lambda pid: postgres.answers(home, pid),
        first=True,
    )


def _mlflow(place: Place) -> Service:
    home = place.home / "mlflow"
    # Any port: `ssh -L` moves it. A page of another site must not reach it by a name that resolves to loopback.
    hosts = f"{HOST}:*,localhost:*,[[]::1]:*"
    return Service(
        "mlflow",
        "MLflow",
        (
            *(str(scripts() / "python"), "-m", "local.program", str(place.home), str(place.mlflow_port)),
            str(scripts() / "mlflow"),
            "server",
            *("--host", HOST, "--port", str(place.mlflow_port), "--workers", "1"),
            *("--backend-store-uri", postgres.url(place.home, "mlflow")),
            *("--artifacts-destination", url_of(home / "artifacts")),  # of a bare path MLflow decodes the escapes
            *("--static-prefix", place.mlflow_path),
            *("--allowed-hosts", hosts),
        ),
        f"{place.mlflow_url}/health",
        place.mlflow_port,
        "AIRLOOP_MLFLOW_PORT",
    )


def _api_server(place: Place) -> Service:
    return Service(
        "airflow-api",
        "Airflow",
        (str(scripts() / "airflow"), "api-server"),
        f"{place.airflow_url}/api/v2/monitor/health",
        place.airflow_port,
        "AIRLOOP_AIRFLOW_PORT",
    )


def _airflow_parts(place: Place) -> tuple[Service, ...]:
    # The log servers of scheduler and triggerer bind every address, and 3.3 has no setting for it. Nobody needs them
    # here: the api-server reads the same files.
    quiet = "--skip-serve-logs"
    parts = (
        ("scheduler", "Airflow's scheduler", (quiet,)),
        ("dag-processor", "Airflow's DAG processor", ()),
        ("triggerer", "Airflow's triggerer", (quiet,)),
    )
    return tuple(
        Service(
            f"airflow-{part}",
            title,
            (str(scripts() / "airflow"), part, *options),
            f"{place.airflow_url}/api/v2/monitor/health",
            healthy=_beats(part.replace("-", "_")),
        )
        for part, title, options in parts
    )


def _online(place: Place) -> Service:
    return Service(
        "online",
        "Online service",
        (
            str(scripts() / "uvicorn"),
            "serving.app:app",
            *("--app-dir", str(place.code)),  # by default uvicorn imports what lies where it is started
            *("--host", HOST, "--port", str(place.online_port), "--no-access-log"),
            *("--http", "serving.whole:Protocol"),
            *("--timeout-keep-alive", "75"),  # longer than a proxy in front keeps a connection that it does not use
            *("--timeout-graceful-shutdown", "5"),  # a client that sent half a request keeps nothing from ending
        ),
        f"{place.online_url}/healthz",
        place.online_port,
        "AIRLOOP_ONLINE_PORT",
    )


def _beats(part: str) -> Callable[[object, datetime], bool]:
    """A heartbeat newer than the process: the row of an earlier scheduler in the same database says nothing."""

    def healthy(body: object, since: datetime) -> bool:
        found = body.get(part, {}) if isinstance(body, dict) else {}
        try:
            beat = found[f"latest_{part}_heartbeat"]
            return bool(found["status"] == "healthy" and datetime.fromisoformat(beat) > since)
        except (KeyError, TypeError, ValueError):
            return False

    return healthy
