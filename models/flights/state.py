"""What the online service needs of a month: two small tables, published with each landing."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from models.flights.definitions import WEATHER
from tasks.core.errors import DataError
from tasks.storage.artefacts import Store
from tasks.storage.state_file import StateFile

FLIGHTS = (
    "date", "scheduled_at", "carrier", "flight", "origin", "dest", "hour", "minute", "block_minutes", "distance",
    "departed_at", "arrived_at", "dep_delay", "arr_delay",
)  # fmt: skip
"""Columns of the state's flights, types and units as in kept flights."""

OBSERVATIONS = ("origin", "observed_at", *WEATHER)
"""Columns of the state's weather."""

_COLUMNS = {"flights": FLIGHTS, "weather": OBSERVATIONS}
_SORTED_BY = {"flights": ("date", "scheduled_at", "carrier", "flight", "origin"), "weather": ("origin", "observed_at")}


def state_tables(kept: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """The state of a month by table name, from its kept flights and weather; sorted, so that equal rows are equal bytes.

    DataError names a column that is absent.
    """
    found = {}
    for name, columns in _COLUMNS.items():
        table = kept[name]
        if absent := [column for column in columns if column not in table.column_names]:
            raise DataError(f"The kept {name} lack {', '.join(absent)}; run the validate stage of this month again.")
        found[name] = table.select(columns).sort_by([(column, "ascending") for column in _SORTED_BY[name]])
        # Notes that pandas or Spark left in the schema name their versions, and would change the digest.
        found[name] = found[name].replace_schema_metadata(None)
    return found


def read_state(store: Store, files: Mapping[str, StateFile]) -> dict[str, pa.Table]:
    """The tables of one month from the ``state`` of its landed record, each verified by digest before it is parsed.

    DataError when a file is absent, altered or lacks a column.
    """
    return {name: _read(store, files, name) for name in _COLUMNS}


def _read(store: Store, files: Mapping[str, StateFile], name: str) -> pa.Table:
    if name not in files:
        raise DataError(f"The landed record names no {name} file under `state`; run the ingest DAG of the month again.")
    uri = store.uri(files[name].name)
    try:
        data = store.read(files[name].name, files[name].sha256)
        return pq.read_table(pa.BufferReader(data), columns=list(_COLUMNS[name]))
    except FileNotFoundError:
        raise DataError(f"{uri} is missing; run the ingest DAG of the month again.") from None
    except pa.ArrowException as error:
        raise DataError(f"{uri} is not a state file: {error}; run the ingest DAG of the month again.") from None
