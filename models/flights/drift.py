"""Which columns Evidently's page shows: a choice of the example, since drawing one costs 0.15 CPU-s."""

from __future__ import annotations

from models.flights.definitions import CALENDAR, CATEGORIES, LABEL, LATE_DEPARTURES, SCHEDULE, WEATHER

SHOWN_CATEGORIES = (LABEL, *CATEGORIES)
"""Drawn as bars: the label first, since its shift is the one that counts."""

SHOWN_NUMBERS = (*CALENDAR, *SCHEDULE, *WEATHER, "late_rate_origin", LATE_DEPARTURES)
"""Drawn as distributions. Of the trailing late rates one represents all: they move together."""
