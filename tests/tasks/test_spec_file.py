"""The declaration as data: spec.json is whole, canonical and never older than model.py."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from models.flights.model import MODEL
from tasks import spec, spec_check, spec_file
from tasks.core.errors import ConfigError

NOT_DATA = {"example", "own_words", "duckdb_macros"}
"""Classes and text for code that spec.json names by its path, the demo's feed, and words for a test of this repository."""
CHANGES: dict[str, Any] = {
    "name": "other",
    "owner": "risk",
    "cadence": spec.Monthly("Europe/Berlin"),
    "first": "2014-01",
    "last": None,
    "key": dict(reversed(MODEL.key.items())),
    "golden_set": spec.Golden(("origin",), "origin"),
    "outage": spec.Group("sensors", ("temp",)),
    "maturity": dt.timedelta(days=30),
    "views": {},
    "tables": dict(list(MODEL.tables.items())[:1]),
    "words": dataclasses.replace(MODEL.words, rows="orders"),
    "online": dataclasses.replace(MODEL.online, answer="other"),
}


@pytest.mark.parametrize("name", spec.names())
def test_what_is_committed_is_what_is_declared(name: str) -> None:
    assert spec_file.path_of(name).read_bytes() == spec_file.content(spec.declared(name)), f"run: airloop render {name}"


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(spec.ModelSpec) if f.name not in NOT_DATA])
def test_every_field_is_in_the_file(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = getattr(MODEL, field)
    changed = CHANGES.get(field, spec.Deferred("models.flights.x:y"))
    if field not in CHANGES and not isinstance(value, spec.Deferred):
        changed = tuple(value[:-1]) if isinstance(value, tuple) else "else"
    other = dataclasses.replace(MODEL, **{field: changed})
    monkeypatch.setattr(spec_file, "sections", lambda _: {})  # a renamed model has no folder to read them from
    assert spec_file.content(other) != spec_file.content(MODEL)


def test_every_field_of_the_service_is_in_the_file() -> None:
    fields = {field.name for field in dataclasses.fields(spec.Online)}
    found = spec_file.rendered(MODEL)
    code = {name.removeprefix("online.") for name in found["code"] if name.startswith("online.")}
    assert fields <= {*found["online"], *code, "request"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda found: found | {"owner": "somebody"},
            "older than model.py: owner differ. Render it: `airloop render flights`",
        ),
        (lambda found: {k: v for k, v in found.items() if k != "words"}, "words differ"),
        (lambda found: found | {"digests": found["digests"] | {"golden": "0"}}, "golden differ"),
        (lambda found: {k: v for k, v in found.items() if k != "digests"}, "entity, features, golden"),
    ],
)
def test_a_spec_that_is_older_than_its_declaration_is_refused(change: Any, says: str, tmp_path: Path) -> None:
    path = spec_file.path_of("flights", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(change(spec_file.rendered(MODEL))))
    with pytest.raises(ConfigError) as error:
        spec_file.require_rendered(MODEL, tmp_path)
    assert says in str(error.value)


def test_a_spec_that_is_not_there_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read.*airloop render flights"):
        spec_file.require_rendered(MODEL, tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("owner", " ", "owner=' ' is empty"),
        ("rows", "orders", "rows names 'orders', which is no table; declare it in tables"),
        ("planned", ("colour",), "planned names 'colour', which is no feature"),
        ("outage", spec.Group("sensors", ("colour",)), "outage.columns names 'colour'"),
        ("shown_numbers", ("carrier",), "shown_numbers names 'carrier', which is no number"),
        ("shown_categories", ("temp",), "shown_categories names 'temp', which is no category"),
        ("golden_set", spec.Golden(("colour",), "origin"), "golden_set.strata names 'colour'"),
        ("golden_set", spec.Golden(("origin",), "colour"), "golden_set.represented names 'colour'"),
        ("asked", ("colour",), "asked names 'colour'"),
        ("numbers", ("temp", "temp"), "features='temp' are declared twice"),
        ("numbers", ("temp", "late"), "label='late' is a feature too"),
        ("views", {"x": spec.View("orders", "all")}, "views names 'orders', which is no table"),
        ("online", dataclasses.replace(MODEL.online, examples=()), "online.examples is empty"),
    ],
)
def test_a_declaration_that_contradicts_itself_names_field_value_and_way_out(field: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        spec_check.require_sound(dataclasses.replace(MODEL, **{field: value}))
    assert str(error.value).startswith("models/flights/model.py: ") and says in str(error.value)


def test_a_table_s_order_and_key_are_columns_of_it() -> None:
    table = dataclasses.replace(MODEL.tables["weather"], order=("colour",), unique=("shape",))
    with pytest.raises(ConfigError, match=r"tables\['weather'\]\.order names 'colour'.*unique names 'shape'"):
        spec_check.require_sound(dataclasses.replace(MODEL, tables={**MODEL.tables, "weather": table}))


def test_rendering_writes_once(tmp_path: Path) -> None:
    assert spec_file.write("flights", tmp_path) and not spec_file.write("flights", tmp_path)
    assert spec_file.path_of("flights", tmp_path).read_bytes() == spec_file.content(MODEL)
