"""A model's spec.json, as far as Airflow reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airloop.cadence import calendar
from airloop.model import BrokenModel, Model, all_models, broken_models, find, models

from tasks.core.errors import ConfigError
from tasks.core.model_names import TAKEN, check
from tasks.intervals.cadence import Monthly
from tests.airflow_home import ROOT

SPEC = {
    "schema": 1, "name": "churn", "owner": "growth", "cadence": {"kind": "monthly", "zone": "UTC"}, "first": "2020-02", "last": "2021-01",
    "features": "what Airflow has no use for",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """models/churn of a checkout of its own."""
    monkeypatch.setenv("AIRLOOP_CODE", str(tmp_path))
    (tmp_path / "models/churn").mkdir(parents=True)
    (tmp_path / "models/churn/spec.json").write_text(json.dumps(SPEC))
    return tmp_path / "models/churn"


def change(folder: Path, **fields: object) -> None:
    (folder / "spec.json").write_text(json.dumps({**SPEC, **fields}))


def test_it_is_typed(folder: Path) -> None:
    churn = Model("churn", "growth", Monthly("UTC"), "2020-02", "2021-01")
    assert models() == [churn] and find("churn") == churn
    assert churn.dag_id("train") == "churn.train"


def test_every_committed_model_can_be_read() -> None:
    assert broken_models() == []
    assert [found.name for found in models()] == sorted(path.parent.name for path in ROOT.glob("models/*/spec.json"))


def test_a_feed_that_goes_on_has_no_last_interval(folder: Path) -> None:
    change(folder, last=None)
    assert find("churn").last is None and calendar(find("churn"))["end_date"] is None


def test_the_calendar_begins_and_ends_with_the_model_s_intervals(folder: Path) -> None:
    found = calendar(find("churn"))
    assert (found["start_date"].isoformat(), found["end_date"].isoformat()) == (
        "2020-02-01T00:00:00+00:00",
        "2021-01-01T00:00:00+00:00",
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schema": 2}, r"schema=2 is unknown; this code reads schema 1\."),
        ({"name": "flights"}, r"name='flights' differs from the folder's, 'churn'; make them equal\."),
        ({"name": None}, r"name=None is no text; write one\."),
        ({"owner": " "}, r"owner=' ' is no text; write one\."),
        ({"cadence": "monthly"}, r"cadence='monthly' is no object; write \{\"kind\": \"monthly\", \"zone\": \"UTC\"\}\."),
        ({"cadence": {"kind": "monthly"}}, r"cadence.zone=None is no text"),
        ({"cadence": {"kind": "weekly", "zone": "UTC"}}, r"cadence.kind='weekly' is unknown; use hourly, daily, monthly\."),
        ({"cadence": {"kind": "daily", "zone": "Europe/Bern"}}, r"cadence.zone='Europe/Bern' is no time zone"),
        ({"cadence": {"kind": "hourly", "zone": "Asia/Tokyo"}}, r"cadence.zone='Asia/Tokyo' cannot name hours"),
        ({"first": "2020-13"}, r"first='2020-13' is no interval of a monthly cadence; write it as 2013-04\."),
        ({"first": 2020}, r"first=2020 is no interval"),
        ({"last": "2020-1"}, r"last='2020-1' is no interval"),
        ({"last": "2020-01"}, r"last='2020-01' comes before first='2020-02'; exchange them, or leave last out\."),
    ],
)  # fmt: skip
def test_an_error_names_file_field_value_and_way_out(folder: Path, fields: dict[str, object], said: str) -> None:
    change(folder, **fields)
    with pytest.raises(ConfigError, match=rf"^models/churn/spec\.json: {said}"):
        find("churn")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\xff", b"[" * 100_000])
def test_what_is_no_json_is_said(folder: Path, data: bytes) -> None:
    (folder / "spec.json").write_bytes(data)
    with pytest.raises(
        ConfigError, match=r"^models/churn/spec\.json cannot be read: .*\. Correct it, or take the folder away\."
    ):
        find("churn")


def test_json_that_is_no_object_is_said(folder: Path) -> None:
    (folder / "spec.json").write_text("[]")
    with pytest.raises(ConfigError, match="it holds a list; write an object"):
        find("churn")


@pytest.mark.parametrize("name", ["Churn", "1churn", "a-b", "a.b", "churn_", "a__b", "a" * 32, "ünal", *TAKEN])
def test_a_name_that_something_cannot_bear_is_refused(folder: Path, name: str) -> None:
    folder.rename(folder.parent / name)
    change(folder.parent / name, name=name)
    with pytest.raises(ConfigError, match=f"name='{name}' is (no model's name|taken)"):
        find(name)


def test_names_are_short_enough_for_all_that_is_made_of_them() -> None:
    """A run's key is the value of a label of Kubernetes: 63 characters at most."""
    assert check("a" * 31)
    assert len(f"{'a' * 31}-monitor-2013-04-05T06-12345678") <= 63


def test_one_that_is_broken_hides_no_other(folder: Path) -> None:
    (folder.parent / "alpha").mkdir()
    (folder.parent / "alpha/spec.json").write_text("{")
    first, second = all_models()
    assert isinstance(first, BrokenModel) and (first.folder, first.dag_id) == ("alpha", "alpha.broken")
    assert second == find("churn")
    assert models() == [second] and broken_models() == [first]


def test_a_model_that_is_not_there_is_answered_with_those_there_are(folder: Path) -> None:
    with pytest.raises(ConfigError, match="There is no model 'x' in models/; there are churn"):
        find("x")
