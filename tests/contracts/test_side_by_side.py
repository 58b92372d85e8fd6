"""How `make test` shares its files among workers."""

from __future__ import annotations

import re

from tests.airflow_home import ROOT
from tests.side_by_side import STACKS


def test_every_stack_is_among_those_that_follow_one_another() -> None:
    e2e = re.compile(r"^(@|pytestmark = ).*pytest\.mark\.e2e|^    pytest\.mark\.e2e,", re.MULTILINE)
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if e2e.search(path.read_text())]
    names = [path.relative_to(ROOT).as_posix() for path in files]
    assert "tests/e2e/test_loop.py" in names
    apart = [name for name in names if not name.startswith(STACKS)]
    assert not apart, f"{', '.join(apart)} starts a stack: add it to STACKS in tests/side_by_side.py"
