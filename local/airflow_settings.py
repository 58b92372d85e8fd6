"""Airflow's settings on one machine, as environment variables, each with its reason where it is not plain."""

from __future__ import annotations

import json
import os
from pathlib import Path

from local import postgres
from local.place import HOST, Place


def fixed(place: Place, secret: dict[str, str]) -> dict[str, str]:
    """What keeps this Airflow in its own home, on loopback, with its own keys; nothing overrides it."""
    airflow, url = place.home / "airflow", place.airflow_url
    return {
        "AIRFLOW_HOME": str(airflow),
        "AIRFLOW_CONFIG": str(airflow / "airflow.cfg"),
        **_settings(
            core={
                "dags_folder": place.code / "dags",
                "plugins_folder": place.code / "plugins",
                "load_examples": False,
                "executor": "LocalExecutor",
                "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
                "simple_auth_manager_users": "admin:admin",
                "simple_auth_manager_passwords_file": passwords_file(place.home),
                "fernet_key": secret["fernet_key"],
                "execution_api_server_url": f"{url}/execution/",
                # The machine's name is of no use in a log's address here, and looking it up can take seconds.
                "hostname_callable": "local.airflow_settings.hostname",
            },
            database={"sql_alchemy_conn": postgres.url(place.home, "airflow")},
            api={"host": HOST, "port": place.airflow_port, "base_url": url, "secret_key": secret["secret_key"]},
            api_auth={"jwt_secret": secret["jwt_secret"]},
            logging={"base_log_folder": airflow / "logs"},
            scheduler={"enable_health_check": False, "scheduler_health_check_server_host": HOST},
        ),
    }


def tuning() -> dict[str, str]:
    """What makes it quick and small on a laptop; a value in the process's environment wins."""
    return {
        **_settings(
            core={
                "parallelism": 4,  # LocalExecutor forks this many workers at once
                "dags_are_paused_at_creation": False,
                "dagbag_import_timeout": 120,  # each task parses its file again; 30 s is short on a busy laptop
                "min_serialized_dag_update_interval": 5,
            },
            api={"workers": 1, "instance_name": "Airloop"},
            scheduler={
                "scheduler_idle_sleep_time": 0.5,  # how late an idle scheduler sees new work; each look costs 25 ms of a core
                "task_instance_heartbeat_timeout": 60,  # how late a killed task is noticed; 300 otherwise
                "task_instance_heartbeat_timeout_detection_interval": 5,
                "orphaned_tasks_check_interval": 30,
            },
            dag_processor={
                "parsing_processes": 1,
                # A changed file is parsed at once all the same; parsing unchanged ones only costs a core.
                "min_file_process_interval": 300,
                "refresh_interval": 10,
                "bundle_refresh_check_interval": 2,
                "dag_file_processor_timeout": 120,
            },
            workers={"execution_api_timeout": 30},  # 5 s is short while Spark has every core
        ),
        "AIRFLOW_CONN_SPARK_DEFAULT": spark_connection(os.cpu_count() or 1),
    }


def spark_connection(cores: int) -> str:
    """Airflow's connection `spark_default`: Spark inside the submitting machine, on so many cores."""
    return json.dumps({"conn_type": "spark", "host": f"local[{cores}]", "extra": {"deploy-mode": "client"}})


def passwords_file(home: Path) -> Path:
    """Where Airflow reads the login from, as JSON of user to password."""
    return home / "airflow" / "passwords.json"


def hostname() -> str:
    """What Airflow calls this machine."""
    return "localhost"


def _settings(**sections: dict[str, object]) -> dict[str, str]:
    return {
        f"AIRFLOW__{section.upper()}__{name.upper()}": str(value)
        for section, options in sections.items()
        for name, value in options.items()
    }
