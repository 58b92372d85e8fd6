"""A model's words stay in its folder: what the engine says and reads is true of any model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.spec import ModelSpec, declared, load, sections
from tests import beside
from tests.airflow_home import ROOT

ENGINE = ("tasks", "serving", "plugins", "local", "bench", "dags", "dvc.yaml", "jobs.yaml")
MODELS = sorted(path.parent.name for path in (ROOT / "models").glob("*/model.py"))

COMMON = {
    "date", "day", "hour", "minute", "month", "year",  # the calendar's
    "reason", "table", "unreadable", "lookback",  # the engine's, which a model's schema and SQL use
    "schedule",  # Airflow's, and a learning rate's
}  # fmt: skip
"""Words of a model that the engine has for itself too; they are not looked for."""

ORDINARY = {"late", "origin", "dest", "destination"}
"""English, or names in Python's library: looked for as a string of their own, or as a part of a name."""

HARMLESS = re.compile(r"in.flight", re.IGNORECASE)
"""Requests that are being answered."""

KEYS_OF_OTHERS = {("plugins/airloop_plugin.py", "destination")}
"""A word that is the key of somebody else's dictionary there: Airflow's."""


def words_of(model: ModelSpec) -> set[str]:
    """Names of columns, fields and settings, and what people say; "New York" is one."""
    columns = {name for table in model.tables.values() for name in (*table.feed, *table.kept.names)}
    fields = {field for kind in sections(model.name).values() for field in kind.model_fields}
    said = {
        model.words.rows,
        model.words.positive,
        model.words.negative,
        model.words.planned,
        model.words.planned_by,
        model.outage.name,
    }
    request = {*model.online.request().model_fields, model.online.many, model.online.answer}
    mine = {model.name, *model.tables, *model.views, *model.key, *model.features, model.label, model.date, *model.shown}
    return {*mine, *columns, *fields, *said, *request, *model.own_words} - COMMON


def patterns(words: Iterable[str]) -> Iterator[tuple[str, re.Pattern[str]]]:
    """Each word with what finds it: letters around it make another word, an underscore or a digit does not."""
    for word in sorted(words):
        if word in ORDINARY:
            yield word, re.compile(rf"[\"']{word}[\"']|(?<![a-z]){word}_[a-z]|[a-z]_{word}(?![a-z])")
        else:
            yield word, re.compile(rf"(?<![a-z]){re.escape(word)}s?(?![a-z])", re.IGNORECASE)


def found(root: Path, words: set[str]) -> dict[str, list[str]]:
    """File of the engine below ``root`` to the words that it holds, each with its line."""
    looked_for = list(patterns(words))
    result: dict[str, list[str]] = {}
    for path in files(root):
        name = path.relative_to(root).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            text = HARMLESS.sub("", line)
            hits = [word for word, pattern in looked_for if pattern.search(text) and (name, word) not in KEYS_OF_OTHERS]
            if hits:
                result.setdefault(name, []).append(f"{number}: {', '.join(hits)}")
    return result


def files(root: Path) -> Iterator[Path]:
    for name in ENGINE:
        path = root / name
        kinds = {".py", ".html", ".yaml"}
        yield from sorted(p for p in path.rglob("*") if p.suffix in kinds) if path.is_dir() else [path] * path.exists()


@pytest.mark.parametrize("name", [*MODELS, beside.NAME])
def test_no_word_of_a_model_is_outside_its_folder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    beside.importable(monkeypatch)
    assert found(ROOT, words_of(declared(name))) == {}, (
        f"move it to models/{name}/, and reach it through tasks/spec.py; or say it in words of any model"
    )


def test_two_models_have_no_word_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a test that runs both finds what is said of either."""
    beside.importable(monkeypatch)
    assert not words_of(load("flights")) & words_of(declared(beside.NAME))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tasks/score.py", 'SCHEMA = "date date, carrier string"'),
        ("tasks/settings/data_params.py", "    min_rows_per_carrier: int"),
        ("serving/body.py", 'content["flights"]'),
        ("serving/settings.py", "    max_flights: int = 1000"),
        ("serving/page.html", "<h1>What the airlines say</h1>"),
        ("tasks/monitoring/drift.py", 'names = {0: "on time", 1: "late"}'),
        ("plugins/airloop/pages.py", "late_share = 1"),
        ("local/trickle.py", '    """In New York, with all the weather."""'),
        ("dvc.yaml", "deps: [models/flights/rules.py]"),
        ("bench/online.py", 'row["origin"]'),
    ],
)  # fmt: skip
def test_a_planted_word_is_seen(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(f"{text}\n")
    assert list(found(tmp_path, words_of(load("flights")))) == [file]


@pytest.mark.parametrize(
    "text", ["requests in flight", "how late it is", "spec.origin", "the in_flight gauge", "template"]
)
def test_ordinary_english_is_not(tmp_path: Path, text: str) -> None:
    (tmp_path / "dvc.yaml").write_text(f"# {text}\n")
    assert found(tmp_path, words_of(load("flights"))) == {}


def test_only_the_loader_imports_a_model_by_its_name() -> None:
    """Where `import models` is not written: import-linter sees that, and not this."""
    by_name = re.compile(r"import_module\((?!module\)).*models|[\"']models\.\{|[\"']models\.\w+\.model[\"']")
    names: list[Any] = [
        p.relative_to(ROOT).as_posix() for p in files(ROOT) if p.suffix == ".py" and by_name.search(p.read_text())
    ]
    assert names == ["tasks/spec.py"]
