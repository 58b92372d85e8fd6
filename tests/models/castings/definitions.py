"""Calendar, key, label and features."""

from __future__ import annotations

from tasks.spec import Daily

DAYS = Daily("Europe/Berlin")
"""The foundry's own days: one of the example's, the last of March, has 23 hours."""

FIRST = "2024-03-28"

KEY_TYPES = {"date": "date", "poured_at": "bigint", "casting": "bigint"}

LABEL = "defective"
"""1 when the inspection found a defect, 0 when it found none, null when there was none."""

CATEGORIES = ("mould", "alloy")
MEASURED = ("melt_celsius", "pour_seconds")
DEFECT_RATE = "mould_defect_rate"
"""Share of defects among the mould's castings that were inspected in the ``trailing_hours`` before the pour; null without any."""

NUMBERS = (*MEASURED, DEFECT_RATE)

ASKED = ("mould", "alloy", "poured_at", *MEASURED)
