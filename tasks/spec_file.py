"""spec.json: a model's declaration as data, canonical and complete. Whatever does not run a model's code reads only this file.

Airflow's plugins, DVC (a stage depends on the sections that it needs), the record of a registered model, lineage and policy read
it. model.py is imported to render it, and for the code that a declaration names.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.core.errors import ConfigError, run_main
from tasks.settings.environment import CODE, archived
from tasks.settings.settings_files import spec_of
from tasks.spec import Deferred, ModelSpec, Online, Table, declared, sections
from tasks.storage.artefacts import sha256, to_json, write_atomic

SCHEMA = 1
"""Version of the file's layout."""
FIELDS: Mapping[str, tuple[str, ...]] = {
    "sources": ("tables",),
    "entity": ("rows", "key", "date"),
    "target": ("label", "maturity"),
    "features": ("categories", "numbers", "views"),
    "golden": ("golden_set",),
    "monitor": ("planned", "outage", "shown_categories", "shown_numbers"),
    "online": ("online", "asked"),
    "lineage": ("shown",),
    "words": ("words",),
}
"""Section of the file to the fields of the declaration that are in it. ``digests`` has a digest of each: a stage in dvc.yaml depends
on those of the sections that it reads, so that its entry in dvc.lock stays small."""


def path_of(name: str, root: Path = CODE) -> Path:
    """Where the rendered spec of the model ``name`` is."""
    return root / spec_of(name)


def content(model: ModelSpec) -> bytes:
    """The file's canonical content."""
    return to_json(rendered(model))


def write(name: str, root: Path = CODE) -> bool:
    """Render the model ``name``; returns whether its spec.json changed."""
    path, made = path_of(name, root), content(declared(name))
    changed = not path.exists() or path.read_bytes() != made
    if changed:
        write_atomic(path, made)
    return changed


def rendered(model: ModelSpec) -> dict[str, Any]:
    """The whole declaration of ``model`` as plain JSON, in sections that a stage can depend on."""
    return {
        **_data(model),
        "digests": digests(model, *FIELDS),
        "request": model.online.request().model_json_schema(),
        "settings": {name: kind.model_json_schema() for name, kind in sections(model.name).items()},
    }


def require_rendered(model: ModelSpec, root: Path = CODE) -> None:
    """ConfigError unless spec.json holds what ``model`` declares.

    The schemas of the request and of the settings are left out: to make them, every stage would have to import their classes.
    """
    if archived():
        return
    path = path_of(model.name, root)
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{spec_of(model.name)} cannot be read: {error}. {_way_out(model.name)}") from None
    declared = json.loads(to_json(_data(model)))
    digests = found.get("digests") or {}
    stale = sorted(
        name
        for name, section in declared.items()
        if found.get(name) != section or (name in FIELDS and digests.get(name) != _digest(section))
    )
    if stale:
        raise ConfigError(
            f"{spec_of(model.name)} is older than model.py: {', '.join(stale)} differ. {_way_out(model.name)}"
        )


def main() -> None:
    """Render the model that is named."""
    parser = argparse.ArgumentParser(description="Write a model's spec.json from its model.py.")
    parser.add_argument("model", help="name of a folder of models/")
    name = parser.parse_args().model
    print(f"{spec_of(name)}: {'rendered' if write(name) else 'unchanged'}")


def digests(model: ModelSpec, *sections: str) -> dict[str, str]:
    """Digests of these sections of the declaration."""
    data = _data(model)
    return {section: _digest(data[section]) for section in sections}


def _digest(section: Any) -> str:
    return sha256(to_json(section))


def _way_out(name: str) -> str:
    return f"Render it: `airloop render {name}`, and commit both."


def _data(model: ModelSpec) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": model.name,
        "owner": model.owner,
        "cadence": {"kind": model.cadence.kind, "zone": model.cadence.zone},
        "first": model.first,
        "last": model.last,
        "sources": {name: _source(table) for name, table in model.tables.items()},
        "entity": {
            "source": model.rows,
            "key": [{"name": name, "type": kind} for name, kind in model.key.items()],
            "date": model.date,
        },
        "target": {
            "kind": "binary",
            "column": model.label,
            "maturity_seconds": int(model.maturity.total_seconds()),
        },
        "features": {
            "columns": [
                *({"name": name, "kind": "category", "null": "unknown"} for name in model.categories),
                *({"name": name, "kind": "number", "null": "unknown"} for name in model.numbers),
            ],
            "views": {name: asdict(view) for name, view in model.views.items()},
        },
        "golden": asdict(model.golden_set),
        "monitor": {
            "planned": list(model.planned),
            "outage": asdict(model.outage),
            "categories": list(model.shown_categories),
            "numbers": list(model.shown_numbers),
        },
        "online": _online(model),
        "lineage": list(model.shown),
        "words": asdict(model.words),
        "landing": model.land_command,
        "code": _code(model),
    }


def _source(table: Table) -> dict[str, Any]:
    return {
        "feed": list(table.feed),
        "columns": [{"name": field.name, "type": str(field.type)} for field in _fields(table.kept)],
        "order": list(table.order),
        "unique": list(table.unique),
        "may_be_empty": table.may_be_empty,
    }


def _fields(schema: pa.Schema) -> list[pa.Field]:
    return [schema.field(number) for number in range(len(schema.names))]


def _online(model: ModelSpec) -> dict[str, Any]:
    online: Online = model.online
    return {
        "description": online.description,
        "many": online.many,
        "answer": online.answer,
        "answer_description": online.answer_description,
        "examples": [dict(example) for example in online.examples],
        "asked": list(model.asked),
        "form": {"question": online.form.question, "verdict": online.form.verdict, "labels": dict(online.form.labels)},
    }


def _code(model: ModelSpec) -> Mapping[str, str]:
    """Where the declaration is code: field to module and name."""
    places = {"": model, "online.": model.online}
    found = {
        f"{prefix}{field}": value.path
        for prefix, part in places.items()
        for field, value in vars(part).items()
        if isinstance(value, Deferred)
    }
    return dict(sorted(found.items()))


if __name__ == "__main__":
    run_main(main)
