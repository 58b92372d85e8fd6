"""One line per thing that is waited for: redrawn with its seconds on a terminal, printed once when done elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.text import Text


class Lines:
    """A context in which each name of `titles` is waited for; call done() as each gets there."""

    def __init__(self, titles: dict[str, str]) -> None:
        self._titles = titles
        self._started = time.monotonic()
        self._done: dict[str, str] = {}
        self._live = None
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(get_renderable=self._table, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def done(self, name: str, note: str) -> None:
        """Marks one as well, with a note such as its address."""
        self._done[name] = f"{time.monotonic() - self._started:5.1f} s  {note}".rstrip()
        if not self._live:
            print(f"  {self._titles[name]:<26}{self._done[name]}", flush=True)

    def _table(self) -> Text:
        from rich.text import Text

        passed = time.monotonic() - self._started
        rows = [
            f"  {title:<26}" + self._done.get(name, f"{passed:5.1f} s  starting…")
            for name, title in self._titles.items()
        ]
        return Text("\n".join(rows))
