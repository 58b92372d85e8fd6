"""labels: the outcomes that became known with one interval, a row each; of rows of that interval, or of earlier ones."""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import spec
from tasks.core.errors import DataError, run_main
from tasks.settings import params
from tasks.spec import Settings
from tasks.storage.files import parquet_bytes, write_file


def labels(interval: str, settings: Settings, root: Path = Path("data")) -> pa.Table:
    """Ask the model for the outcomes in an interval's kept tables.

    Args:
        interval: its key.
        settings: the model's section ``features``.
        root: folder of ``kept/``.

    Returns:
        The key's columns and the label, sorted by the key.

    Raises:
        DataError: what the model's hook gives is no such table.
    """
    model = spec.current()
    kept = {name: pq.read_table(root / f"kept/{interval}/{name}.parquet") for name in model.tables}
    found = model.labels(kept, settings)
    if problem := _problem(found):
        raise DataError(f"{interval}: models/{model.name}/labels.py gives {problem}; correct it there.")
    return found.sort_by([(name, "ascending") for name in model.key]).combine_chunks()


def _problem(found: pa.Table) -> str:
    """What is wrong with a table of labels; "" for nothing."""
    model = spec.current()
    wanted = [*model.key, model.label]
    if found.column_names != wanted:
        return f"the columns {', '.join(found.column_names)} and not {', '.join(wanted)}"
    if found.schema.field(model.label).type != pa.int8():
        return f"{model.label} as {found.schema.field(model.label).type} and not as int8"
    if unknown := found[model.label].null_count:
        return f"{unknown} rows without an outcome, which are to be left out"
    if strange := pc.sum(pc.invert(pc.is_in(found[model.label], pa.array([0, 1], pa.int8())))).as_py():
        return f"{strange} outcomes that are neither 0 nor 1"
    twice = found.num_rows - found.group_by(list(model.key)).aggregate([]).num_rows
    return f"{twice} rows with the key of another" if twice else ""


def main() -> None:
    """Write data/labels/<interval>.parquet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", required=True, help="its key, such as 2013-04")
    interval = parser.parse_args().interval
    spec.current().cadence.check(interval)
    found = labels(interval, params.load().features)
    write_file(Path(f"data/labels/{interval}.parquet"), parquet_bytes(found))
    print(f"{interval}: {found.num_rows:,} outcomes")


if __name__ == "__main__":
    run_main(main)
