"""The castings, as the engine knows them."""

from __future__ import annotations

from models.castings.definitions import ASKED, CATEGORIES, DAYS, FIRST, KEY_TYPES, LABEL, NUMBERS
from models.castings.features_sql import DUCKDB_MACROS
from models.castings.request import EXAMPLE, CastingRequest
from models.castings.schema import TABLES
from tasks.spec import Deferred, Form, Golden, Group, ModelSpec, Online, View, Words

MODEL = ModelSpec(
    name="castings",
    owner="foundry",
    cadence=DAYS,
    first=FIRST,
    last="2024-05-06",
    key=KEY_TYPES,
    label=LABEL,
    categories=CATEGORIES,
    numbers=NUMBERS,
    date="date",
    tables=TABLES,
    rows="castings",
    land_command="python models/castings/landing.py --day {interval}",
    typed=Deferred("models.castings.reading:typed"),
    broken_rules=Deferred("models.castings.rules:broken_rules"),
    tail=Deferred("models.castings.tail:tail"),
    labels=Deferred("models.castings.labels:labels"),
    views={"castings": View("castings", "interval"), "earlier_castings": View("castings", "before")},
    features_sql=Deferred("models.castings.features_sql:features_sql"),
    duckdb_macros=DUCKDB_MACROS,
    golden_set=Golden(strata=("alloy", LABEL), represented="mould"),
    asked=ASKED,
    planned=("alloy",),
    outage=Group("thermometer", ("melt_celsius",)),
    shown_categories=(LABEL, *CATEGORIES),
    shown_numbers=NUMBERS,
    shown=("mould", "alloy", "casting", "poured_at"),
    words=Words(
        rows="castings", positive="defective", negative="flawless", planned="casting plan", planned_by="The foundry"
    ),
    online=Online(
        description="Will this casting be defective? Answered when it is poured",
        many="castings",
        answer="probability_defective",
        answer_description="P(the inspection finds a defect)",
        request=lambda: CastingRequest,
        examples=(EXAMPLE, EXAMPLE | {"mould": "M3", "melt_celsius": None}),
        as_asked=Deferred("models.castings.request:as_asked"),
        form=Form(
            question="Will it be defective?",
            verdict="that the inspection finds a defect",
            labels={
                "mould": "Mould",
                "alloy": "Alloy",
                "poured_at": "Poured at",
                "melt_celsius": "Melt (°C)",
                "pour_seconds": "Pour (s)",
            },
        ),
        state=Deferred("models.castings.state:State"),
        state_tables=Deferred("models.castings.state:state_tables"),
        read_state=Deferred("models.castings.state:read_state"),
    ),
    own_words=frozenset({"foundry"}),
)
