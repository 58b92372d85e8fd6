"""The table that `make test-cluster` ends with: fault, expected, seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from textwrap import wrap

WIDTHS = (34, 44, 60)


@dataclass
class Row:
    """One line."""

    fault: str
    expected: str
    seen: list[str] = field(default_factory=list)
    passed: bool = False

    def saw(self, words: str) -> None:
        """Add to what was seen."""
        self.seen.append(words)


ROWS: list[Row] = []


@contextmanager
def fault(what: str, expected: str) -> Iterator[Row]:
    """A line of the table for what the block tries; the error that ends it is what was seen."""
    row = Row(what, expected)
    ROWS.append(row)
    try:
        yield row
        row.passed = True
    except BaseException as error:
        row.saw(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
        raise


def text() -> str:
    """All lines."""
    lines = [_line(("fault", "expected", "seen"), ""), _line(tuple("-" * width for width in WIDTHS), "")]
    lines += [
        _line((row.fault, row.expected, "; ".join(row.seen)), "as expected" if row.passed else "NOT SO") for row in ROWS
    ]
    return "\n".join(lines)


def _line(cells: tuple[str, ...], verdict: str) -> str:
    parts = [wrap(cell, width) or [""] for cell, width in zip(cells, WIDTHS, strict=True)]
    height = max(len(part) for part in parts)
    rows = [[part[i] if i < len(part) else "" for part in parts] for i in range(height)]
    said = ["  ".join(cell.ljust(width) for cell, width in zip(row, WIDTHS, strict=True)).rstrip() for row in rows]
    return "\n".join([f"{said[0]:<{sum(WIDTHS) + 6}}{verdict}".rstrip(), *said[1:]])
