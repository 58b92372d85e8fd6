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

from tasks.core.errors import AirloopError, DataError
from tasks.core.frozen import Frozen
from tasks.settings.value_types import IntervalKey
from tasks.storage.artefacts import Store, sha256, to_json

SCHEMA: Literal[2] = 2
"""Version of an entry's layout, written once: what comes later is another kind of action, never another field (docs/adr/0059)."""
ACTIONS = ("promote", "rollback", "revert")
"""Promoted by the gate, rolled back by a person, or reverted because the smoke test failed."""


class LedgerError(AirloopError):
    """An entry that the ledger's rules refuse."""


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
        return found

    def latest(self) -> Entry | None:
        """The newest entry, None in an empty ledger."""
        entries = self.entries()
        return entries[-1] if entries else None

    def append(
        self,
        *,
        action: str,
        to_version: int | None,
        effective_from: str,
        who: str,
        why: str,
        evidence: Evidence | None,
    ) -> Entry:
        """Add one entry; LedgerError if the rules refuse it or somebody appended at the same moment.

        Asked again for what the newest entry already says, it returns that entry: a retried task adds nothing.
        """
        entries = self.entries()
        last = entries[-1] if entries else None
        if last and (last.action, last.to_version, last.effective_from, last.evidence) == (
            action,
            to_version,
            effective_from,
            evidence,
        ):
            return last
        _check(entries, action, to_version, effective_from, evidence)
        digest = sha256(self._store.read(_name(last.seq))) if last else None
        entry = Entry(
            model=self._store.model,
            seq=len(entries) + 1,
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
        if not self._store.create(_name(entry.seq), entry.content()):
            raise LedgerError(f"Somebody else wrote ledger entry {entry.seq} at the same moment; run this again.")
        return entry


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
