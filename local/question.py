"""A question to the person at the terminal, before something is deleted."""

from __future__ import annotations

import sys
from collections.abc import Callable

from local.errors import LocalError


def confirmed(listing: list[str], again: str, ask: Callable[[str], str] = input) -> bool:
    """Whether the person at the terminal says yes to what is listed; LocalError where there is none."""
    if not sys.stdin.isatty():
        raise LocalError(
            f"Nothing was deleted: there is no terminal to ask at. `{again} --yes` deletes without a question."
        )
    print("\n".join(listing))
    return ask("Delete all of this? Type yes: ").strip().lower() == "yes"
