"""docs/adr: every decision has a number of its own, a status, a date and a line in the index; every reference finds one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.airflow_home import ROOT

FOLDER = ROOT / "docs/adr"
ADRS = sorted(FOLDER.glob("[0-9]*.md"))
HEAD = re.compile(r"# (\d+)\. (.+)\n\n\*\*Status\.\*\* (Accepted|Proposed|Superseded), (\d{4}-\d\d-\d\d)\.")
REFERENCE = re.compile(r"\bADRs? (\d+)\b|\badr/(\d{4})(-[\w-]+\.md)?")


def index_line(adr: Path) -> str:
    """The line that docs/adr/README.md should have."""
    found = HEAD.match(adr.read_text())
    assert found, (
        f'{adr.name}: begin with "# <number>. <title>", a blank line and "**Status.** Accepted, <year>-<month>-<day>."'
    )
    number, title, status, date = found.groups()
    assert adr.name.startswith(f"{int(number):04}-"), f"{adr.name} says that it is number {number}"
    return f"| {number} | [{title}]({adr.name}) | {status.lower()} | {date} |"


@pytest.mark.parametrize("adr", ADRS, ids=lambda adr: adr.stem)
def test_it_has_a_number_a_status_a_date_and_a_line_in_the_index(adr: Path) -> None:
    lines = (FOLDER / "README.md").read_text().splitlines()
    assert index_line(adr) in lines, f"add this line to docs/adr/README.md:\n{index_line(adr)}"


def test_numbers_are_unique_and_the_index_has_no_more() -> None:
    numbers = [adr.name[:4] for adr in ADRS]
    assert len(set(numbers)) == len(numbers)
    listed = re.findall(r"^\| (\d+) \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert [int(number) for number in listed] == [int(number) for number in numbers], "by number, and nothing else"


def references() -> list[tuple[str, str, str]]:
    """(file, number, rest of the file's name or empty) of every ADR that a tracked text names."""
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    texts = [name for name in files if not name.endswith((".png", ".gz", ".parquet")) and (ROOT / name).is_file()]
    found = [(name, match) for name in texts for match in REFERENCE.finditer((ROOT / name).read_text(errors="replace"))]
    return [(name, match[1] or match[2], match[3] or "") for name, match in found]


def test_every_reference_finds_its_decision() -> None:
    found = references()
    assert len(found) > 10
    names = {int(adr.name[:4]): adr.name for adr in ADRS}
    lost = [
        f"{file}: {number}{rest}"
        for file, number, rest in found
        if int(number) not in names or (rest and names[int(number)] != f"{number}{rest}")
    ]
    assert lost == []


def test_a_decision_is_named_by_its_number() -> None:
    """`docs/adr` alone sends a reader through all of them."""
    code = [
        path
        for folder in ("dags", "local", "models", "plugins", "serving", "tasks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    vague = [path.name for path in code if re.search(r"docs/adr(?!/\d{4})", path.read_text())]
    assert vague == []
