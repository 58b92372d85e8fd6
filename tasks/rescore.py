"""rescore: which landed intervals a new ledger entry concerns; they are scored (again) with the champion it names.

In the usual order of things there are none: a promotion takes effect in an interval that has not landed. After a
backfill of several intervals there are, and the loop catches up interval by interval.
"""

from __future__ import annotations

import argparse

from tasks.core.errors import Skip, run_main
from tasks.core.results import emit
from tasks.landing import landed_index
from tasks.registry import ledger
from tasks.settings.environment import store


def main() -> None:
    """Name the intervals, or skip when there are none."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    live = ledger.Ledger(store()).latest()
    index = landed_index.read(store())
    found = index.between(live.effective_from, index.newest) if live is not None and index.newest is not None else []
    intervals = [item.interval for item in found]
    if live is None or not intervals:
        raise Skip("no landed interval is concerned")
    print(f"to score with v{live.to_version}: {', '.join(intervals)}")
    emit({"intervals": intervals, "version": live.to_version})


if __name__ == "__main__":
    run_main(main)
