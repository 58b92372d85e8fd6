"""deploy: one ledger entry, then the world is made to agree with it; a model that fails its smoke test is taken back.

python -m tasks.deploy --month 2013-04            the model trained through that month
python -m tasks.deploy --rollback 1 --why "..."   any registered version
python -m tasks.deploy --reconcile                only make aliases and service agree with the ledger
"""

from __future__ import annotations

import argparse
import datetime as dt
import getpass
import json
import os
from typing import Any

import httpx

from tasks.common import landed, ledger, months, registry
from tasks.common.artefacts import Store
from tasks.common.environment import environment, store
from tasks.common.errors import AirloopError, run_main
from tasks.common.results import emit

SMOKE_TOLERANCE = 1e-6
"""Largest difference between a smoke row's probability online and in the evaluation."""


class SmokeError(AirloopError):
    """The service answers, but not what the evaluated model answers."""


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

    Safe to repeat; each part is left alone where it agrees already. SmokeError when the service answers wrongly.
    """
    entries = book.entries()
    if not entries:
        return "the ledger is empty: nothing is live"
    live = entries[-1]
    before = ledger.previous_at(entries, live.effective_from)
    changes = registry.set_aliases(live.to_version, before.to_version if before else None, registry.client())
    if environment().online_url and live.evidence is not None:
        sync_online(live)
        rows = smoke(json.loads(target.read(f"models/{live.evidence.model}/smoke.json")))
        changes.append(f"online answers {rows} golden rows as evaluated")
    return f"v{live.to_version} is live from {live.effective_from} ({'; '.join(changes) or 'nothing to change'})"


def sync_online(live: ledger.Entry) -> None:
    """Tell the online service to look at the ledger now; AirloopError unless it then serves the live version."""
    answer = _post("/-/sync", {})
    if answer.get("model_version") != live.to_version:
        raise SmokeError(f"The online service does not serve v{live.to_version}: {json.dumps(answer)[:300]}")


def smoke(rows: list[dict[str, Any]]) -> int:
    """Ask the service for the golden ``rows`` as a traveller would; SmokeError names the first that differs."""
    flights = [
        {
            "carrier": r["carrier"],
            "flight": r["flight"],
            "origin": r["origin"],
            "destination": r["dest"],
            "scheduled_time": _iso(r["scheduled_at"]),
        }
        for r in rows
    ]
    answers = _post("/predict", {"flights": flights})["predictions"]
    for row, answer in zip(rows, answers, strict=True):
        gap = abs(answer["probability_late"] - row["probability"])
        if not gap <= SMOKE_TOLERANCE:
            raise SmokeError(
                f"Online answers {answer['probability_late']:.6f} for {row['carrier']}{row['flight']} "
                f"{row['origin']}-{row['dest']} at {_iso(row['scheduled_at'])}, the evaluation had {row['probability']:.6f}."
            )
    return len(rows)


def _iso(seconds: int) -> str:
    """Epoch seconds as ISO 8601 in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()


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
    except SmokeError as error:
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


def _post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    url = environment().online_url.rstrip("/") + path
    token = os.environ.get("AIRLOOP_ADMIN_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        response = httpx.post(url, json=body, headers=headers, timeout=30)
    except httpx.HTTPError as error:
        raise AirloopError(
            f"The online service does not answer at {url} ({error}). The ledger is written: start the service "
            "(`make up`) and clear this task, and everything else follows."
        ) from None
    if response.status_code >= 400:
        raise SmokeError(f"{url} answers {response.status_code}: {response.text[:300]}")
    return dict(response.json())


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
