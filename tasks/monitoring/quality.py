"""The interval's inputs against the reference intervals: a broken feed shows here before it shows in the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from tasks import spec
from tasks.settings.monitor_params import MonitorParams

FLOOR = 1e-4
"""Smallest share in the population stability index: a value never seen before counts, but not infinitely."""

QUANTILES = 10
"""Bins of a number: the reference's deciles."""


def null_shares(table: pa.Table) -> dict[str, float]:
    """Share of rows without a value, by feature."""
    return {name: table[name].null_count / max(1, len(table)) for name in spec.current().features}


def blind_share(table: pa.Table) -> float:
    """Share of rows that lack all of the features that an outage of the feed takes away."""
    known = np.zeros(len(table), bool)
    for name in spec.current().outage.columns:
        known |= np.asarray(table[name].is_valid())
    return float((~known).mean()) if len(table) else 0.0


def psi(reference: pd.Series, current: pd.Series) -> float:
    """Population stability index: the sum over bins of (p - q) ln(p / q).

    Bins are the values of text, the reference's deciles of a number, and null. Shares below ``FLOOR`` count as that.
    """
    old, new = _shares(reference, current)
    old, new = np.maximum(old, FLOOR), np.maximum(new, FLOOR)
    return float(((new - old) * np.log(new / old)).sum())


def compare(reference: pa.Table | None, current: pa.Table) -> dict[str, Any]:
    """Null shares of both, the share that an outage made blind, and the PSI of the planned features (None without reference, or without a row)."""
    before = null_shares(reference) if reference is not None else {}
    return {
        "nulls": {name: {"share": share, "reference": before.get(name)} for name, share in null_shares(current).items()},
        "blind_share": blind_share(current),
        "psi": None if reference is None or not len(current) else {
            name: psi(reference[name].to_pandas(), current[name].to_pandas()) for name in spec.current().planned
        },
    }  # fmt: skip


def alarms(quality: dict[str, Any], limits: MonitorParams) -> list[str]:
    """What a person should look at; none of it asks for a retrain, since a model must not learn a broken feed."""
    model = spec.current()
    found = [
        f"{name}: population stability index {value:.2f} > {limits.max_psi:g}; see whether the {model.words.planned} feed changed"
        for name, value in (quality["psi"] or {}).items()
        if value > limits.max_psi
    ]
    if quality["blind_share"] > limits.max_blind_share:
        found.append(
            f"{quality['blind_share']:.1%} of the {model.words.rows} have no {model.outage.name} at all (> {limits.max_blind_share:.1%}); "
            f"see whether the {model.outage.name} feed was out: scores rise without it"
        )
    return found


def _shares(reference: pd.Series, current: pd.Series) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Share of each bin, null last, in the reference and now."""
    if pd.api.types.is_numeric_dtype(reference):
        edges = (
            np.unique(np.quantile(reference.dropna(), np.linspace(0, 1, QUANTILES + 1)[1:-1]))
            if reference.notna().any()
            else np.array([])
        )
        coded = [
            np.where(s.isna(), len(edges) + 1, np.searchsorted(edges, s.to_numpy(float), side="left"))
            for s in (reference, current)
        ]
        bins = len(edges) + 2
    else:
        values = pd.Index(pd.concat([reference, current]).dropna().unique())
        coded = [np.where(s.isna(), len(values), values.get_indexer(s)) for s in (reference, current)]
        bins = len(values) + 1
    old, new = (np.bincount(codes.astype(np.int64), minlength=bins) / max(1, len(codes)) for codes in coded)
    return old, new
