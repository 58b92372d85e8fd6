"""What a traveller knows of a flight, as the online service takes it: checked, and turned into a scheduled departure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.flights.asof import NEW_YORK, Flight

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TO_THE_MINUTE = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")
_YEARS = (1987, 2100)

EXAMPLE: dict[str, str | int] = {
    "carrier": "B6",
    "flight": 1105,
    "origin": "JFK",
    "destination": "SFO",
    "scheduled_time": "2013-04-05T17:59",
}

OTHER_EXAMPLE = EXAMPLE | {"carrier": "UA", "flight": 1545, "origin": "EWR", "destination": "IAH"}

LATER = 28 * 86400
"""Four weeks: the same days of the week in a month that has not landed."""

Airport = Annotated[str, Field(pattern=r"^[A-Z]{3}$", strict=True)]


class FlightRequest(BaseModel):
    """One flight to predict."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [dict(EXAMPLE)]})

    carrier: Annotated[
        str, Field(pattern=r"^[A-Z0-9]{2}$", strict=True, description="Airline, two letters or digits (IATA): B6")
    ]
    flight: Annotated[int, Field(ge=1, le=9999, strict=True, description="Flight number, 1 to 9999")]
    origin: Annotated[Airport, Field(description="Airport of departure, three capital letters (IATA): JFK")]
    destination: Annotated[Airport, Field(description="Airport of arrival, three capital letters (IATA): SFO")]
    scheduled_time: Annotated[
        str,
        Field(
            strict=True,
            min_length=16,
            max_length=40,
            description="Scheduled departure, ISO 8601 to the minute (seconds are ignored). Without an offset it is "
            "local New York time; with one (2013-04-05T17:59-04:00, ...Z) it is that moment.",
            json_schema_extra={"format": "date-time"},
        ),
    ]

    @field_validator("scheduled_time")
    @classmethod
    def _is_a_moment(cls, value: str) -> str:
        local_time(value)
        return value

    @model_validator(mode="after")
    def _goes_somewhere(self) -> FlightRequest:
        if self.origin == self.destination:
            raise ValueError(f"origin and destination are both {self.origin}; a flight goes somewhere else")
        return self

    def to_entity(self) -> Flight:
        """The scheduled departure."""
        local = local_time(self.scheduled_time)
        return Flight(
            carrier=self.carrier,
            flight=self.flight,
            origin=self.origin,
            dest=self.destination,
            date=local.date(),
            hour=local.hour,
            minute=local.minute,
            scheduled_at=(local - _EPOCH) // dt.timedelta(seconds=1),
        )

    def logged(self) -> dict[str, Any]:
        """What the prediction log keeps of it."""
        flight = self.to_entity()
        return {
            "carrier": flight.carrier,
            "flight": flight.flight,
            "origin": flight.origin,
            "destination": flight.dest,
            "scheduled_time": self.scheduled_time,
            "date": flight.date,
            "scheduled_at": flight.scheduled_at,
        }


def as_asked(row: Mapping[str, Any]) -> dict[str, Any]:
    """The request for a row with the columns ASKED, as JSON."""
    return {
        "carrier": row["carrier"],
        "flight": row["flight"],
        "origin": row["origin"],
        "destination": row["dest"],
        "scheduled_time": dt.datetime.fromtimestamp(row["scheduled_at"], dt.UTC).isoformat(),
    }


def ask_later(row: Mapping[str, Any]) -> dict[str, Any]:
    """The request for the flight of a row as if it came four weeks later."""
    return as_asked({**row, "scheduled_at": row["scheduled_at"] + LATER})


@lru_cache(maxsize=4096)
def local_time(text: str) -> dt.datetime:
    """``text`` as New York time to the minute; ValueError when it is not one moment there."""
    try:
        time = dt.datetime.fromisoformat(text).replace(second=0, microsecond=0) if _TO_THE_MINUTE.match(text) else None
    except ValueError:
        time = None
    if time is None:
        raise ValueError(f"{text!r} is not a date and time; write 2013-04-05T17:59, with an offset if you like")
    if not _YEARS[0] <= time.year < _YEARS[1]:
        raise ValueError(f"{text!r} is outside the years {_YEARS[0]} to {_YEARS[1] - 1}")
    if time.tzinfo is not None:
        return time.astimezone(NEW_YORK)
    local = time.replace(tzinfo=NEW_YORK)
    if local.utcoffset() != local.replace(fold=1).utcoffset():
        _refuse_clock_change(text, local)
    return local


def _refuse_clock_change(text: str, local: dt.datetime) -> None:
    back = local.astimezone(dt.UTC).astimezone(NEW_YORK)
    if back.replace(tzinfo=None) == local.replace(tzinfo=None):
        raise ValueError(f"{text!r} happens twice in New York that night; add the offset, -04:00 or -05:00")
    raise ValueError(f"{text!r} does not exist in New York: the clocks skip that hour; did you mean {back:%H:%M}?")
