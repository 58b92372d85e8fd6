"""Calendar months as keys ("2013-04") and days as integers: the two units everything here is keyed by."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence

from tasks.common.errors import ConfigError


def parse(month: str) -> dt.date:
    """First day of ``month`` ("YYYY-MM"); ConfigError for anything else."""
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise ConfigError(f"month={month!r} is not a month; write it as YYYY-MM, for example 2013-04.")
    return dt.date(int(month[:4]), int(month[5:]), 1)


def shift(month: str, by: int) -> str:
    """The month ``by`` months after ``month`` (before it, when negative)."""
    first = parse(month)
    index = first.year * 12 + first.month - 1 + by
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def span(first: str, last: str) -> list[str]:
    """All months from ``first`` to ``last``, both included; empty when ``last`` is before ``first``."""
    parse(first), parse(last)
    months = []
    while first <= last:
        months.append(first)
        first = shift(first, 1)
    return months


def window(months: Sequence[str]) -> dict[str, dict[str, str]]:
    """The section ``months`` of run.yaml for these months: each with the month its look-back reads.

    The first month looks back at itself, which means: at nothing.
    """
    ordered = sorted(months)
    return {m: {"previous": shift(m, -1) if shift(m, -1) in ordered else m} for m in ordered}
