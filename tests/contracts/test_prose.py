"""The field's words: code and documents do without the words that were only ever this project's.

docs/glossary.md has the terms. A word that is another library's name (Optuna's `tell`) is code, not prose, and is let through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRIVATE = {
    r"told|tells?|telling": "say, report, send, ask, set: whichever is meant",
    r"anew": "again",
    r"of ours": "our, or whose it is",
    r"hears?|heard": "receive, notice, get",
    r"bury|buried": "delete, end",
    r"stood": "was",
}
"""A word, as a pattern, to what to write for it."""
ALLOWED = re.compile(r"study\.tell\(")
FOLDERS = ("bench", "dags", "docker", "docs", "kubernetes", "local", "models", "plugins", "serving", "tasks")
SUFFIXES = {".md", ".py", ".yaml", ".yml", ".sh", ".html"}


def texts() -> Iterator[Path]:
    """Files whose prose people read."""
    for folder in FOLDERS:
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES)
    yield from sorted(ROOT.glob("*.md"))
    yield from sorted(ROOT.glob("*.yaml"))


def private(text: str) -> list[str]:
    """Each private word of ``text``, with its line and what to write for it."""
    found = []
    for number, line in enumerate(ALLOWED.sub("", text).splitlines(), start=1):
        for word, instead in PRIVATE.items():
            found += [f"{number}: {match}: write {instead}" for match in re.findall(rf"(?i)\b(?:{word})\b", line)]
    return found


@pytest.mark.parametrize("path", list(texts()), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_prose_uses_the_fields_words(path: Path) -> None:
    assert not private(path.read_text(encoding="utf-8"))


def test_a_planted_word_is_found() -> None:
    assert private("It is made anew.\nMLflow is Told.\nstudy.tell(trial)") == [
        "1: anew: write again",
        "2: Told: write say, report, send, ask, set: whichever is meant",
    ]
