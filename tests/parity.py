"""Offline and online features of any model, side by side: what a stage wrote and what the service knows of the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tasks.spec import Known, ModelSpec, State


def asked(model: ModelSpec, kept: pa.Table) -> list[dict]:
    """The request for each kept row, as JSON."""
    return [model.online.as_asked(row) for row in kept.select(model.asked).to_pylist()]


def known(model: ModelSpec, state: State, requests: Sequence[Mapping]) -> list[Known]:
    """What the state says of each request, which goes the way of one that somebody sent."""
    form = model.online.request()
    return [state.known(form.model_validate(request).to_entity()) for request in requests]


def differences(model: ModelSpec, features: pa.Table, online: Sequence[Known]) -> dict[str, str]:
    """Feature, and the cutoff, to what differs there; empty when all bits are equal. Rows are in one order."""
    found = {}
    answers = {"as_of": [k.as_of for k in online]} | {f: [k.features[f] for k in online] for f in model.features}
    for name, theirs in answers.items():
        ours = features[name].to_pylist()
        different = [n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
        if different:
            found[name] = f"{len(different)} differ, {ours[different[0]]} and {theirs[different[0]]}"
    return found
