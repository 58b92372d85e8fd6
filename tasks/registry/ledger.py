"""The promotion ledger: the single source of truth for which model is live, and was.

One JSON object an entry in the store, created exclusively and chained by digest, so that an entry can be neither
overwritten nor altered unnoticed. MLflow's aliases and the online service are only ever made to agree with it.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.core.errors import AirloopError, DataError, Unavailable
from tasks.core.frozen import Frozen
from tasks.settings.value_types import IntervalKey
from tasks.storage.artefacts import Store, sha256, to_json

SCHEMA: Literal[2] = 2
"""Version of an entry's layout, written once: what comes later is another kind of action, never another field (docs/adr/0059)."""
ACTIONS = ("promote", "rollback", "revert", "revert_unserved")
"""Promoted by the gate; rolled back by a person; taken back because the version itself is wrong; taken back because the service
answered with another version, which says nothing against this one: it may be promoted again."""


class LedgerError(AirloopError):
    """An entry that the ledger's rules refuse."""


class SupersededError(LedgerError):
    """A decision about an entry that is not the newest any more: the later one holds, and nothing of this one is written."""


class Evidence(Frozen):
    """The version that is live, and what put it there; digests are hex sha256 of the bytes in the store."""

    model: str
    """Digest of the ONNX file; its folder in the store is ``models/<digest>/``."""
    contract: str
    """Digest of the feature contract."""
    run: str
    """Training run that made the model."""
    data_through: IntervalKey
    """Last interval the model was trained on."""
    labelled_through: IntervalKey
    """Last interval whose labels the gate could know."""
    verdict: str | None
    """Digest of the gate's verdict; null where no gate has seen the model."""
    policy: str | None
    """Digest of the policy that the verdict was reached by; null in entries of version 1."""


class Entry(Frozen, serialize_by_alias=True):
    """One decision. Whatever its kind, it says what is live after it: a reader needs to know no kind."""

    schema_: Annotated[Literal[2], Field(alias="schema")] = SCHEMA
    """Version of this layout."""
    model: str
    """The model's name: an entry is of no use in another model's ledger."""
    seq: int
    previous_digest: str | None
    """Digest of the entry before, null for the first."""
    action: Annotated[str, Field(pattern=r"^[a-z]+(_[a-z]+)*$")]
    """Its kind: of ACTIONS, or one that later code adds."""
    payload: str | None = None
    """Digest of the document that an action of another kind is about; null for ACTIONS."""
    from_version: int | None
    to_version: int | None
    """Model version; null means that nothing is live."""
    effective_from: IntervalKey
    """First interval, in data time, that this version scores."""
    who: str
    why: str
    evidence: Evidence | None
    """Null exactly when ``to_version`` is."""
    at: str
    """Wall-clock time, ISO 8601 UTC."""
    nonce: str
    """Random: whoever got no answer to a write reads the entry and knows whether it is the one that was written."""
    signature: str | None = None
    """Of the entry without this field; null where nobody signs."""

    def content(self) -> bytes:
        """The entry's canonical bytes, of which its digest is."""
        return to_json(self.model_dump())


def parse(data: bytes, model: str) -> Entry:
    """The entry in ``data``, of the ledger of ``model`` (any, where it is "").

    Raises:
        ValueError: it is none, or of a layout that this version does not know.
    """
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}")  # noqa: TRY004 - one kind for whatever is wrong with it
    version = found.get("schema", 1)
    if version not in (1, SCHEMA):
        raise ValueError(f"schema={version!r} is of a newer version of Airloop, which can read it")
    entry = Entry.model_validate(_of_version_1(found, model) if version == 1 else found)
    if model and entry.model != model:
        raise ValueError(f"it is of the ledger of {entry.model!r}")
    return entry


def _of_version_1(found: dict[str, Any], model: str) -> dict[str, Any]:
    """An entry of version 1, from when there was one model whose labels came with their interval."""
    evidence = found.get("evidence")
    if isinstance(evidence, dict):
        evidence = {**evidence, "labelled_through": evidence.get("data_through"), "policy": None}
        evidence["verdict"] = evidence.pop("gate", None)
    return {**found, "schema": SCHEMA, "model": model, "evidence": evidence, "nonce": ""}


class Ledger:
    """Reads and appends entries; every read verifies the chain.

    Args:
        store: the model's part of the artefact store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def entries(self) -> list[Entry]:
        """All entries, oldest first; DataError when one is missing, damaged or altered."""
        return self._read()[0]

    def latest(self) -> Entry | None:
        """The newest entry, None in an empty ledger."""
        entries = self.entries()
        return entries[-1] if entries else None

    def is_newest(self, seq: int) -> bool:
        """Whether entry ``seq`` is the newest (0: whether there is none); one look at the store, however long the ledger."""
        return not self._store.exists(_name(seq + 1))

    def require_newest(self, seq: int) -> None:
        """Raise SupersededError unless entry ``seq`` is the newest."""
        if not self.is_newest(seq):
            raise SupersededError(_superseded(seq, self.entries()))

    def append(
        self,
        *,
        expect: int,
        action: str,
        to_version: int | None,
        effective_from: str,
        who: str,
        why: str,
        evidence: Evidence | None,
    ) -> Entry:
        """Add one entry, if the newest is still the one that it was decided by.

        Asked again for what the newest entry already says, it returns that entry: a retried task adds nothing.

        Args:
            expect: number of the entry that the decision is about, the newest when it was taken; 0 for an empty ledger.
            action: its kind, of ACTIONS.
            to_version: what is live from then on; None for nothing.
            effective_from: first interval that it scores.
            who: who decided.
            why: reason.
            evidence: what is known of the version; None exactly when there is none.

        Raises:
            SupersededError: another entry came in between.
            LedgerError: the rules refuse it.
            Unavailable: the store does not say whether it is written. Deciding again is safe.
        """
        entries, digest = self._read()
        last = entries[-1] if entries else None
        if last and (last.action, last.to_version, last.effective_from, last.evidence) == (
            action,
            to_version,
            effective_from,
            evidence,
        ):
            return last
        if len(entries) != expect:
            raise SupersededError(_superseded(expect, entries))
        _check(entries, action, to_version, effective_from, evidence)
        return self._write(
            Entry(
                model=self._store.model,
                seq=expect + 1,
                previous_digest=digest,
                action=action,
                from_version=last.to_version if last else None,
                to_version=to_version,
                effective_from=effective_from,
                who=who,
                why=why,
                evidence=evidence,
                at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                nonce=uuid.uuid4().hex,
            )
        )

    def _read(self) -> tuple[list[Entry], str | None]:
        """All entries, and the digest of the newest."""
        found: list[Entry] = []
        digest = None
        for name in self._store.names("ledger"):
            data = self._store.read(name)
            try:
                entry = parse(data, self._store.model)
            except ValueError as error:
                raise DataError(
                    f"{self._store.uri(name)} is not a ledger entry: {error}. Restore the ledger folder from a backup."
                ) from None
            if name != _name(len(found) + 1) or entry.seq != len(found) + 1 or entry.previous_digest != digest:
                raise DataError(
                    f"The promotion ledger is broken at {self._store.uri(name)}: it does not follow the entry before. "
                    "Nothing will be promoted until the ledger folder is restored from a backup."
                )
            found.append(entry)
            digest = sha256(data)
        return found, digest

    def _write(self, entry: Entry) -> Entry:
        """Create ``entry``. Where the store's answer is unclear, what it holds says whether it was written: by the nonce."""
        problem: Exception | None = None
        try:
            if self._store.create(_name(entry.seq), entry.content()):
                return entry
        except AirloopError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the store's library raises, the entry may be there
            problem = error
        # A no is unclear as well: a library that gets no answer sends the write again, and then finds its own entry.
        entries = self._read_back(entry, problem)
        if len(entries) < entry.seq:
            raise Unavailable(_unclear(entry, problem)) from problem
        if entries[entry.seq - 1].nonce != entry.nonce:
            raise SupersededError(_superseded(entry.seq - 1, entries)) from problem
        return entry

    def _read_back(self, entry: Entry, problem: Exception | None) -> list[Entry]:
        try:
            return self.entries()
        except AirloopError:
            raise
        except Exception as error:
            raise Unavailable(_unclear(entry, problem or error)) from error


def live_at(entries: list[Entry], interval: str) -> Entry | None:
    """The last of ``entries`` effective in ``interval``, None when there is none or it took everything out of service."""
    effective = [entry for entry in entries if entry.effective_from <= interval]
    return effective[-1] if effective and effective[-1].to_version is not None else None


def previous_at(entries: list[Entry], interval: str) -> Entry | None:
    """The entry that was live before the champion of ``interval``, with another version: the shadow to compare with."""
    champion = live_at(entries, interval)
    if champion is None:
        return None
    before = [e for e in entries[: champion.seq - 1] if e.to_version not in (None, champion.to_version)]
    return before[-1] if before else None


def _name(seq: int) -> str:
    return f"ledger/{seq:06d}.json"


def _superseded(seq: int, entries: list[Entry]) -> str:
    """What came after entry ``seq``, and that it holds."""
    after = "; ".join(
        f"entry {e.seq}, a {e.action} to {_version(e.to_version)} by {e.who} ({e.why})" for e in entries[seq:]
    )
    about = (
        f"Ledger entry {seq} ({_version(entries[seq - 1].to_version)})"
        if 0 < seq <= len(entries)
        else "What this was decided by"
    )
    return (
        f"{about} is not the newest any more: {after or 'the ledger is shorter than it was'}. The later decision holds, and this one "
        "ends here. Look at what is live, and decide again if that is wrong."
    )


def _unclear(entry: Entry, problem: Exception | None) -> str:
    return (
        f"The store does not say whether ledger entry {entry.seq} ({entry.action} to {_version(entry.to_version)}) is written "
        f"({problem or 'it is neither there nor could it be created'}). Run this again when the store answers: an entry that is there "
        "after all is found, and not written twice."
    )


def _version(number: int | None) -> str:
    return "nothing" if number is None else f"v{number}"


def _check(
    entries: list[Entry], action: str, to_version: int | None, effective_from: str, evidence: Evidence | None
) -> None:
    if action not in ACTIONS:
        raise LedgerError(f"action={action!r} is no kind of entry; use {', '.join(ACTIONS)}.")
    if (to_version is None) != (evidence is None):
        raise LedgerError("A ledger entry has evidence exactly when it puts a version live.")
    last = entries[-1] if entries else None
    if last is None:
        return
    if effective_from < last.effective_from:
        raise LedgerError(
            f"effective_from={effective_from} is before {last.effective_from}, from which v{last.to_version} is live; "
            "history is not rewritten. Use that interval or a later one."
        )
    named = next((e.evidence.model for e in entries if e.evidence and e.to_version == to_version), None)
    if evidence and named not in (None, evidence.model):
        raise LedgerError(
            f"v{to_version} is the model {named[:12] if named else ''}... in this ledger, not {evidence.model[:12]}...: a number means one model "
            "for ever. Register the other one again; it gets a number of its own."
        )
    live = last.evidence
    if action == "promote" and evidence and live and evidence.labelled_through < live.labelled_through:
        raise LedgerError(
            f"The candidate saw labels through {evidence.labelled_through}, the champion v{last.to_version} through "
            f"{live.labelled_through}; an older model is never promoted. To go back on purpose, use a rollback."
        )
