"""Moments as text."""

from __future__ import annotations

import datetime as dt


def iso(seconds: int) -> str:
    """``seconds`` since the epoch as ISO 8601 in UTC, to the second: "2013-04-05T11:00:00Z"."""
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()[:19]}Z"
