"""Which flights make the golden set: in the proportions of origins and outcomes, with every carrier in it."""

from __future__ import annotations

from models.flights.definitions import LABEL

STRATA = ("origin", LABEL)
"""The golden set has these in the proportions of the eligible rows."""

REPRESENTED = "carrier"
"""Each value of this column has a least number of rows."""
