"""gc: what no model, no landed interval and no recent run needs any more; says what it is, and deletes it when asked to.

python -m tasks.gc                what would go, and how many bytes
python -m tasks.gc --names        each thing by name
python -m tasks.gc --delete       delete it

How long things are kept by age: AIRLOOP_RETAIN_* (.env.example). docs/runbook.md says more.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence

from tasks.core.errors import AirloopError, run_main, warn
from tasks.core.results import emit
from tasks.retention import found, tracked
from tasks.retention.garbage import DAY, Garbage
from tasks.retention.settings import retention
from tasks.settings.environment import environment
from tasks.storage.artefacts import Store

SAY_SECONDS = 5.0


def collect() -> list[Garbage]:
    """Everything that may go, here and in MLflow; one that is away has its turn next time."""
    where, keep, now = environment(), retention(), time.time()
    store = Store(where.store_url)
    garbage, marked = found.find(store, where, keep, now)
    try:
        garbage += tracked.find(store, marked, now - max(keep.tracking, keep.grace) * DAY)
    except AirloopError as error:
        warn(f"MLflow's runs are left for the next time: {error}")
    return garbage


def delete(garbage: Sequence[Garbage]) -> None:
    """Delete in the order in which it was found: what names other things goes first."""
    said = time.monotonic()
    for done, item in enumerate(garbage):
        item.delete()
        if time.monotonic() - said > SAY_SECONDS:
            print(f"  {done + 1:,} of {len(garbage):,} deleted", flush=True)
            said = time.monotonic()


def table(garbage: Sequence[Garbage]) -> list[str]:
    """Count and bytes of each kind, and of all."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for item in garbage:
        kinds[item.kind].append(item.bytes)
    rows = [*kinds.items(), ("together", [item.bytes for item in garbage])]
    return [f"  {kind:<28}{len(sizes):>8,}{sum(sizes) / 1e6:12,.1f} MB" for kind, sizes in rows]


def main() -> None:
    """Say what may go; with ``--delete``, delete it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delete", action="store_true", help="delete what is found")
    parser.add_argument("--names", action="store_true", help="name each thing")
    arguments = parser.parse_args()
    garbage = collect()
    print("\n".join([*(item.name for item in garbage if arguments.names), *table(garbage)]), flush=True)
    if arguments.delete:
        delete(garbage)
        print("Deleted.")
    elif garbage:
        print("Nothing was deleted; `--delete` does it.")
    emit({"found": len(garbage), "bytes": sum(item.bytes for item in garbage), "deleted": arguments.delete})


if __name__ == "__main__":
    run_main(main)
