"""The result document, and the exit code that goes with it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tasks.core import results
from tasks.core.errors import AirloopError, ConfigError, DataError, Skip, Unavailable, run_main
from tasks.core.results import EXIT_CODES, RESULT_VARIABLE, Interval, Result, Status, merge

DONE, SKIPPED = Interval(Status.DONE), Interval(Status.SKIPPED, "nothing to do")
WAITING, REFUSED = Interval(Status.WAITING, "away"), Interval(Status.REFUSED, "bad rows")


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "result.json"
    monkeypatch.setenv(RESULT_VARIABLE, str(path))
    return path


@pytest.mark.parametrize("status", list(Status))
def test_what_is_written_is_read_again(document: Path, status: Status) -> None:
    made = Result(status, "a reason", {"interval": "2013-04", "n": 3}, {"2013-04": REFUSED, "2013-05": DONE})
    results.write(made)
    assert results.read(document) == made
    assert os.listdir(document.parent) == ["result.json"], "in one step"  # noqa: PTH208 - names are what is compared


def test_exit_codes_differ_and_none_is_a_crash_s_or_a_signal_s() -> None:
    assert len(set(EXIT_CODES.values())) == len(Status)
    assert all(code == 0 or 2 < code < 126 for code in EXIT_CODES.values()), (
        "1 and 2 are Python's, 126 and up the shell's"
    )


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("eta is negative"), Status.REFUSED),
        (DataError("31% of the rows are bad"), Status.REFUSED),
        (AirloopError("no"), Status.REFUSED),
        (Unavailable("the store is away"), Status.WAITING),
        (Skip("nothing to do"), Status.SKIPPED),
    ],
)
def test_what_a_command_raises_is_how_it_ends(document: Path, error: Exception, status: Status) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == EXIT_CODES[status]
    assert results.read(document) == Result(status, str(error))


def test_a_bug_writes_nothing_and_keeps_its_traceback(document: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: sys.exit(1 // 0))
    assert not document.exists()


def test_without_the_variable_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RESULT_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    results.emit({"interval": "2013-04"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"schema": 2}', '{"schema": 1, "status": "done"}',
     json.dumps({**Result().to_dict(), "status": "perhaps"}), json.dumps({**Result().to_dict(), "intervals": []}),
     json.dumps({**Result().to_dict(), "intervals": {"2013-04": "done"}})],
)  # fmt: skip
def test_what_is_not_whole_is_no_document(document: Path, text: str) -> None:
    document.write_text(text)
    assert results.read(document) is None


def test_no_document_is_none(document: Path) -> None:
    assert results.read(document) is None


@pytest.mark.parametrize(
    ("intervals", "status", "reason"),
    [
        ([DONE, REFUSED], Status.DONE, "1: bad rows"),
        ([DONE, SKIPPED], Status.DONE, ""),
        ([WAITING, REFUSED], Status.WAITING, "0: away\n1: bad rows"),  # a later try can do something
        ([REFUSED, SKIPPED], Status.REFUSED, "0: bad rows\n1: nothing to do"),
        ([SKIPPED], Status.SKIPPED, "nothing to do"),
        ([REFUSED], Status.REFUSED, "bad rows"),
    ],
)
def test_a_span_is_done_when_any_of_it_is(intervals: list[Interval], status: Status, reason: str) -> None:
    merged = merge({str(index): one for index, one in enumerate(intervals)}, {"n": 1})
    assert (merged.status, merged.reason, merged.payload) == (status, reason, {"n": 1})
    assert merged.done() == [str(index) for index, one in enumerate(intervals) if one is DONE]
