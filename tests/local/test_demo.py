"""`airloop demo` before it starts anything: what cannot be played is refused in a sentence, and what runs goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from local import demo, demo_report, stack
from tasks.landing import landed


@pytest.fixture(autouse=True)
def environ() -> Iterator[None]:
    """What the demo sets in its process goes with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("through", ["nonsense", "2013-02", "2014-01", "2013-4"])
def test_an_interval_that_the_example_cannot_show_is_refused(
    through: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
) -> None:
    monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(demo, "take_on", dict)
    monkeypatch.setattr(stack, "down", lambda: pytest.fail("the demo that runs was stopped"))
    assert demo.demo(through, containers=False, without=()) == 1
    said = capsys.readouterr().out
    assert f"--through {through} is no interval from 2013-03 to 2013-12" in said
    assert "airloop demo" in said


def test_what_airflow_says_of_a_failure_is_printed_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        raise demo.LocalError("its log ends with: [/opt/tasks] no such [bold]column[/]")

    monkeypatch.setattr(demo, "take_on", dict)
    monkeypatch.setattr(stack, "down", refused)
    assert demo.demo(None, containers=False, without=()) == 1
    assert "[/opt/tasks] no such [bold]column[/]" in capsys.readouterr().out


def test_a_row_put_aside_for_two_reasons_is_one_row() -> None:
    counts = {
        "flights": {"landed": 10, "kept": 9, "quarantined": 1},
        "weather": {"landed": 5, "kept": 5, "quarantined": 0},
        "reasons": {"dest is not where it came from": 1, "distance in (0, 6000]": 1},
    }
    assert demo_report.quarantined(landed.Landed.model_construct(counts=counts)) == 1


def test_half_a_year_of_months_is_played_where_nobody_says_through_which() -> None:
    assert demo._usual() == "2013-06"
