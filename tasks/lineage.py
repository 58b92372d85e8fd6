"""lineage: of one prediction, which model made it, from which data and code, and who let that model through.

python -m tasks.lineage <model>.2013-04.v1.0123456789abcdef    a batch prediction
python -m tasks.lineage <model>.online.2013-04-05.v1....       an online prediction
"""

from __future__ import annotations

import argparse
import io
import json
import re
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from tasks import spec
from tasks.core.errors import ConfigError, DataError, run_main
from tasks.intervals.cadence import KEY
from tasks.online import prediction_log
from tasks.registry import ledger
from tasks.settings import settings_files
from tasks.settings.environment import store
from tasks.spec import ModelSpec
from tasks.storage.artefacts import Store, sha256

FORMS = (
    "Ids look like <model>.2013-04.v1.0123456789abcdef (batch, column prediction_id of predictions/<interval>/) or "
    "<model>.online.2013-04-05.v1.... (online, in the service's answer)."
)
BATCH = re.compile(rf"[a-z0-9_]+\.(?P<interval>{KEY})\.v(?P<version>\d+)\.[0-9a-f]+")


def find_prediction(prediction_id: str, source: Store) -> dict[str, Any]:
    """The prediction with this id, its ``version`` and where it is kept; DataError when there is none."""
    if match := BATCH.fullmatch(prediction_id):
        name = f"predictions/{match['interval']}/v{match['version']}.parquet"
        if source.exists(name):
            table = pq.read_table(io.BytesIO(source.read(name)))
            rows = table.filter(pc.equal(table["prediction_id"], prediction_id)).to_pylist()
            if rows:
                return {**rows[0], "version": int(match["version"]), "kept_in": source.uri(name), "kind": "batch"}
    elif ".online." in prediction_id and (found := prediction_log.find(source, prediction_id)):
        return {**found, "kind": "online"}
    raise DataError(f"No prediction {prediction_id!r} in {source.url}. {FORMS}")


def model_of(prediction_id: str) -> ModelSpec:
    """The model that made the prediction; DataError when the id names none."""
    try:
        return spec.load(prediction_id.partition(".")[0])
    except ConfigError as error:
        raise DataError(f"No prediction {prediction_id!r}: no id of one begins like it ({error}). {FORMS}") from None


def trace(version: int, source: Store, model: ModelSpec) -> dict[str, Any]:
    """Model, data, code, gate and ledger entries of model ``version``, each checked against its recorded digest."""
    entries = [e for e in ledger.Ledger(source).entries() if e.to_version == version and e.evidence]
    if not entries or entries[0].evidence is None:
        raise DataError(f"The ledger never put v{version} live; there is no record of who let it through.")
    evidence = entries[0].evidence
    folder = f"runs/{evidence.run}"
    run = json.loads(source.read(f"{folder}/run.json"))
    lock = yaml.safe_load(source.read(f"{folder}/dvc.lock"))["stages"]
    gate = json.loads(source.read(f"models/{evidence.model}/gate.json", evidence.verdict))
    source.read(f"models/{evidence.model}/model.onnx", evidence.model)
    return {
        "version": version,
        "model": evidence.model,
        "run": evidence.run,
        "reason": run.get("reason", ""),
        "code": run["code"],
        "overrides": run["overrides"],
        "settings": _settings(f"{folder}/", run.get("model"), source),
        "dvc_lock": sha256(source.read(f"{folder}/dvc.lock")),
        "data": _data(lock, source, model.rows),
        "gate": gate,
        "ledger": [e.model_dump() for e in entries],
    }


def _settings(folder: str, model: str | None, source: Store) -> dict[str, str]:
    """Digest of each file of settings in the run's record; that of an older version has params.yaml only."""
    wanted = settings_files.recorded(model) if model else [settings_files.SHARED]
    names = [name for name in wanted if source.exists(f"{folder}{name}")]
    return {name: sha256(source.read(f"{folder}{name}")) for name in names}


def _data(lock: dict[str, Any], source: Store, table: str) -> list[dict[str, Any]]:
    """IntervalKey, features digest and rows of the training window, from the run's dvc.lock."""
    intervals = []
    for stage, entry in sorted(lock.items()):
        if not stage.startswith("features@"):
            continue
        interval = stage.partition("@")[2]
        record = json.loads(source.read(f"landed/{interval}.json")) if source.exists(f"landed/{interval}.json") else {}
        digest = entry["outs"][0]["md5"]
        current = record.get("features") == digest
        rows = record["counts"][table]["kept"] if current else None
        intervals.append({"interval": interval, "features": digest, "rows": rows, "still_current": current})
    return intervals


def render(prediction: dict[str, Any], found: dict[str, Any], model: ModelSpec) -> str:
    """All of it on one screen."""
    code, gate = found["code"], found["gate"]
    lines = [f"Prediction  {prediction['prediction_id']} ({prediction['kind']})"]
    shown = (*model.shown, "as_of", "probability", "state", "degraded", "kept_in")
    lines += [f"  {key:<16}{prediction[key]}" for key in shown if prediction.get(key) is not None]
    lines += [
        f"Model       {model.name} v{found['version']}  sha256 {found['model']}",
        f"  run             {found['run']}" + (f", asked for: {found['reason']}" if found["reason"] else ""),
        f"Code        {code['revision']}{' plus uncommitted changes' if code['dirty'] else ''}",
        f"  files           code/{code['tree']}.tar.gz",
        *(f"  {name:<27} sha256 {digest}" for name, digest in found["settings"].items()),
        *([f"  overrides       {found['overrides']}"] if found["overrides"] else []),
        f"Data        dvc.lock sha256 {found['dvc_lock']}",
    ]
    for interval in found["data"]:
        rows = f"{interval['rows']:,} rows" if interval["rows"] is not None else "landed again since with other content"
        lines.append(f"  {interval['interval']}         features md5 {interval['features']}  {rows}")
    lines.append(f"Gate        {gate.get('verdict')}: {gate.get('summary', '')}".rstrip(": "))
    lines += [f"  {failure}" for failure in gate.get("failures", [])]
    lines.append("Let through")
    for entry in found["ledger"]:
        lines.append(
            f"  ledger {entry['seq']}: {entry['action']} v{entry['from_version'] or '-'} -> v{entry['to_version']} "
            f"from {entry['effective_from']}, {entry['at']}"
        )
        lines.append(f"    by {entry['who']}: {entry['why']}")
    return "\n".join(lines)


def main() -> None:
    """Print the lineage of one prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prediction", help="prediction id")
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args()
    model = model_of(arguments.prediction)
    source = store(model.name)
    prediction = find_prediction(arguments.prediction, source)
    found = trace(int(prediction["version"]), source, model)
    if arguments.json:
        print(json.dumps({"prediction": prediction, **found}, indent=1, default=str))
    else:
        print(render(prediction, found, model))


if __name__ == "__main__":
    run_main(main)
