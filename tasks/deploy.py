"""deploy: one ledger entry, then the world is made to agree with it; a model that is seen to be wrong is taken back.

python -m tasks.deploy --interval 2013-04            the model trained through that interval
python -m tasks.deploy --rollback 1 --why "..."   a version that was live before
python -m tasks.deploy --reconcile                only make service and MLflow agree with the ledger

Whatever it does is about one entry. When a later one is there, it stops: the later decision holds, and brings itself about.
"""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Sequence
from functools import partial

from tasks import online, spec
from tasks.core.errors import AirloopError, Skip, Unavailable, run_main
from tasks.core.results import emit
from tasks.landing import landed_index
from tasks.modelling import smoke
from tasks.online import Check, FaultyError, NotServedError, client, waits
from tasks.registry import ledger, verdicts, versions, view
from tasks.registry.ledger import SupersededError
from tasks.settings.environment import environment, store
from tasks.storage.artefacts import Store


def promote(interval: str, who: str, book: ledger.Ledger, target: Store) -> ledger.Entry:
    """Enter the model trained through ``interval`` as live from the interval after.

    The model decides, not the run that made it: one that is live is not entered again, and one that was withdrawn does not come
    back by a retry or a rerun.

    Raises:
        DataError: it has no verdict of the gate, or one by another policy.
        Skip: it was live and was replaced, rolled back or taken back since, for a reason of its own; or its approval has lapsed.
        SupersededError: another decision came in between.
    """
    entries = book.entries()  # before all else: whoever decides from here on wins
    last = entries[-1] if entries else None
    found = versions.newest_through(target, interval)
    if last and last.evidence and last.evidence.model == found.model:
        return last
    if (after := withdrawn(entries, found.model)) is not None:
        live = "nothing" if after.to_version is None else f"v{after.to_version}"
        raise Skip(
            f"not promoted: v{found.version} was live until ledger entry {after.seq}, a {after.action} to {live} by {after.who} "
            f"({after.why}). To put it live all the same: `airloop rollback {found.version}`."
        )
    verdicts.require_approval(target, found, last, environment().code)
    return book.append(
        expect=len(entries),
        action="promote",
        to_version=found.version,
        effective_from=spec.current().cadence.shift(interval, 1),
        who=who,
        why=found.tags.get("airloop.why", "passed the gate"),
        evidence=found.evidence,
    )


def withdrawn(entries: Sequence[ledger.Entry], model: str) -> ledger.Entry | None:
    """The entry by which the model with this digest ceased to be live, for good; None where it may be promoted."""
    put_live = [entry.seq for entry in entries if entry.evidence and entry.evidence.model == model]
    if not put_live:
        return None
    return next((entry for entry in entries[put_live[-1] :] if entry.action != "revert_unserved"), None)


def roll_back(
    to_version: int, who: str, why: str, book: ledger.Ledger, target: Store, *, once: bool = False
) -> ledger.Entry:
    """Enter ``to_version`` as live for all intervals that have not landed; scored intervals keep their champion.

    Args:
        to_version: a version that was live.
        who: who decided.
        why: reason.
        book: the ledger.
        target: where versions and landed intervals are.
        once: whether ``who`` names one run, whose retries are the same decision: what it entered is returned.

    Raises:
        LedgerError: the version never was live, so that no gate has compared it with what is.
        SupersededError: another decision came in between.
    """
    entries = book.entries()
    last = entries[-1] if entries else None
    decided = [e for e in entries if (e.action, e.to_version, e.who) == ("rollback", to_version, who)]
    if once and decided:
        return decided[-1]
    evidence = versions.read(target, to_version).evidence
    if not any(e.evidence and e.evidence.model == evidence.model for e in entries):
        raise ledger.LedgerError(
            f"v{to_version} never was live, and a rollback only goes back. A version goes live by the gate's approval: run the train "
            f"DAG for {evidence.data_through} again, which judges it against what is live now."
        )
    unseen = spec.current().cadence.shift(landed_index.read(target).newest or evidence.data_through, 1)
    return book.append(
        expect=last.seq if last else 0,
        action="rollback",
        to_version=to_version,
        effective_from=max(unseen, last.effective_from if last else unseen),
        who=who,
        why=why,
        evidence=evidence,
    )


def take_back(failed: ledger.Entry, evidence: NotServedError, book: ledger.Ledger) -> ledger.Entry:
    """Enter again what was live before ``failed``; SupersededError when that is not the newest any more."""
    entries = book.entries()
    before = next((e for e in reversed(entries[: failed.seq - 1]) if e.to_version == failed.from_version), None)
    what = "failed its smoke test" if evidence.itself else "did not come to be served"
    return book.append(
        expect=failed.seq,
        action="revert" if evidence.itself else "revert_unserved",
        to_version=failed.from_version,
        effective_from=failed.effective_from,
        who="airloop",
        why=f"v{failed.to_version} {what}: {evidence}",
        evidence=before.evidence if before else None,
    )


def reconcile(live: ledger.Entry, book: ledger.Ledger, target: Store) -> str:
    """Make the online service and MLflow agree with the ledger's newest entry, each whatever becomes of the other.

    Safe to repeat; each part is left alone where it agrees already. Returns what was done.

    Raises:
        SupersededError: ``live`` is not the newest any more.
        NotServedError: there is evidence that the service does not serve it as it was evaluated.
        AirloopError: a part could not be made to agree; with what became of both. Unavailable when that passes.
    """
    check = partial(book.require_newest, live.seq)
    changes: list[str] = []
    failed: list[AirloopError] = []
    for part in (partial(serve, live, check, target), partial(show, book, target)):
        try:
            changes += part()
        except SupersededError:
            raise
        except AirloopError as error:
            failed.append(error)
    check()
    outcome = f"v{live.to_version} is live from {live.effective_from} ({'; '.join(changes) or 'nothing to change'})"
    if failed:
        first = min(failed, key=_weight)
        raise type(first)(" ".join([*map(str, failed), *([f"Apart from that, {outcome}."] if changes else [])]))
    return outcome


def _weight(error: AirloopError) -> int:
    """Order of errors: evidence decides, then what a person has to mend, then what passes."""
    return 0 if isinstance(error, NotServedError) else 2 if isinstance(error, Unavailable) else 1


def serve(live: ledger.Entry, check: Check, target: Store) -> list[str]:
    """Have the online service serve ``live`` and answer golden rows; returns what was done, in words."""
    service = online.service()
    if service is None:
        return []
    changes = service.put_live(live, check)
    if live.evidence is not None:
        changes.append(try_golden_rows(service, live, check, smoke.read(live.evidence.model, target)))
    return changes


def show(book: ledger.Ledger, target: Store) -> list[str]:
    """Have MLflow show the store's versions, with aliases for the newest entry's and the one before.

    MLflow sets an alias whatever it was, so this looks at the ledger afterwards: whoever sets them last has seen its newest entry.
    """
    changes: list[str] = []
    while True:
        entries = book.entries()
        live = entries[-1]
        before = ledger.previous_at(entries, live.effective_from)
        changes += view.agree(target, live.to_version, before.to_version if before else None).changes
        if book.is_newest(live.seq):
            return changes


def try_golden_rows(service: online.Online, live: ledger.Entry, check: Check, rows: Sequence[smoke.Row]) -> str:
    """Ask each address for the golden ``rows``; FaultyError names the first that differs."""
    assert live.to_version is not None
    asked = [spec.current().online.as_asked(row) for row in rows]
    for url in service.urls:
        ask = partial(client.predict, url, asked, live.to_version)
        if wrong := smoke.difference(rows, waits.certain(ask, service.patience, check)):
            raise FaultyError(f"At {url} {wrong}.")
    return f"online answers {len(rows)} golden rows as evaluated"


def deploy(
    book: ledger.Ledger, target: Store, about: ledger.Entry | None = None, *, takes_back: bool = True
) -> ledger.Entry:
    """Bring an entry about; a promotion against which there is evidence is taken back.

    What a person put live is never taken back by this: what was live before is what they withdrew.

    Args:
        book: the ledger.
        target: the store.
        about: the entry; by default the newest.
        takes_back: whether this is the promotion's own try-out. Later evidence may have another cause than the version, such as
            data that landed again, so healing reports it and changes nothing.

    Returns:
        The entry.

    Raises:
        SupersededError: a later entry is there.
        AirloopError: a version was taken back, or a part could not be made to agree.
    """
    live = about or book.latest()
    if live is None:
        raise AirloopError("The ledger is empty: nothing has passed the gate yet. Run the train DAG first.")
    try:
        print(reconcile(live, book, target), flush=True)
    except NotServedError as error:
        if live.action != "promote" or not takes_back:
            raise AirloopError(
                f"{error} Ledger entry {live.seq}, a {live.action} by {live.who}, is not undone by this: mend the service "
                "and run this again, or roll back to another version."
            ) from None
        restored = take_back(live, error, book)
        outcome = f"v{live.to_version} was taken back, v{restored.to_version} is live again: {error}"
        try:
            print(reconcile(restored, book, target), flush=True)
        except SupersededError:
            raise
        except AirloopError as again:
            raise type(again)(f"{outcome} That is in the ledger, and not yet brought about: {again}") from None
        raise AirloopError(outcome) from None
    return live


def decide(asked: argparse.Namespace, who: str, book: ledger.Ledger, target: Store) -> ledger.Entry:
    """Enter and bring about what the command line asks; returns the entry, which is the newest.

    Raises:
        Skip: a promotion, or the healing, was superseded, or the model was withdrawn before.
        SupersededError: a rollback was superseded: somebody wants a version live, and it is not.
        AirloopError: as `deploy` does.
    """
    try:
        if asked.rollback is not None:
            once = "AIRLOOP_RUN" in os.environ  # of Airflow, which `who` names
            return deploy(book, target, roll_back(asked.rollback, who, asked.why, book, target, once=once))
        if not asked.interval:
            return deploy(book, target, takes_back=False)
        try:
            entry = promote(asked.interval, who, book, target)
        except Skip:
            # A try before this one may have been killed between the entry and what it brings about.
            deploy(book, target, takes_back=False)
            raise
        return deploy(book, target, entry, takes_back=entry.who == who)
    except SupersededError as error:
        if asked.rollback is not None:
            raise
        raise Skip(str(error)) from None


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--interval", help="promote the model trained through this interval")
    what.add_argument("--rollback", type=int, metavar="VERSION", help="put this version live again, which was before")
    what.add_argument(
        "--reconcile",
        action="store_true",
        help="only make service and MLflow agree with the ledger: what MLflow lost is registered again",
    )
    parser.add_argument("--why", default="rolled back by hand", help="reason, kept in the ledger")
    return parser.parse_args(argv)


def main() -> None:
    """Enter and reconcile, as the command line asks."""
    asked, target = arguments(), store()
    who = os.environ.get("AIRLOOP_WHO", getpass.getuser())
    live = decide(asked, who, ledger.Ledger(target), target)
    emit({"interval": live.effective_from, "version": live.to_version, "action": live.action, "seq": live.seq})


if __name__ == "__main__":
    run_main(main)
