"""Plays the foundry: days of castings that look real, made from their date, so that a day made again is the same.

A mould that begins to wear stays so for some days, which the defects of the day before tell; a melt that is too cold, a slow pour
and one of the alloys do the rest.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import gzip
import io
import math
import random
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from models.castings.definitions import DAYS
from models.castings.schema import TABLES
from tasks.core.errors import run_main
from tasks.landing.landing_zone import MANIFEST
from tasks.settings.environment import landing
from tasks.storage.artefacts import Store, sha256, to_json

ROWS = 600
MOULDS, ALLOYS = ("M1", "M2", "M3", "M4", "M5"), ("AlSi7", "AlSi12", "ZnAl4")
HEADER = TABLES["castings"].feed


def rows(day: str) -> Iterator[list[str]]:
    """The castings of ``day``, which are poured from six in the morning until eight in the evening."""
    local = DAYS.local(day)
    draw = random.Random(day)
    morning = int(local.replace(hour=6, tzinfo=ZoneInfo(DAYS.zone)).timestamp())
    worn = {mould: random.Random(f"{mould} {local.toordinal() // 3}").random() < 0.4 for mould in MOULDS}
    for number in range(ROWS):
        poured = morning + number * 14 * 3600 // ROWS
        mould, alloy = draw.choice(MOULDS), draw.choice(ALLOYS)
        melt, pour = round(draw.gauss(740, 18), 1), round(draw.uniform(6, 18), 1)
        odds = -2.6 + 2.8 * worn[mould] + 0.05 * max(0.0, 735 - melt) + 0.15 * (pour - 12) + 0.9 * (alloy == "ZnAl4")
        defective = draw.random() < 1 / (1 + math.exp(-odds))
        inspected = poured + draw.randrange(900, 5400)
        outcome = [_time(inspected), str(int(defective))] if draw.random() > 0.02 else ["", ""]
        casting = local.toordinal() * 1000 + number
        yield [
            str(casting),
            mould,
            alloy,
            _time(poured),
            "" if draw.random() < 0.01 else str(melt),
            str(pour),
            *outcome,
        ]


def land(day: str, zone: Store) -> int:
    """Write the file of ``day``, then its manifest; returns its rows."""
    text, found = io.StringIO(), list(rows(day))
    csv.writer(text, lineterminator="\n").writerows([HEADER, *found])
    data = gzip.compress(text.getvalue().encode(), mtime=0)
    zone.write(f"{day}/castings.csv.gz", data)
    files = {"castings.csv.gz": {"sha256": sha256(data), "bytes": len(data), "rows": len(found)}}
    zone.write(f"{day}/{MANIFEST}", to_json({"interval": day, "files": files}))
    return len(found)


def main() -> None:
    """Land --day, or all days from it through --through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--day", required=True, help="YYYY-MM-DD")
    parser.add_argument("--through", help="last day to land; --day alone by default")
    arguments = parser.parse_args()
    zone = landing("castings")
    for day in DAYS.span(arguments.day, arguments.through or arguments.day):
        print(f"{day}: {land(day, zone):,} castings landed")


def _time(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    run_main(main)
