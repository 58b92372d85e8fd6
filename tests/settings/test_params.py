"""Settings: every wrong one is named with its file and value, none is guessed."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from tasks.core.errors import ConfigError
from tasks.settings import params, settings_files

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def raw() -> dict[str, Any]:
    return settings_files.read(REPOSITORY, "flights") | settings_files.rendered(REPOSITORY, "flights")


def test_the_committed_files_are_valid(raw: dict[str, Any]) -> None:
    assert params.parse(raw).holdout.every == 4


def test_each_section_that_is_typed_has_a_file() -> None:
    """settings_files names sections without loading their types."""
    typed = {field.alias or name for name, field in params.Params.model_fields.items()}
    placed = [*settings_files.SHARED_SECTIONS, *settings_files.MODEL_SECTIONS, *settings_files.RUN_SECTIONS]
    assert typed == set(placed) and len(placed) == len(typed)


def test_all_errors_at_once(raw: dict[str, Any]) -> None:
    raw["gate"]["floors"]["auc"] = 1.5
    raw["train"]["devise"] = "cuda"
    raw["pods"]["errors"] = -1
    del raw["monitor"]["max_ece"]
    with pytest.raises(ConfigError) as caught:
        params.parse(raw)
    text = str(caught.value)
    assert "4 setting(s)" in text
    assert all(
        part in text
        for part in ("models/flights/params.yaml: gate.floors.auc", "1.5", "train.devise", "cuda", "monitor.max_ece")
    )
    assert "\n  params.yaml: pods.errors" in text


def test_one_day_is_no_comparison(raw: dict[str, Any]) -> None:
    """A bootstrap of one day knows no noise: it would divide by nought."""
    raw["gate"]["promotion"]["min_days"] = 1
    with pytest.raises(ConfigError, match=r"gate\.promotion\.min_days: .* greater than or equal to 2"):
        params.parse(raw)


FILES = sorted({*(REPOSITORY / "tasks/settings").glob("*_params.py"), REPOSITORY / "tasks/settings/value_types.py"})


def test_every_record_of_the_settings_is_in_a_file_that_is_looked_at() -> None:
    """The next test reads lines: here pydantic says where each record below Params is."""
    todo: list[Any] = [params.Params]
    found: set[type[BaseModel]] = set()
    while todo:
        kind = todo.pop()
        todo += get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
            found.add(kind)
            todo += [field.annotation for field in kind.model_fields.values()]
    places = {Path(inspect.getfile(kind)) for kind in found - {params.Params}}
    assert places == set(FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_knob_has_a_sentence(file: Path) -> None:
    """House rule: who adds a setting says, below it, what it means."""
    lines = file.read_text().splitlines()
    undocumented = []
    inside = False
    for number, line in enumerate(lines):
        if line.startswith("class "):
            inside = "(Frozen)" in line
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
