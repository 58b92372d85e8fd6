"""What must hold in a declaration, beside the types: every name that it uses is declared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tasks.core.errors import ConfigError
from tasks.spec import ModelSpec


def require_sound(model: ModelSpec) -> None:
    """ConfigError with every field that names what is not declared, its value and the way out."""
    if problems := list(_problems(model)):
        raise ConfigError(f"models/{model.name}/model.py: {' '.join(problems)}")


def _problems(model: ModelSpec) -> Iterator[str]:
    features, tables = set(model.features), set(model.tables)
    columns = {*model.key, *features, model.label, model.date, "day", "as_of"}
    kept = set(model.tables[model.rows].kept.names) if model.rows in tables else set()
    if not model.owner.strip():
        yield f"owner={model.owner!r} is empty; name who answers for the model."
    yield from _unknown("rows", [model.rows], tables, "table", "tables")
    yield from _unknown("views", (view.table for view in model.views.values()), tables, "table", "tables")
    yield from _unknown("planned", model.planned, features, "feature", "categories or numbers")
    yield from _unknown("outage.columns", model.outage.columns, features, "feature", "categories or numbers")
    yield from _unknown("shown_numbers", model.shown_numbers, set(model.numbers), "number", "numbers")
    categories = {*model.categories, model.label}
    yield from _unknown("shown_categories", model.shown_categories, categories, "category", "categories, or the label")
    yield from _unknown("golden_set.strata", model.golden_set.strata, columns, "column of features", "key or features")
    yield from _unknown(
        "golden_set.represented", [model.golden_set.represented], columns, "column of features", "key or features"
    )
    yield from _unknown("asked", model.asked, columns | kept, "column", f"key, features or {model.rows}")
    for name, table in model.tables.items():
        own = set(table.kept.names)
        yield from _unknown(f"tables[{name!r}].order", table.order, own, "column", "kept")
        yield from _unknown(f"tables[{name!r}].unique", table.unique, own, "column", "kept")
    twice = sorted({name for name in model.features if model.features.count(name) > 1})
    if twice:
        yield f"features={', '.join(twice)!r} are declared twice; give each feature a name of its own."
    if model.label in features:
        yield f"label={model.label!r} is a feature too; a model must not see its outcome: take it out of the features."
    if model.maturity.total_seconds() < 0 or model.maturity.microseconds:
        yield f"maturity={model.maturity!r} is no time in whole seconds; write 0 for labels that land with their interval, or more."
    if not model.online.examples:
        yield "online.examples is empty; give a request, which is asked before a model goes live."


def _unknown(field: str, names: Iterable[str], known: set[str], what: str, where: str) -> Iterator[str]:
    for name in names:
        if name not in known:
            yield f"{field} names {name!r}, which is no {what}; declare it in {where}, or correct the name."
