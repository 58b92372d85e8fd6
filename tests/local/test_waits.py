"""No wait is silent or without an end."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest

from local import paths, progress


def test_a_wait_says_what_it_waits_for_and_ends(monkeypatch, capsys):
    clock = itertools.count(0, 5)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(progress.time, "sleep", lambda _: None)
    rounds = list(progress.waiting(lambda: "MLflow", 60, 0.3))
    assert 5 < len(rounds) < 15
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3 and all(
        line.startswith("  waiting for MLflow: ") and line.endswith(" s of at most 60") for line in said
    )


def test_whoever_has_what_it_waits_for_hears_nothing(capsys):
    for _ in progress.waiting(lambda: "MLflow", 60, 0.01):
        break
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("file", sorted(path.name for path in (paths.ROOT / "local").glob("*.py")))
def test_nobody_sleeps_in_a_loop_without_an_end(file):
    """`while` with a sleep is a wait: those have limits and words by progress.waiting."""
    tree = ast.parse(Path(paths.ROOT, "local", file).read_text(encoding="utf-8"))
    loops = [loop for loop in ast.walk(tree) if isinstance(loop, ast.While)]
    sleeping = [
        loop.lineno
        for loop in loops
        if any("sleep" in ast.unparse(node) for node in ast.walk(loop) if isinstance(node, ast.Call))
    ]
    assert sleeping == ([] if file != "progress.py" else sleeping)
