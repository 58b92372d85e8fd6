"""The interval's numbers and pages in MLflow, for those who look there. MLflow decides nothing and may be down."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.errors import warn
from tasks.registry import mlflow_registry
from tasks.registry.mlflow_server import MONITOR, experiment_name, trouble
from tasks.storage.artefacts import sha256, to_json


def log(report: Mapping[str, Any], pages: Mapping[str, bytes], uri: str) -> str | None:
    """Log one run with ``report``'s measures and ``pages``; returns its id, None (and a warning) if MLflow did not take it.

    The run that holds the same report is found and not made again.
    """
    if said := trouble(uri):
        warn(f"MLflow at {uri} {said}, so the interval is not logged there; the decision and the report are kept")
        return None
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return _log(MlflowClient(uri), report, pages)
    except (MlflowException, OSError) as error:
        warn(f"MLflow at {uri} did not take the interval ({error}); the decision and the report are kept")
        return None


def metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """Flat names to numbers, as MLflow wants them."""
    found = {"rows": float(report["rows"]), "labelled_share": float(report["labelled_share"])}
    for who in ("champion", "shadow"):
        model = report[who] or {}
        for measure in ("auc", "log_loss", "ece"):
            if model.get(measure):
                found |= {f"{who}.{measure}": model[measure]["value"], f"{who}.{measure}_se": model[measure]["se"]}
    found |= {f"psi.{name}": value for name, value in (report["quality"]["psi"] or {}).items()}
    return found


def _log(client: Any, report: Mapping[str, Any], pages: Mapping[str, bytes]) -> str:
    from mlflow.entities import Metric

    experiment_id = mlflow_registry.experiment(client, experiment_name(MONITOR))
    digest = sha256(to_json(report))
    same = client.search_runs(
        [experiment_id], f"tags.`airloop.report` = '{digest}' and attributes.status = 'FINISHED'", max_results=1
    )
    if same:
        return str(same[0].info.run_id)
    decision, champion = report["decision"], report["champion"]
    version = f"v{champion['version']}" if champion else "none"
    run_id = str(client.create_run(experiment_id, run_name=f"{report['interval']} {version}", tags={
        "airloop.interval": report["interval"], "airloop.version": version, "airloop.outcome": decision["outcome"],
        "airloop.retrain": str(decision["retrain"]).lower(), "airloop.reason": decision["reason"], "airloop.report": digest,
    }).info.run_id)  # fmt: skip
    # The step is the interval (201304), so that runs of one metric line up by interval in the UI's charts.
    step = int("".join(filter(str.isdigit, report["interval"])))
    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(name, value, now, step) for name, value in metrics(report).items()])
    with tempfile.TemporaryDirectory(prefix="airloop-") as folder:
        for name, data in pages.items():
            Path(folder, name).write_bytes(data)
        client.log_artifacts(run_id, folder)
    client.set_terminated(run_id)
    return run_id
