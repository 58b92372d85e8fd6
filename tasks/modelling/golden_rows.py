"""Which rows make the golden set: a fixed sample in the proportions of the data, with every represented value in it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from tasks.core.errors import ConfigError, DataError
from tasks.spec import ModelSpec

Row = Mapping[str, Any]
Stratum = tuple[Any, ...]


def frozen(model: ModelSpec) -> tuple[str, ...]:
    """What is kept of a golden row."""
    return (*model.key, model.label)


def columns(model: ModelSpec) -> tuple[str, ...]:
    """What choosing needs of a row: what is frozen, and the features that it goes by."""
    return tuple(dict.fromkeys((*frozen(model), *model.golden_set.strata, model.golden_set.represented)))


def key_text(row: Row, model: ModelSpec) -> str:
    """The key as one line, the same on every engine: dates in ISO form, parts separated by "|"."""
    return "|".join(str(row[column]) for column in model.key)


def choose(rows: Sequence[Row], wanted: int, min_represented: int, model: ModelSpec) -> list[int]:
    """Indices of exactly ``wanted`` of the eligible ``rows``, ascending.

    A row's place in the draw is the hash of its key: neither the order of the file nor a random number library
    matters, and a row that lands later displaces few of the others. DataError when there are fewer rows than wanted.
    """
    if len(rows) < wanted:
        raise DataError(
            f"The golden intervals hold {len(rows)} eligible rows, fewer than golden.rows={wanted}; "
            "land all golden intervals first, or lower golden.rows in the model's params.yaml."
        )
    order = sorted(range(len(rows)), key=lambda i: hashlib.sha256(key_text(rows[i], model).encode()).digest())
    reserved = _reserve(rows, order, min_represented, model.golden_set.represented)
    if len(reserved) > wanted:
        raise ConfigError(
            f"golden.rows={wanted} cannot hold golden.min_rows_per_value={min_represented} rows of each {model.golden_set.represented} "
            f"({len(reserved)} in all); raise the one or lower the other in the model's params.yaml."
        )
    return sorted(_fill(rows, order, reserved, wanted, model.golden_set.strata))


def _reserve(rows: Sequence[Row], order: list[int], least: int, represented: str) -> list[int]:
    """The first ``least`` rows, in the order of the draw, of each value of the column ``represented``."""
    taken: Counter[Any] = Counter()
    reserved = []
    for i in order:
        value = rows[i][represented]
        if taken[value] < least:
            taken[value] += 1
            reserved.append(i)
    return reserved


def _fill(rows: Sequence[Row], order: list[int], reserved: list[int], wanted: int, strata: Sequence[str]) -> list[int]:
    """``reserved``, and as many others of each stratum as bring it to its share of ``wanted``."""
    members: dict[Stratum, list[int]] = defaultdict(list)
    held = set(reserved)
    for i in order:
        members[tuple(rows[i][column] for column in strata)].append(i)
    quota = apportion({s: len(m) for s, m in members.items()}, wanted)
    short = {s: max(0, quota[s] - sum(i in held for i in m)) for s, m in members.items()}
    chosen = list(reserved)
    for stratum, count in apportion(short, wanted - len(reserved)).items():
        chosen += [i for i in members[stratum] if i not in held][:count]
    return chosen


def apportion(sizes: Mapping[Stratum, int], seats: int) -> dict[Stratum, int]:
    """``seats`` shared out in proportion to ``sizes`` by largest remainders; adds up exactly, ties by name."""
    total = sum(sizes.values())
    shares = {s: Fraction(seats * n, total) if total else Fraction(0) for s, n in sizes.items()}
    given = {s: int(share) for s, share in shares.items()}
    by_remainder = sorted(sizes, key=lambda s: (given[s] - shares[s], s))
    for stratum in by_remainder[: seats - sum(given.values())]:
        given[stratum] += 1
    return given


def digest(rows: Sequence[Row], model: ModelSpec) -> str:
    """Hex sha256 of the golden set: its keys and labels as sorted lines, whatever file they are kept in."""
    lines = sorted(f"{key_text(row, model)}|{row[model.label]}\n" for row in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def counts(rows: Sequence[Row], model: ModelSpec) -> dict[str, dict[str, int]]:
    """Rows by each column that the choice looked at, for people."""
    return {
        c: dict(sorted(Counter(str(row[c]) for row in rows).items()))
        for c in (*model.golden_set.strata, model.golden_set.represented)
    }
