"""What counts as the same output of two engines."""

from __future__ import annotations

import pyarrow as pa

from bench.features import digest

FIELDS = [pa.field("key", pa.int64()), pa.field("rate", pa.float64())]


def made(values, *, nullable=True, kind=None):
    schema = pa.schema([FIELDS[0].with_nullable(nullable), FIELDS[1].with_type(kind or pa.float64())])
    return pa.table({"key": [1, 2], "rate": pa.array(values, kind or pa.float64())}, schema=schema)


def test_only_how_a_writer_marks_columns_is_overlooked():
    reference = digest(made([0.1, None]))
    assert digest(made([0.1, None], nullable=False)) == reference
    assert digest(made([0.1 + 2**-56, None])) != reference, "the last bit counts"
    assert digest(made([None, 0.1])) != reference
    assert digest(made([0.1, None], kind=pa.float32())) != reference
    assert digest(made([0.1, None]).rename_columns(["key", "share"])) != reference
