"""The look-back of an interval's features: the list of the tails that they can still see.

validate writes the list of each interval for the one after it, from the list of the one before it: a chain, so that an interval
that lands again makes stale what has seen it, and nothing else.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from tasks.intervals.cadence import Cadence
from tasks.storage import lists

TAILS = "data/tail"
"""Folder of ``<interval>/<table>.parquet`` in a workspace: the rows of an interval that later ones can see."""


def extended(
    before: Mapping[str, str], interval: str, tail: Mapping[str, bytes], cadence: Cadence, reach: dt.timedelta
) -> dict[str, str]:
    """Make the list of what the interval after this one can see.

    Args:
        before: the list that this interval was given.
        interval: its key.
        tail: file name to content of its own tail.
        cadence: of the feed.
        reach: how far features look back from the start of their interval.

    Returns:
        Path to digest, sorted.
    """
    own = {f"{TAILS}/{interval}/{name}": lists.digest(data) for name, data in tail.items()}
    oldest = cadence.back(cadence.shift(interval, 1), reach)
    seen = {**before, **own}
    return {path: seen[path] for path in sorted(seen) if path.split("/")[2] >= oldest}
