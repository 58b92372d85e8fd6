"""The checkout's `.env`, read as docker compose reads it, so that one file means the same to both."""

from __future__ import annotations

import os
import re
from pathlib import Path

from local.errors import LocalError

VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<how>:?-)(?P<default>[^{}$]*))?\}|(?P<other>.?))"
)


def read(file: Path) -> dict[str, str]:
    """What the file says; no file says nothing.

    Quotes and remarks by python-dotenv, whose rules are compose's; `$NAME` and `${NAME:-default}` outside of single quotes by
    ours, for python-dotenv knows only the second and reads it in single quotes too.

    Raises:
        LocalError: a line is no NAME=value, or a value has another `$`.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError:
        return {}
    from io import StringIO

    from dotenv.parser import parse_stream  # takes its time, and most checkouts have no such file

    found: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            raise LocalError(
                f"Line {binding.original.line} of {file} is not NAME=value: {binding.original.string.strip()}"
            )
        if binding.key is None or binding.value is None:
            continue
        quoted = binding.original.string.partition("=")[2].lstrip().startswith("'")
        found[binding.key] = binding.value if quoted else _filled(binding.key, binding.value, found, file)
    return found


def _filled(name: str, value: str, found: dict[str, str], file: Path) -> str:
    """The value with its variables filled in: by the lines before, else by the shell."""

    def fill(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        if match["other"] is not None:
            raise LocalError(f"{name} in {file} has a `$` that is no variable: write the value in single quotes.")
        variable = match["plain"] or match["name"]
        value = found.get(variable, os.environ.get(variable))
        missing = value is None or (match["how"] == ":-" and not value)
        return str(match["default"] or "") if missing else str(value)

    return VARIABLE.sub(fill, value)
