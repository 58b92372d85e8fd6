"""What the training rows say of each feature: how large an embedding is, and where a number lies."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.modelling.model import Contract, Matrix
from tasks.training.source import Source

Double = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Preparation:
    """How encoded rows become the network's inputs. A number is clipped to [low, high], less mean, times scale; null is 0."""

    categories: tuple[tuple[int, int], ...]
    """Column and number of values of each category; unknown and null are one more value."""
    numbers: tuple[int, ...]
    """Columns of the k numbers."""
    missing: tuple[int, ...]
    """Those of the k that had nulls in training (indices into ``numbers``): whether it is null is an input too."""
    low: Matrix
    """[k], as are the others."""
    high: Matrix
    mean: Matrix
    scale: Matrix


@dataclass
class _Moments:
    """Of k columns, added up batch by batch."""

    count: Double
    total: Double
    squares: Double
    low: Double
    high: Double
    nulls: npt.NDArray[np.bool_]

    @classmethod
    def none(cls, k: int) -> _Moments:
        return cls(np.zeros(k), np.zeros(k), np.zeros(k), np.full(k, np.inf), np.full(k, -np.inf), np.zeros(k, bool))

    def add(self, x: Double) -> None:
        """Rows [n, k]; NaN is null, and what float32 cannot hold says nothing of where a number lies."""
        known = np.isfinite(x)
        self.nulls |= np.isnan(x).any(axis=0)
        self.count += known.sum(axis=0)
        self.total += np.where(known, x, 0.0).sum(axis=0)
        self.squares += np.where(known, x * x, 0.0).sum(axis=0)
        self.low = np.minimum(self.low, np.where(known, x, np.inf).min(axis=0, initial=np.inf))
        self.high = np.maximum(self.high, np.where(known, x, -np.inf).max(axis=0, initial=-np.inf))


def prepare(source: Source, contract: Contract, leave_out: Collection[str], spread: float) -> Preparation:
    """One pass over the training rows.

    Args:
        source: of the rows.
        contract: how they are encoded.
        leave_out: numbers that the network does not see.
        spread: standard deviations from the mean beyond which a number is clipped, where the training range is wider.
    """
    numbers = tuple(i for i, f in enumerate(contract.features) if f.categories is None and f.name not in leave_out)
    found = _Moments.none(len(numbers))
    for batch in source.batches("train"):
        found.add(contract.encode(batch)[:, numbers].astype(np.float64))
    count = np.maximum(found.count, 1)
    mean = found.total / count
    deviation = np.sqrt(np.maximum(found.squares / count - mean * mean, 0.0))
    known = found.count > 0
    low = np.where(known, np.maximum(found.low, mean - spread * deviation), 0.0)
    high = np.where(known, np.minimum(found.high, mean + spread * deviation), 0.0)
    return Preparation(
        categories=tuple((i, len(f.categories)) for i, f in enumerate(contract.features) if f.categories is not None),
        numbers=numbers,
        missing=tuple(int(i) for i in np.flatnonzero(found.nulls)),
        low=low.astype(np.float32),
        high=high.astype(np.float32),
        mean=mean.astype(np.float32),
        scale=(1.0 / np.where(deviation > 0, deviation, 1.0)).astype(np.float32),
    )
