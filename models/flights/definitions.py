"""Key, label and features of the flights example: the one place both engines read (Spark offline, the service online).

A feature is either known ahead (the schedule), observed (the weather at T), or counted: a share of events that had
*happened* before T, by the moment they became known (an arrival counts from the arrival on, a departure from the
departure on). Shares are integer counts divided once in float64, so that every engine gives the same bits.
"""

from __future__ import annotations

from tasks.spec import Monthly

MONTHS = Monthly()
"""Names and order of the feed's months, which are local ones of reading/clock.py's FEED_ZONE."""

KEY_TYPES = {"date": "date", "scheduled_at": "bigint", "carrier": "string", "flight": "int", "origin": "string"}
KEY = tuple(KEY_TYPES)
"""Identifies a scheduled flight, and orders every file of flights."""

LABEL = "late"
"""1 when the flight arrived ``late_minutes`` or more late, 0 when not; unknown when it never arrived as scheduled."""

CATEGORIES = ("carrier", "origin", "dest")
"""Text features."""

CALENDAR = ("hour", "dow")
"""Local scheduled hour (0-23) and day of the week (Monday is 0)."""

SCHEDULE = ("block_minutes", "distance")
"""Scheduled minutes from gate to gate, and miles."""

WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
"""The origin's weather observed at hour T: F, F, %, degrees, mph, mph, inches, millibars, miles."""

LATE_RATES: dict[str, tuple[str, ...]] = {
    "late_rate_carrier": ("carrier",),
    "late_rate_origin": ("origin",),
    "late_rate_dest": ("dest",),
    "late_rate_carrier_origin": ("carrier", "origin"),
    "late_rate_route": ("origin", "dest"),
    "late_rate_flight": ("carrier", "flight"),
    "late_rate_origin_hour": ("origin", "hour"),
}
"""Trailing shares of late arrivals: feature to the columns that flights must share with this one.

Over arrivals with T - trailing_days <= arrived_at < T; null when there were none.
"""

LATE_DEPARTURES = "origin_late_departures"
"""Share of the origin's departures with T - departure_hours <= departed_at < T that left late; null when none left."""

NUMBERS = (*CALENDAR, *SCHEDULE, *WEATHER, *LATE_RATES, LATE_DEPARTURES)
"""Numeric features, all float64."""

FEATURES = (*CATEGORIES, *NUMBERS)
"""Model inputs, in the order of the feature contract."""

SCHEDULE_FEATURES = ("carrier", "dest", *SCHEDULE)
"""Features whose distribution the airline plans: a jump in them is a data-quality alarm, not a season."""

ASKED = ("carrier", "flight", "origin", "dest", "scheduled_at")
"""What a traveller knows of a flight, and the online service is asked with: columns of a row."""
