"""What the foundry asks before it pours."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from models.castings.definitions import ASKED

EXAMPLE = {
    "mould": "M1",
    "alloy": "AlSi7",
    "poured_at": "2024-03-30T09:15:00Z",
    "melt_celsius": 742.0,
    "pour_seconds": 11.5,
}


class CastingRequest(BaseModel):
    """One casting to predict."""

    model_config = ConfigDict(extra="forbid")

    mould: Annotated[str, Field(min_length=1, max_length=20, description="Mould: M1")]
    alloy: Annotated[str, Field(min_length=1, max_length=20, description="Alloy: AlSi7")]
    poured_at: Annotated[AwareDatetime, Field(description="Moment of the pour, ISO 8601 with an offset")]
    melt_celsius: Annotated[float | None, Field(ge=600, le=1700, description="Melt, degrees Celsius")] = None
    pour_seconds: Annotated[float | None, Field(ge=1, le=120, description="How long it is poured, seconds")] = None

    def to_entity(self) -> CastingRequest:
        """The casting."""
        return self

    def logged(self) -> dict[str, Any]:
        """What the prediction log keeps of it."""
        return self.model_dump(mode="json")


def as_asked(row: Mapping[str, Any]) -> dict[str, Any]:
    """The request for a row with the columns ASKED, as JSON."""
    moment = dt.datetime.fromtimestamp(row["poured_at"], dt.UTC).isoformat()
    return {name: row[name] for name in ASKED} | {"poured_at": moment}
