"""The label file of an interval: what its kept rows say of outcomes, and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from models.flights.definitions import KEY
from models.flights.labels import labels as late
from models.flights.model import MODEL
from models.flights.schema import KEPT
from tasks import labels, spec
from tasks.core.errors import DataError
from tasks.settings import params
from tasks.settings.environment import CODE
from tasks.storage.files import parquet_bytes
from tests.tasks.conftest import INTERVAL, Place

SETTINGS = params.of_model(CODE, MODEL.name).features
DELAYS = [14, None, 15, -3]


def kept(delays: list[int | None] = DELAYS) -> pa.Table:
    """Flights with these delays, in the reverse of the key's order."""
    n = len(delays)
    own = {
        "carrier": ["UA"] * n,
        "flight": list(range(n, 0, -1)),
        "origin": ["EWR"] * n,
        "dest": ["ORD"] * n,
        "arr_delay": delays,
    }
    numbers = {"date": 15_706, **dict.fromkeys(KEPT["flights"].names, 0)}
    columns = {
        name: pa.array(
            own.get(name, [numbers[name]] * n), pa.int32() if name == "date" else KEPT["flights"].field(name).type
        )
        for name in KEPT["flights"].names
    }
    columns["date"] = pa.array([15_706] * n, pa.int32()).cast(pa.date32())
    return pa.table(columns, schema=KEPT["flights"])


def put(place: Place, flights: pa.Table) -> None:
    tables = {"flights": flights, "weather": KEPT["weather"].empty_table()}
    for name, table in tables.items():
        path = place.workspace / f"data/kept/{INTERVAL}/{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parquet_bytes(table))


def test_a_flight_is_late_from_the_minutes_of_the_settings_on_and_one_that_never_arrived_has_no_line(
    place: Place,
) -> None:
    put(place, kept())
    place.run(labels)
    made = pq.read_table(f"data/labels/{INTERVAL}.parquet")
    assert made.column_names == [*KEY, "late"] and made.schema.field("late").type == pa.int8()
    assert dict(zip(made["flight"].to_pylist(), made["late"].to_pylist(), strict=True)) == {4: 0, 2: 1, 1: 0}
    assert made["flight"].to_pylist() == [1, 2, 4], "sorted by the key"


def test_equal_rows_give_equal_bytes(place: Place) -> None:
    path = Path(f"data/labels/{INTERVAL}.parquet")
    put(place, kept())
    place.run(labels)
    first = path.read_bytes()
    path.unlink()
    place.run(labels)
    assert path.read_bytes() == first


def test_an_interval_without_an_outcome_has_an_empty_file(place: Place) -> None:
    put(place, kept([None]))
    place.run(labels)
    assert pq.read_metadata(f"data/labels/{INTERVAL}.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.drop_columns(["origin"]),
            "the columns .* and not date, scheduled_at, carrier, flight, origin, late",
        ),
        (lambda t: t.set_column(5, "late", t["late"].cast(pa.int64())), "late as int64 and not as int8"),
        (lambda t: t.set_column(5, "late", pa.array([None, 1, 0], pa.int8())), "1 rows without an outcome"),
        (lambda t: t.set_column(5, "late", pa.array([2, 1, 0], pa.int8())), "1 outcomes that are neither 0 nor 1"),
        (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "1 rows with the key of another"),
    ],
)
def test_what_is_no_table_of_labels_is_refused_by_name(
    place: Place, monkeypatch: pytest.MonkeyPatch, change, said: str
) -> None:
    put(place, kept())
    other = dataclasses.replace(MODEL, labels=lambda tables, settings: change(late(tables, settings)))
    monkeypatch.setattr(spec, "current", lambda: other)
    with pytest.raises(DataError, match=rf"{INTERVAL}: models/flights/labels.py gives {said}"):
        labels.labels(INTERVAL, SETTINGS)
    assert pc.sum(late({"flights": kept()}, SETTINGS)["late"]).as_py() == 1
