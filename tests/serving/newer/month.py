"""A newer edition of the flights: one feature more, which looks back a month. test_versions.py puts it into a checkout of its own."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from models.flights import asof, features_sql
from models.flights.params import FeatureParams
from models.flights.state import FLIGHTS
from tasks.spec import Known

MONTHLY = "late_rate_carrier_month"
"""Share of the carrier's arrivals with T - month_days <= arrived_at < T that were late; null when there were none."""


def monthly_sql(params: FeatureParams, hint: str = "") -> str:
    """SQL of all features."""
    return f"""
WITH known AS ({features_sql.features_sql(params, hint)}),
outcomes AS (
  SELECT carrier, arrived_at, arr_delay FROM flights UNION ALL SELECT carrier, arrived_at, arr_delay FROM lookback
),
arrived AS (SELECT * FROM outcomes WHERE arrived_at IS NOT NULL AND arr_delay IS NOT NULL),
moments AS (SELECT DISTINCT carrier, as_of FROM known),
shares AS (
  SELECT moments.carrier AS by_carrier, moments.as_of AS moment,
    CAST(SUM(CASE WHEN arr_delay >= {params.late_minutes} THEN 1 ELSE 0 END) AS DOUBLE) / CAST(COUNT(*) AS DOUBLE) AS {MONTHLY}
  FROM moments JOIN arrived ON arrived.carrier = moments.carrier
    AND arrived_at >= as_of - {params.month_days * 86400} AND arrived_at < as_of
  GROUP BY moments.carrier, moments.as_of
)
SELECT known.*, {MONTHLY} FROM known LEFT JOIN shares ON by_carrier = known.carrier AND moment = known.as_of
"""


class MonthlyState(asof.State):
    """The state, which answers one feature more."""

    def __init__(self, tables: Mapping[str, Mapping[str, pa.Table]], params: FeatureParams) -> None:
        super().__init__(tables, params)
        flights = asof._together((tables[month]["flights"] for month in self.intervals), FLIGHTS)
        times, late, arrivals = asof._events(flights, "arrived_at", "arr_delay", params.late_minutes)
        self._month = asof.Shares([arrivals["carrier"]], times, late)

    def known(self, flight: asof.Flight) -> Known:
        known = super().known(flight)
        start = known.as_of - self.params.month_days * 86400
        known.features[MONTHLY] = self._month.share((flight.carrier,), start, known.as_of)
        return known
