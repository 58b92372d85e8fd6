"""Every file of this repository that a document names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.airflow_home import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMED = re.compile(r"\b(?:bench|dags|docker|kubernetes|local|models|plugins|serving|tasks|tests)/[\w./-]*\w\.(?:csv|json|md|py|toml|txt|yaml)\b")
EXAMPLES = {"tasks/weigh.py", "tests/tasks/test_weigh.py"}
"""CONTRIBUTING.md adds these as an example."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    if document.name == "CHANGELOG.md":
        text = text.split("\n## ")[1]  # older versions had other files
    lost = [name for name in dict.fromkeys(NAMED.findall(text)) if name not in EXAMPLES and not (ROOT / name).exists()]
    assert not lost
