"""params.yaml: every wrong setting is named with its value, none is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.common import months, params
from tasks.common.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def raw() -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "params.yaml").read_text())


def test_the_committed_file_is_valid(raw: dict[str, Any]) -> None:
    assert params.parse(raw).holdout.every == 4


def test_all_errors_at_once(raw: dict[str, Any]) -> None:
    raw["gate"]["floors"]["auc"] = 1.5
    raw["train"]["devise"] = "cuda"
    del raw["monitor"]["max_ece"]
    with pytest.raises(ConfigError) as caught:
        params.parse(raw)
    text = str(caught.value)
    assert "3 setting(s)" in text
    assert all(part in text for part in ("gate.floors.auc", "1.5", "train.devise", "cuda", "monitor.max_ece"))


@pytest.mark.parametrize("month", ["2013-13", "2013-1", "13-01", "2013-04-01", ""])
def test_a_bad_month_is_refused(month: str) -> None:
    with pytest.raises(ConfigError, match="YYYY-MM"):
        months.parse(month)


def test_months_shift_and_span() -> None:
    assert (months.shift("2013-01", -1), months.shift("2013-12", 1)) == ("2012-12", "2014-01")
    assert months.span("2013-11", "2014-01") == ["2013-11", "2013-12", "2014-01"]
    assert months.window(["2013-02", "2013-01"]) == {
        "2013-01": {"previous": "2013-01"},
        "2013-02": {"previous": "2013-01"},
    }


def test_every_knob_has_a_sentence() -> None:
    """House rule: who adds a setting says, below it, what it means."""
    lines = (REPOSITORY / "tasks/common/params.py").read_text().splitlines()
    undocumented = []
    inside = False
    for number, line in enumerate(lines):
        if line.startswith("class "):
            inside = line.startswith("class ") and "(Frozen)" in line and not line.startswith("class Params(")
        elif line.startswith("def "):
            inside = False
        is_field = (
            inside and line.startswith("    ") and not line.startswith("     ") and ": " in line and "def " not in line
        )
        if is_field and not line.strip().startswith(('"""', "#", "@", "model_config")) and ': """' not in line:
            following = lines[number + 1].strip() if number + 1 < len(lines) else ""
            if not following.startswith('"""') and line.split(":")[0].strip().isidentifier():
                undocumented.append(line.strip())
    allowed = {"floors: Floors", "slices: dict[str, SliceFloor]", "promotion: PromotionParams"}
    assert set(undocumented) <= allowed, f"say in a sentence what these mean: {undocumented}"
