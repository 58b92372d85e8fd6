"""The documentation as a site: every page has its place in it, and no link leads nowhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the site is made of."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    return tmp_path


def build(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )


def pages(nav: Any) -> list[str]:
    """The pages that a part of the navigation names."""
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in pages(part)]


def test_it_is_built_without_a_complaint(checkout: Path) -> None:
    done = build(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ledger" in (checkout / "build/site/architecture/index.html").read_text()


def test_a_link_that_leads_nowhere_is_refused(checkout: Path) -> None:
    page = checkout / "docs/index.md"
    page.write_text(page.read_text() + "\n[a page](nowhere.md)\n")
    assert build(checkout).returncode != 0


def test_every_page_is_in_the_navigation() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    there = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages(nav) if "/" not in page} == there
