"""deploy: one ledger entry, then the world is made to agree with it; a model that does not come to serve is taken back.

python -m tasks.deploy --month 2013-04            the model trained through that month
python -m tasks.deploy --rollback 1 --why "..."   any registered version
python -m tasks.deploy --reconcile                only make aliases and service agree with the ledger
"""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Sequence

from tasks.common import landed, ledger, months, online, registry, smoke
from tasks.common.artefacts import Store
from tasks.common.environment import store
from tasks.common.errors import AirloopError, run_main
from tasks.common.online import NotServedError, client
from tasks.common.results import emit
from tasks.flights.request import as_asked


def promote(month: str, who: str, book: ledger.Ledger) -> ledger.Entry:
    """Enter the model trained through ``month`` as live from the month after; at most once for each training run."""
    found = registry.newest_approved(month, registry.client())
    evidence = registry.evidence(found)
    entries = book.entries()
    if any(e.action == "promote" and e.evidence and e.evidence.run == evidence.run for e in entries):
        return entries[-1]  # decided before: a retry, or a rerun of what was rolled back since
    return book.append(
        action="promote",
        to_version=int(found.version),
        effective_from=months.shift(month, 1),
        who=who,
        why=found.tags.get("airloop.why", "passed the gate"),
        evidence=evidence,
    )


def roll_back(to_version: int, who: str, why: str, book: ledger.Ledger, target: Store) -> ledger.Entry:
    """Enter ``to_version`` as live for all months that have not landed; scored months keep their champion."""
    evidence = registry.evidence(registry.version(to_version, registry.client()))
    last = book.latest()
    records = landed.read_all(target)
    unseen = months.shift(max(records), 1) if records else months.shift(evidence.data_through, 1)
    return book.append(
        action="rollback",
        to_version=to_version,
        effective_from=max(unseen, last.effective_from if last else unseen),
        who=who,
        why=why,
        evidence=evidence,
    )


def reconcile(book: ledger.Ledger, target: Store) -> str:
    """Make MLflow's aliases and the online service agree with the ledger, then try the service with golden rows.

    Safe to repeat; each part is left alone where it agrees already. NotServedError when the service answers wrongly.
    """
    entries = book.entries()
    if not entries:
        return "the ledger is empty: nothing is live"
    live = entries[-1]
    before = ledger.previous_at(entries, live.effective_from)
    changes = registry.set_aliases(live.to_version, before.to_version if before else None, registry.client())
    if (service := online.service()) is not None:
        changes += service.put_live(live)
        if live.evidence is not None:
            changes.append(try_golden_rows(service, live, smoke.read(live.evidence.model, target)))
    return f"v{live.to_version} is live from {live.effective_from} ({'; '.join(changes) or 'nothing to change'})"


def try_golden_rows(service: online.Online, live: ledger.Entry, rows: Sequence[smoke.Row]) -> str:
    """Ask each address for the golden ``rows`` as a traveller would; NotServedError names the first that differs."""
    assert live.to_version is not None
    flights = [as_asked(row) for row in rows]
    for url in service.urls:
        if wrong := smoke.difference(rows, client.predict(url, flights, live.to_version, service.patience)):
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
    what.add_argument("--month", help="promote the model trained through this month, YYYY-MM")
    what.add_argument("--rollback", type=int, metavar="VERSION", help="put this registered version live")
    what.add_argument("--reconcile", action="store_true", help="only make aliases and service agree with the ledger")
    parser.add_argument("--why", default="rolled back by hand", help="reason, kept in the ledger")
    arguments = parser.parse_args()
    target = store()
    book = ledger.Ledger(target)
    who = os.environ.get("AIRLOOP_WHO", getpass.getuser())
    if arguments.rollback is not None:
        roll_back(arguments.rollback, who, arguments.why, book, target)
    elif arguments.month:
        promote(arguments.month, who, book)
    live = deploy(book, target)
    emit({"month": live.effective_from, "version": live.to_version, "action": live.action, "seq": live.seq})


if __name__ == "__main__":
    run_main(main)
