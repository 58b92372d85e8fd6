"""Parcels that get lost, as far as the service asks: another request, another key of the answer, other settings, a tiny state."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from models.parcels.params import ParcelFeatures
from tasks import spec
from tasks.spec import Form, Known, Online

EXAMPLE = {"depot": "north", "grams": 250}


class Parcel(BaseModel):
    """One parcel to predict."""

    model_config = ConfigDict(extra="forbid")

    depot: Annotated[str, Field(min_length=1, description="Where it is: north")]
    grams: Annotated[int, Field(ge=1, strict=True, description="Its weight in grams, 1 or more")]

    def to_entity(self) -> Parcel:
        return self

    def logged(self) -> dict[str, Any]:
        return self.model_dump()


class ParcelState:
    def __init__(self, tables, params: ParcelFeatures) -> None:
        self.params, self.intervals = params, sorted(tables)
        self.as_of = 1_400_000_000

    def known(self, parcel: Parcel) -> Known:
        return Known({"grams": parcel.grams, "heavy": parcel.grams >= self.params.heavy_grams}, self.as_of)


FLIGHTS = spec.load("flights")
MODEL = replace(  # the service asks for no more than this
    FLIGHTS,
    name="parcels",
    numbers=(*FLIGHTS.numbers, "grams", "heavy"),
    online=Online(
        description="The chance that a parcel is lost.",
        many="parcels",
        answer="chance_lost",
        answer_description="P(lost)",
        request=lambda: Parcel,
        examples=(EXAMPLE, {"depot": "south", "grams": 12}),
        as_asked=dict,
        form=Form("Will the parcel be lost?", "lost", {"depot": "Depot", "grams": "Grams"}),
        state=ParcelState,
        state_tables=dict,
        read_state=lambda store, files: {},
    ),
)
