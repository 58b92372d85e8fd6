"""Days as a search sees them: folds that end where the next block of days begins, as training ends where the future does.

Held-out days - golden days and the days that the gate decides on - are no part of any fold: settings that were chosen on
them would meet the gate's exam with its answers in their pocket.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import DataError
from tasks.settings.search_params import FoldParams
from tasks.storage.artefacts import sha256, to_json
from tasks.training.source import Part, Source


@dataclass(frozen=True)
class Fold:
    """One question to a search: what does a training on ``past`` know of the days right after it?"""

    past: Source
    future: Source

    @property
    def days(self) -> tuple[int, int, int]:
        """First day of the past, first of the future, and the one after its last."""
        assert self.past.span and self.future.span
        return *self.past.span, self.future.span[1]

    def rows(self) -> pa.Table:
        """All rows of the future, those of validation days among them: there is nothing left to stop."""
        return pa.concat_tables([self.future.table("train"), self.future.table("validation")])


def folds(source: Source, settings: FoldParams) -> list[Fold]:
    """The folds of ``source``, newest first, each one's past from the first day on.

    Raises:
        DataError: the oldest fold would have less past than future.
    """
    first, end = _bounds(source)
    starts = [end - settings.days * (number + 1) for number in range(settings.count)]
    if starts[-1] - first < settings.days:
        raise DataError(
            f"The window has {end - first} days, too few for train.search.folds: {settings.count} blocks of {settings.days} "
            "days and at least one more to learn from. Set fewer or shorter ones in the model's params.yaml, or widen the window."
        )
    return [
        Fold(replace(source, span=(first, start)), replace(source, span=(start, start + settings.days)))
        for start in starts
    ]


def fingerprint(source: Source, settings: FoldParams) -> str:
    """Digest of the rows and of how they are divided."""
    return sha256(to_json([source.digest, settings.model_dump()]))


def _bounds(source: Source) -> tuple[int, int]:
    """First day with rows to learn from, and the day after the last."""
    seen: list[int] = []
    parts: tuple[Part, ...] = ("train", "validation")
    for part in parts:
        for batch in source.batches(part, ()):
            found = pc.min_max(batch.column("day")).as_py()
            seen += [found["min"], found["max"]]
    if not seen:
        raise DataError("No labelled row is left to search on; widen the run's span.")
    return min(seen), max(seen) + 1
