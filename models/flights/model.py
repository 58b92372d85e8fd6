"""The flights, as the engine knows them. This file only puts together: what shapes a stage's output is in the files beside it."""

from __future__ import annotations

from models.flights import drift, words
from models.flights.definitions import ASKED, CATEGORIES, KEY_TYPES, LABEL, MONTHS, NUMBERS, SCHEDULE_FEATURES, WEATHER
from models.flights.features_sql import DUCKDB_MACROS
from models.flights.golden import REPRESENTED, STRATA
from models.flights.request import EXAMPLE, OTHER_EXAMPLE, FlightRequest
from models.flights.schema import FEED, KEPT, ORDER, UNIQUE
from tasks.spec import Deferred, Example, Golden, Group, ModelSpec, Online, Table, View

MODEL = ModelSpec(
    name="flights",
    owner="airloop",
    cadence=MONTHS,
    first="2013-01",
    last="2013-12",
    key=KEY_TYPES,
    label=LABEL,
    categories=CATEGORIES,
    numbers=NUMBERS,
    date="date",
    tables={name: Table(feed=FEED[name], kept=KEPT[name], order=ORDER[name], unique=UNIQUE[name]) for name in KEPT},
    rows="flights",
    land_command="python models/flights/landing.py --month {interval}",
    typed=Deferred("models.flights.reading.feed:typed"),
    broken_rules=Deferred("models.flights.rules:broken_rules"),
    tail=Deferred("models.flights.tail:tail"),
    labels=Deferred("models.flights.labels:labels"),
    views={
        "flights": View("flights", "interval"),
        "lookback": View("flights", "before"),
        "weather": View("weather", "all"),
    },
    features_sql=Deferred("models.flights.features_sql:features_sql"),
    duckdb_macros=DUCKDB_MACROS,
    golden_set=Golden(strata=STRATA, represented=REPRESENTED),
    asked=ASKED,
    planned=SCHEDULE_FEATURES,
    outage=Group("weather", WEATHER),
    shown_categories=drift.SHOWN_CATEGORIES,
    shown_numbers=drift.SHOWN_NUMBERS,
    shown=("carrier", "flight", "origin", "dest", "destination", "date", "scheduled_at", "scheduled_time"),
    words=words.WORDS,
    online=Online(
        description=words.DESCRIPTION,
        many="flights",
        answer="probability_late",
        answer_description="P(arrival 15 minutes late or more)",
        request=lambda: FlightRequest,
        examples=(EXAMPLE, OTHER_EXAMPLE),
        as_asked=Deferred("models.flights.request:as_asked"),
        form=words.FORM,
        state=Deferred("models.flights.asof:State"),
        state_tables=Deferred("models.flights.state:state_tables"),
        read_state=Deferred("models.flights.state:read_state"),
    ),
    example=Example(
        first_model="2013-03",
        last="2013-12",
        source=Deferred("models.flights.landing:source"),
        read=Deferred("models.flights.landing:read_tables"),
        land=Deferred("models.flights.landing:land"),
        ask_later=Deferred("models.flights.request:ask_later"),
    ),
    own_words=words.OWN_WORDS,
)
