"""golden: freezes the keys and labels of the rows that every model must pass, and says their digest.

Features are not frozen: a better feature may change what a model sees, never what it is asked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow as pa

from tasks import spec
from tasks.core.errors import run_main
from tasks.modelling.golden_rows import choose, columns, counts, digest, frozen
from tasks.modelling.tables import held_out, labelled, read_features
from tasks.settings import params
from tasks.settings.data_params import GoldenParams
from tasks.settings.value_types import DayRule
from tasks.storage.artefacts import to_json, write_atomic
from tasks.storage.files import parquet_bytes


def freeze(features: pa.Table, settings: GoldenParams, holdout: DayRule) -> pa.Table:
    """The golden rows of the golden intervals' ``features``, with what chose them, sorted by the key."""
    model = spec.current()
    eligible = labelled(held_out(features, holdout), model.label).select(columns(model))
    chosen = choose(eligible.to_pylist(), settings.rows, settings.min_rows_per_value, model)
    return eligible.take(pa.array(chosen, pa.int64())).sort_by([(column, "ascending") for column in model.key])


def write(golden: pa.Table, folder: Path = Path("golden")) -> str:
    """Write golden.parquet, of keys and labels, and golden.json into ``folder``; returns the digest.

    The pin is not copied into the file: pinning must not change what evaluate depends on.
    """
    rows, model = golden.to_pylist(), spec.current()
    found = digest(rows, model)
    write_atomic(folder / "golden.parquet", parquet_bytes(golden.select(frozen(model))))
    summary = {"digest": found, "rows": len(rows), "by": counts(rows, model)}
    write_atomic(folder / "golden.json", to_json(summary))
    return found


def main() -> None:
    """Freeze the golden set of params.golden.intervals."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    settings = params.load()
    chosen = settings.golden.intervals
    through = max(*settings.intervals, *chosen)
    features = read_features(chosen, list(dict.fromkeys(("day", *columns(spec.current())))), labels_through=through)
    golden = freeze(features, settings.golden, settings.holdout)
    found = write(golden)
    pinned = "as pinned" if found == settings.golden.digest else f"NOT the pinned {settings.golden.digest}"
    print(f"golden: {golden.num_rows} of {features.num_rows} rows, digest {found} ({pinned})")


if __name__ == "__main__":
    run_main(main)
