"""Keeps the rows of one interval that break no rule and quarantines the others, with all their reasons: none is lost."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import spec
from tasks.core.errors import DataError, run_main
from tasks.intervals import lookback
from tasks.intervals.cadence import seen_after
from tasks.landing.landing_zone import land_again
from tasks.settings import params
from tasks.settings.environment import store
from tasks.storage import lists
from tasks.storage.artefacts import to_json
from tasks.storage.files import parquet_bytes, write_file, write_folder

IDENTICAL = "duplicate of another row"
CONFLICTING = "same key as another row, with other values"


KNOWN = (
    (
        r"='[+-]?[0-9]+\.0'",
        (
            "Whole numbers with a decimal point are what pandas and spreadsheets make of a column with empty cells: write the "
            "column as integers (pandas: astype('Int64') before to_csv)."
        ),
    ),
    (r"='(?:NaN|nan|NULL|null|None|N/A)'", "Unknown is written as an empty cell or NA."),
)
"""What a cell that could not be read looks like, and how it is mended."""


@dataclass(frozen=True)
class Verdict:
    """One table, judged: every raw row is in ``kept`` or in ``quarantined``."""

    kept: pa.Table
    """The table's ``kept`` columns, in the raw order."""
    quarantined: pa.Table
    """The model's ``quarantine`` columns, in the raw order."""

    @property
    def landed(self) -> int:
        """Rows that came in."""
        return int(self.kept.num_rows + self.quarantined.num_rows)

    @property
    def counts(self) -> dict[str, int]:
        """Rows landed, kept and quarantined."""
        return {"landed": self.landed, "kept": self.kept.num_rows, "quarantined": self.quarantined.num_rows}


def judge(raw: pa.Table, table: str, interval: str) -> Verdict:
    """Split a raw table (in canonical order) into rows to keep and rows to quarantine."""
    model = spec.current()
    reasons = model.broken_rules(raw, table, interval)
    reasons = reasons.where(reasons != "", repeated(raw, table, reasons == ""))
    good = pa.array(reasons == "")
    kept = raw.filter(good).select(model.tables[table].kept.names)
    bad = raw.append_column("reason", pa.array(reasons, pa.string())).filter(pc.invert(good))
    return Verdict(kept, _as_text(bad, table))


def repeated(raw: pa.Table, table: str, among: pd.Series) -> pd.Series:
    """Why a row says again what a row before it said; "" where it does not. Only rows that are good otherwise count.

    The first in canonical order stays: of identical rows it does not matter which, and of conflicting ones the feed
    does not say which is right, but a row must not be there twice.
    """
    declared = spec.current().tables[table]
    rows = raw.select(declared.kept.names).to_pandas()[among]
    result = pd.Series("", index=among.index)
    result[rows.index[rows.duplicated(list(declared.unique))]] = CONFLICTING
    result[rows.index[rows.duplicated()]] = IDENTICAL
    return result


def count(interval: str, verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """The interval's numbers, as in docs/data-contracts.md."""
    reasons: dict[str, int] = {}
    for verdict in verdicts.values():
        for reason, rows in by_reason(verdict.quarantined).items():
            reasons[reason] = reasons.get(reason, 0) + len(rows)
    return {"interval": interval, **{name: verdict.counts for name, verdict in verdicts.items()}, "reasons": reasons}


def by_reason(quarantined: pa.Table) -> dict[str, list[int]]:
    """Each reason and the quarantined rows that it is one of the reasons for; the most frequent first."""
    rows: dict[str, list[int]] = {}
    for index, text in enumerate(quarantined["reason"].to_pylist()):
        for reason in text.split("; "):
            rows.setdefault(reason, []).append(index)
    return dict(sorted(rows.items(), key=lambda item: (-len(item[1]), item[0])))


def too_bad(verdicts: Mapping[str, Verdict], max_bad_share: float) -> str:
    """Which tables have more than ``max_bad_share`` of their rows quarantined, by which rules; "" for none."""
    lines = []
    for name, verdict in verdicts.items():
        bad = verdict.quarantined
        share = bad.num_rows / verdict.landed if verdict.landed else 0.0  # ingest has refused what may not be empty
        if share > max_bad_share:
            lines.append(f"{bad.num_rows:,} of {verdict.landed:,} rows of {name} ({share:.1%}) break a rule:")
            for reason, rows in by_reason(bad).items():
                lines.append(f"  {len(rows):,} x {reason}, for example {_sample(bad, name, rows)}")
            lines += [f"  {way_out}" for pattern, way_out in KNOWN if re.search(pattern, _cells(bad))]
    return "\n".join(lines)


def _cells(bad: pa.Table) -> str:
    """The cells of quarantined rows that could not be read."""
    return "; ".join(note for note in bad[spec.UNREADABLE].to_pylist() if note)


def main() -> None:
    """Judge data/raw/<interval>/ into kept, tail, the list of what the next interval sees, quarantine and counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", required=True, help="its key, such as 2013-04")
    interval = parser.parse_args().interval
    spec.current().cadence.check(interval)
    settings, model = params.load(), spec.current()
    verdicts = {table: judge(_read(interval, table), table, interval) for table in model.tables}
    quarantine = parquet_bytes(pa.concat_tables([verdict.quarantined for verdict in verdicts.values()]))
    if problem := too_bad(verdicts, limit := settings.validate_.max_bad_share):
        _refuse(interval, problem, limit, quarantine)
    kept = {table: verdict.kept for table, verdict in verdicts.items()}
    tail = _files({table: model.tail(rows, table, interval, settings.features) for table, rows in kept.items()})
    before = lists.read(settings.intervals[interval].sees, Path())
    seen = lookback.extended(before, interval, tail, model.cadence, settings.features.lookback)
    numbers = count(interval, verdicts)
    write_folder(Path(f"data/kept/{interval}"), _files(kept))
    write_folder(Path(lookback.TAILS) / interval, tail)
    write_file(Path(seen_after(interval)), to_json(seen))
    write_file(Path(f"data/quarantine/{interval}.parquet"), quarantine)
    write_file(Path(f"data/counts/{interval}.json"), to_json(numbers))
    print(f"{interval}: " + ", ".join(f"{numbers[t]['kept']:,} of {numbers[t]['landed']:,} {t} kept" for t in kept))
    for reason, rows in numbers["reasons"].items():
        print(f"  quarantined {rows:,} x {reason}")


def _refuse(interval: str, problem: str, limit: float, quarantine: bytes) -> None:
    """Fail, with the interval's quarantine where it outlives this run's workspace."""
    name = f"refused/{interval}.parquet"
    store().write(name, quarantine)
    raise DataError(
        f"{interval} is refused and nothing of it is kept: more than validate.max_bad_share={limit} is bad.\n{problem}\n"
        f"All these rows with their reasons: {store().uri(name)}. If the feed is wrong, have it mended. "
        f"{land_again(interval)}. If the rows are right, raise validate.max_bad_share in the model's params.yaml."
    )


def _read(interval: str, table: str) -> pa.Table:
    path = Path(f"data/raw/{interval}/{table}.parquet")
    if not path.is_file():
        raise DataError(
            f"{path.resolve()} is missing; run python tasks/ingest.py --interval {interval} first (dvc repro does)."
        )
    raw = pq.read_table(path)
    if not raw.schema.equals(spec.current().tables[table].raw):
        raise DataError(
            f"{path.resolve()} was made by another version of tasks/ingest.py; run that again for {interval}."
        )
    return raw


def _files(tables: Mapping[str, pa.Table]) -> dict[str, bytes]:
    return {f"{name}.parquet": parquet_bytes(table) for name, table in tables.items()}


def _as_text(bad: pa.Table, table: str) -> pa.Table:
    """Quarantined rows of ``table`` in the schema that all tables share; columns of the others are null."""
    bad = bad.append_column("table", pa.array([table] * bad.num_rows, pa.string()))
    nothing = pa.nulls(bad.num_rows, pa.string())
    schema = spec.current().quarantine
    columns = [bad[n].cast(pa.string()) if n in bad.column_names else nothing for n in schema.names]
    return pa.table(columns, schema=schema)


def _sample(bad: pa.Table, table: str, rows: list[int]) -> str:
    """The keys of a few of these rows, and their cells that could not be read."""
    columns = [*spec.current().tables[table].unique, spec.UNREADABLE]
    few = bad.select(columns).take(rows[:3]).to_pylist()
    return ", ".join(" ".join(str(row[name]) for name in columns if row[name] is not None) for row in few)


if __name__ == "__main__":
    run_main(main)
