"""The features of the whole year, made once by the commands of the ingest DAG and kept: `python -m bench.year`.

What docs/ says of months that follow each other - docs/search.md, docs/year.md - is measured on them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.home import INGEST, Home, bare_home
from tasks.common import months as calendar
from tasks.common.artefacts import Store
from tasks.common.environment import CODE, environment
from tasks.flights import landing

MONTHS = tuple(calendar.span("2013-01", "2013-12"))
FOLDER = CODE / ".airloop" / "year"


@contextmanager
def features(months: Sequence[str] = MONTHS) -> Iterator[Path]:
    """The folder of ``<month>.parquet``; makes those that are not there yet, about 25 CPU-seconds each."""
    with bare_home(FOLDER) as home:
        made = FOLDER / "features"
        absent = [month for month in months if not (made / f"{month}.parquet").exists()]
        if absent:
            zone = Store(environment().landing_url)
            tables = landing.read_tables(landing.source(), absent)
            for month in absent:
                print(f"  {month}: landing and the ingest DAG's commands", file=sys.stderr, flush=True)
                landing.land(month, tables, zone)
                _make(home, month, made)
        yield made


def _make(home: Home, month: str, made: Path) -> None:
    for action, *names in INGEST:
        home.call(action, names, "ingest", f"ingest-{month}", month)
    made.mkdir(exist_ok=True)
    content = (home.ingested(month) / f"data/features/{month}.parquet").read_bytes()
    (made / f"{month}.parquet").write_bytes(content)


if __name__ == "__main__":
    with features():
        pass
