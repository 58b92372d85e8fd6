"""resolve: pins the champion to beat as files of this run, since DVC cannot see what the ledger says today.

An unreadable ledger or champion fails the run: judged against nothing, any candidate would look good.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tasks.core.errors import DataError, run_main
from tasks.modelling import model
from tasks.registry import recorded_settings
from tasks.registry.ledger import Entry, Evidence, Ledger
from tasks.settings.environment import environment, store
from tasks.storage.artefacts import Store, sha256, to_json, write_atomic

NOBODY = {"version": None, "seq": None, "effective_from": None, "model": None, "data_through": None}
"""champion.json where nothing is live."""


def resolve(source: Store) -> dict[str, bytes]:
    """Files of the champion folder, by name, from the newest ledger entry; DataError when it cannot be read whole."""
    entry = Ledger(source).latest()
    if entry is None or entry.evidence is None:
        return {"champion.json": to_json(NOBODY)}
    return _fetch(source, entry, entry.evidence)


def _fetch(source: Store, entry: Entry, evidence: Evidence) -> dict[str, bytes]:
    assert entry.to_version is not None  # the ledger's rule: it has evidence
    try:
        onnx = source.read(f"models/{evidence.model}/model.onnx", evidence.model)
        contract = source.read(f"models/{evidence.model}/contract.json", evidence.contract)
        model.load(onnx, contract, evidence.model)
        _, settings = recorded_settings.read(entry.to_version, evidence.run, source, environment().model) or ("", {})
    except (FileNotFoundError, DataError) as error:
        raise DataError(
            f"The champion v{entry.to_version} (ledger entry {entry.seq}) cannot be read, so no candidate can be judged "
            f"against it: {error} Restore its folder in the store, or roll back to a version that is whole."
        ) from None
    champion = {
        "version": entry.to_version,
        "seq": entry.seq,
        "effective_from": entry.effective_from,
        "model": sha256(onnx),
        "data_through": evidence.data_through,
        "holdout": settings.get("holdout"),  # the days that it was kept from; null where they are not recorded
    }
    return {"champion.json": to_json(champion), "model.onnx": onnx, "contract.json": contract}


def write(files: dict[str, bytes], folder: Path = Path("champion")) -> None:
    """Make ``folder`` hold exactly ``files``; champion.json, which speaks for the others, last."""
    for name in ("model.onnx", "contract.json"):
        if name not in files:
            (folder / name).unlink(missing_ok=True)
    for name in sorted(files, key=lambda n: n == "champion.json"):
        write_atomic(folder / name, files[name])


def main() -> None:
    """Pin the champion of the ledger's newest entry."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    files = resolve(store())
    write(files)
    print(f"resolve: {describe(files)}")


def describe(files: dict[str, bytes]) -> str:
    """One line for people."""
    champion = json.loads(files["champion.json"])
    if champion["version"] is None:
        return "no champion yet"
    return f"champion v{champion['version']}, trained through {champion['data_through']}, {champion['model'][:12]}"


if __name__ == "__main__":
    run_main(main)
