"""One line per thing that is waited for: redrawn with its seconds on a terminal, printed once when done elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text


SAY_SECONDS = 15
"""How often a wait says what it waits for."""


def waiting(what: Callable[[], str], seconds: float, pause: float, *, said: bool = True) -> Iterator[None]:
    """Go round every ``pause`` seconds until ``seconds`` have passed; whoever waits leaves when it has come.

    Args:
        what: what is waited for, in words, asked each time that it is said.
        seconds: the limit; past it the loop ends, and what follows says what did not come.
        pause: seconds between two looks.
        said: print every SAY_SECONDS what is waited for; not where a line on the terminal shows it.
    """
    begun = last = time.monotonic()
    while (now := time.monotonic()) - begun < seconds:
        yield
        if said and now - last >= SAY_SECONDS:
            print(f"  waiting for {what()}: {now - begun:.0f} s of at most {seconds:.0f}", flush=True)
            last = now
        time.sleep(pause)


class Lines:
    """A context in which each name of `titles` is waited for; call done() as each gets there."""

    def __init__(self, titles: dict[str, str]) -> None:
        self._titles = titles
        self._started = time.monotonic()
        self._done: dict[str, str] = {}
        self._live: Live | None = None
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

    @property
    def live(self) -> bool:
        """Whether a terminal shows the lines and their seconds."""
        return self._live is not None

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
