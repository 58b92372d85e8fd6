"""The golden set: exactly as many rows as asked, in proportion, every carrier in it, the same whoever makes it."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.flights import golden as strata
from models.flights.model import MODEL
from tasks import spec
from tasks.core.errors import ConfigError, DataError
from tasks.golden import freeze, write
from tasks.modelling import golden_rows as rule
from tasks.modelling.tables import held_out, labelled
from tasks.settings.data_params import GoldenParams
from tasks.settings.value_types import DayRule
from tasks.spec import Golden
from tests import makers

RULE = DayRule(every=4, remainder=2)


def params(rows: int = 600, least: int = 10) -> GoldenParams:
    return GoldenParams(intervals=makers.WARMUP, rows=rows, min_rows_per_value=least, digest=None)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pa.concat_tables([makers.features(interval) for interval in makers.WARMUP])


def test_takes_exactly_the_rows_asked_for_from_held_out_labelled_days(table: pa.Table) -> None:
    found = freeze(table, params(), RULE)
    joined = found.join(table.rename_columns({"late": "late_now"}), list(MODEL.key), join_type="inner")
    assert found.num_rows == joined.num_rows == 600
    assert set(np.asarray(joined["day"]) % 4) == {2}
    assert joined["late"].equals(joined["late_now"])
    assert found["late"].null_count == 0


def test_keeps_the_proportions_of_origin_and_label(table: pa.Table) -> None:
    eligible = held_out(labelled(table, "late"), RULE)
    share = collections.Counter(zip(*(eligible[c].to_pylist() for c in strata.STRATA), strict=True))
    found = collections.Counter(
        zip(*(freeze(table, params(), RULE)[c].to_pylist() for c in strata.STRATA), strict=True)
    )
    for stratum, n in share.items():
        assert abs(found[stratum] - 600 * n / eligible.num_rows) < 1.5, stratum


def test_every_carrier_has_its_rows_where_there_are_as_many(table: pa.Table) -> None:
    rows = [
        row | {"carrier": "HA" if row["flight"] == 7 and row["day"] < 24 else row["carrier"]}
        for row in table.to_pylist()
    ]
    table = pa.Table.from_pylist(rows, table.schema)
    there = sum(r["carrier"] == "HA" and r["day"] % 4 == 2 and r["late"] is not None for r in rows)
    assert 4 <= there <= 6
    for least, wanted in ((0, range(3)), (3, range(3, 5)), (10, range(there, there + 1))):
        found = freeze(table, params(rows=100, least=least), RULE)["carrier"].to_pylist()
        assert len(found) == 100
        assert found.count("HA") in wanted


def test_the_order_of_the_file_changes_nothing(table: pa.Table) -> None:
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    assert freeze(shuffled, params(), RULE).equals(freeze(table, params(), RULE))


def test_writes_equal_bytes_and_a_digest_of_the_content(table: pa.Table, tmp_path) -> None:
    found = freeze(table, params(), RULE)
    digests = {write(found, tmp_path / name) for name in "ab"}
    lines = sorted("|".join(map(str, row.values())) + "\n" for row in found.to_pylist())
    assert digests == {hashlib.sha256("".join(lines).encode()).hexdigest()}
    for name in ("golden.parquet", "golden.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_it_may_be_drawn_by_features_which_are_not_frozen(
    table: pa.Table, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_dest = dataclasses.replace(MODEL, golden_set=Golden(strata=("dest", "late"), represented="dest"))
    monkeypatch.setattr(spec, "current", lambda: by_dest)
    write(freeze(table, params(), RULE), tmp_path)
    assert pq.read_schema(tmp_path / "golden.parquet").names == [*MODEL.key, MODEL.label]
    assert set(json.loads((tmp_path / "golden.json").read_bytes())["by"]["dest"]) == set(table["dest"].to_pylist())


def test_another_label_is_another_digest(table: pa.Table) -> None:
    rows = freeze(table, params(), RULE).to_pylist()
    assert rule.digest(rows, MODEL) != rule.digest([rows[0] | {"late": 1 - rows[0]["late"]}, *rows[1:]], MODEL)


def test_too_few_rows_or_too_many_carriers_are_errors(table: pa.Table) -> None:
    with pytest.raises(DataError, match=r"eligible rows, fewer than golden\.rows=5000"):
        freeze(table, params(rows=5000), RULE)
    with pytest.raises(ConfigError, match=r"golden\.rows=20"):
        freeze(table, params(rows=20, least=10), RULE)


@given(st.dictionaries(st.tuples(st.text(max_size=3)), st.integers(0, 1000), min_size=1), st.data())
def test_apportionment_adds_up_and_never_exceeds_what_is_there(sizes, data) -> None:
    seats = data.draw(st.integers(0, sum(sizes.values())))
    given_ = rule.apportion(sizes, seats)
    assert sum(given_.values()) == seats
    assert all(0 <= given_[s] <= n for s, n in sizes.items())
