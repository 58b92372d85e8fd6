"""What a promotion rests on: the gate's verdict, read by the digest that the version has for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from tasks.core.errors import DataError, Skip
from tasks.registry.ledger import Entry
from tasks.registry.versions import Version
from tasks.settings import policy
from tasks.storage.artefacts import Store


def _passed(value: bool) -> bool:
    if not value:
        raise ValueError("it says that the candidate did not pass")
    return value


class _Part(BaseModel):
    """Of a verdict what a promotion asks; the rest is for people."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Champion(_Part):
    """What the candidate was compared with."""

    version: int | None
    model: str | None


class Judged(_Part):
    """Digests of what the gate saw."""

    model: str
    contract: str
    policy: str
    champion: Champion


class Verdict(_Part):
    """A verdict that lets a candidate through."""

    passed: Annotated[bool, AfterValidator(_passed)]
    evidence: Judged


def read(store: Store, version: Version) -> Verdict:
    """The verdict on a version.

    Raises:
        DataError: there is none, it is not the one that was recorded, did not pass, or is about another model.
    """
    name = version.file("gate.json")
    try:
        verdict = Verdict.model_validate(json.loads(store.read(name, version.tags["airloop.gate"])))
    except FileNotFoundError:
        raise DataError(
            f"{store.uri(name)} is missing: v{version.version} has no verdict to rest on. {_AGAIN}"
        ) from None
    except (KeyError, ValueError, ValidationError) as error:
        raise DataError(
            f"{store.uri(name)} lets no candidate through, so v{version.version} is not promoted: {error}. {_AGAIN}"
        ) from None
    about = (verdict.evidence.model, verdict.evidence.contract)
    if about != (version.model, version.tags["airloop.contract"]):
        raise DataError(
            f"{store.uri(name)} is about the model {about[0][:12]}..., not v{version.version}'s {version.model[:12]}.... {_AGAIN}"
        )
    return verdict


def require_approval(store: Store, version: Version, live: Entry | None, checkout: Path) -> None:
    """See that the gate let ``version`` through by the policy in force, and against what is live now.

    Args:
        store: the model's.
        version: what is to be promoted.
        live: the ledger's newest entry.
        checkout: whose policy is in force.

    Raises:
        DataError: there is no such verdict, or it is of another policy.
        Skip: another version was live when the gate judged: its approval has lapsed.
    """
    judged = read(store, version).evidence
    policy.require(judged.policy, checkout, store.model)
    champion = live.evidence.model if live and live.evidence else None
    if judged.champion.model != champion:
        now = "nothing" if live is None or live.to_version is None else f"v{live.to_version}"
        then = "nothing" if judged.champion.version is None else f"v{judged.champion.version}"
        raise Skip(
            f"not promoted: v{version.version} was judged against {then}, and {now} is live now, so its approval has lapsed. {_AGAIN}"
        )


_AGAIN = "Run the train DAG for its interval again: what is unchanged comes from the cache, and the gate judges by what is so now."
