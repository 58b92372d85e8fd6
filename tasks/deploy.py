"""deploy: one ledger entry, then the world is made to agree with it; a model that does not come to serve is taken back.

python -m tasks.deploy --interval 2013-04            the model trained through that interval
python -m tasks.deploy --rollback 1 --why "..."   any registered version
python -m tasks.deploy --reconcile                only make service and MLflow agree with the ledger
"""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Sequence

from tasks import online, spec
from tasks.core.errors import AirloopError, run_main
from tasks.core.results import emit
from tasks.landing import landed_index
from tasks.modelling import smoke
from tasks.online import NotServedError, client
from tasks.registry import ledger, versions, view
from tasks.settings.environment import store
from tasks.storage.artefacts import Store


def promote(interval: str, who: str, book: ledger.Ledger, target: Store) -> ledger.Entry:
    """Enter the model trained through ``interval`` as live from the interval after; at most once for each training run."""
    found = versions.newest_through(target, interval)
    entries = book.entries()
    if any(e.action == "promote" and e.evidence and e.evidence.run == found.run for e in entries):
        return entries[-1]  # decided before: a retry, or a rerun of what was rolled back since
    return book.append(
        action="promote",
        to_version=found.version,
        effective_from=spec.current().cadence.shift(interval, 1),
        who=who,
        why=found.tags.get("airloop.why", "passed the gate"),
        evidence=found.evidence,
    )


def roll_back(to_version: int, who: str, why: str, book: ledger.Ledger, target: Store) -> ledger.Entry:
    """Enter ``to_version`` as live for all intervals that have not landed; scored intervals keep their champion."""
    evidence = versions.read(target, to_version).evidence
    last = book.latest()
    unseen = spec.current().cadence.shift(landed_index.read(target).newest or evidence.data_through, 1)
    return book.append(
        action="rollback",
        to_version=to_version,
        effective_from=max(unseen, last.effective_from if last else unseen),
        who=who,
        why=why,
        evidence=evidence,
    )


def reconcile(book: ledger.Ledger, target: Store) -> str:
    """Make the online service and MLflow agree with the ledger, each whatever becomes of the other.

    Safe to repeat; each part is left alone where it agrees already. NotServedError when the service answers wrongly;
    AirloopError when a part could not be reached, with what became of both.
    """
    entries = book.entries()
    if not entries:
        return "the ledger is empty: nothing is live"
    live = entries[-1]
    changes: list[str] = []
    failed: list[AirloopError] = []
    for part in (serve, show):
        try:
            changes += part(entries, target)
        except AirloopError as error:
            failed.append(error)
    stands = f"v{live.to_version} is live from {live.effective_from} ({'; '.join(changes) or 'nothing to change'})"
    if failed:
        kind = next((type(error) for error in failed if isinstance(error, NotServedError)), type(failed[0]))
        raise kind(" ".join([*map(str, failed), *([f"Apart from that, {stands}."] if changes else [])]))
    return stands


def serve(entries: list[ledger.Entry], target: Store) -> list[str]:
    """Have the online service serve the newest entry and answer golden rows; returns what was done, in words."""
    live = entries[-1]
    service = online.service()
    if service is None:
        return []
    changes = service.put_live(live)
    if live.evidence is not None:
        changes.append(try_golden_rows(service, live, smoke.read(live.evidence.model, target)))
    return changes


def show(entries: list[ledger.Entry], target: Store) -> list[str]:
    """Have MLflow show the store's versions, with aliases for the newest entry's and the one before."""
    live = entries[-1]
    before = ledger.previous_at(entries, live.effective_from)
    return view.agree(target, live.to_version, before.to_version if before else None).changes


def try_golden_rows(service: online.Online, live: ledger.Entry, rows: Sequence[smoke.Row]) -> str:
    """Ask each address for the golden ``rows``; NotServedError names the first that differs."""
    assert live.to_version is not None
    asked = [spec.current().online.as_asked(row) for row in rows]
    for url in service.urls:
        if wrong := smoke.difference(rows, client.predict(url, asked, live.to_version, service.patience)):
            raise NotServedError(f"At {url} {wrong}.")
    return f"online answers {len(rows)} golden rows as evaluated"


def take_back(failed: ledger.Entry, reason: str, book: ledger.Ledger) -> ledger.Entry:
    """Enter again what was live before ``failed``."""
    entries = book.entries()
    before = next((e for e in reversed(entries[: failed.seq - 1]) if e.to_version == failed.from_version), None)
    return book.append(
        action="revert",
        to_version=failed.from_version,
        effective_from=failed.effective_from,
        who="airloop",
        why=f"v{failed.to_version} failed its smoke test: {reason}",
        evidence=before.evidence if before else None,
    )


def deploy(book: ledger.Ledger, target: Store) -> ledger.Entry:
    """Reconcile; when the smoke test of a newly entered version fails, enter the old one and reconcile again.

    Returns the live entry; AirloopError after a version was taken back.
    """
    try:
        print(reconcile(book, target), flush=True)
    except NotServedError as error:
        failed = book.latest()
        if failed is None or failed.action == "revert":
            raise
        restored = take_back(failed, str(error), book)
        print(reconcile(book, target), flush=True)
        raise AirloopError(
            f"v{failed.to_version} was taken back, v{restored.to_version} is live again: {error}"
        ) from None
    live = book.latest()
    if live is None:
        raise AirloopError("The ledger is empty: nothing has passed the gate yet. Run the train DAG first.")
    return live


def main() -> None:
    """Enter and reconcile, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--interval", help="promote the model trained through this interval")
    what.add_argument("--rollback", type=int, metavar="VERSION", help="put this registered version live")
    what.add_argument(
        "--reconcile",
        action="store_true",
        help="only make service and MLflow agree with the ledger: what MLflow lost is registered again",
    )
    parser.add_argument("--why", default="rolled back by hand", help="reason, kept in the ledger")
    arguments = parser.parse_args()
    target = store()
    book = ledger.Ledger(target)
    who = os.environ.get("AIRLOOP_WHO", getpass.getuser())
    if arguments.rollback is not None:
        roll_back(arguments.rollback, who, arguments.why, book, target)
    elif arguments.interval:
        promote(arguments.interval, who, book, target)
    live = deploy(book, target)
    emit({"interval": live.effective_from, "version": live.to_version, "action": live.action, "seq": live.seq})


if __name__ == "__main__":
    run_main(main)
