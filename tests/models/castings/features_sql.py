"""The features as one SQL text, for Spark and for DuckDB."""

from __future__ import annotations

import datetime as dt

from models.castings.definitions import CATEGORIES, DEFECT_RATE, LABEL, MEASURED
from models.castings.params import FeatureParams

DUCKDB_MACROS = "CREATE OR REPLACE MACRO unix_date(d) AS (d - DATE '1970-01-01')"


def features_sql(params: FeatureParams, hint: str = "") -> str:
    """SQL of the features of each row of ``castings``.

    Pours and inspections of a mould are on one line of time, on which a pour looks back; ``hint`` says how to spread it.
    """
    row = ", ".join(("date", "poured_at", "casting", "alloy", *MEASURED))
    nulls = ", ".join("NULL" for _ in row.split(", "))
    zero = (params.days_from - dt.date(1970, 1, 1)).days
    # Everything put into the text is a name or a number of the code.
    return f"""
WITH events AS (
  SELECT poured_at AS instant, mould, CAST(NULL AS INT) AS found, {row} FROM castings
  UNION ALL SELECT inspected_at, mould, {LABEL}, {nulls} FROM castings WHERE {LABEL} IS NOT NULL
  UNION ALL SELECT inspected_at, mould, {LABEL}, {nulls} FROM earlier_castings WHERE {LABEL} IS NOT NULL
),
timeline AS (SELECT {hint} * FROM events),
counted AS (
  SELECT *, SUM(found) OVER trailing AS defects, COUNT(found) OVER trailing AS inspected
  FROM timeline
  WINDOW trailing AS (PARTITION BY mould ORDER BY instant RANGE BETWEEN {params.trailing_hours * 3600} PRECEDING AND 1 PRECEDING)
)
SELECT date, poured_at, casting, poured_at AS as_of, CAST(unix_date(date) - {zero} AS INT) AS day,
  {", ".join((*CATEGORIES, *MEASURED))},
  CASE WHEN inspected > 0 THEN CAST(defects AS DOUBLE) / CAST(inspected AS DOUBLE) END AS {DEFECT_RATE}
FROM counted WHERE casting IS NOT NULL
"""
