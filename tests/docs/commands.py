"""Every command that README.md, CONTRIBUTING.md, docs/ and the DAGs' own pages show, as a person would type it."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local.paths import ROOT

PROGRAMS = (
    "airflow", "airloop", "balance", "curl", "docker", "dvc", "grep", "helm", "hey", "kind", "kubectl", "make", "mlflow", "openssl", "pip", "pytest",
    "python", "python3", "sbatch", "spark-submit", "srun", "sudo", "torchrun", "uv", "uvicorn", "weed", ".venv/bin/uv",
)  # fmt: skip
"""What a command between backquotes begins with; in a block of shell lines every line is a command."""
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Written:
    """A command and where it stands."""

    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


def pages() -> dict[str, str]:
    """Markdown by the name of the file that holds it; a DAG's page as flights has it."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}
    dags = sorted((ROOT / "dags").glob("*.py"))
    docs = {f"dags/{dag.name}": ast.get_docstring(ast.parse(dag.read_text())) or "" for dag in dags}
    return texts | {name: text.replace("<model>", "flights") for name, text in docs.items()}


def written() -> list[Written]:
    """All of them, each once for a page."""
    return [Written(file, text) for file, page in pages().items() for text in dict.fromkeys(in_page(page))]


def in_page(page: str) -> Iterator[str]:
    """Commands of one page: lines of shell blocks, and what stands between backquotes and begins with a program."""
    for language, block in FENCE.findall(page):
        if language in {"sh", "bash", "shell", "console"}:
            yield from lines(block)
    for span in re.findall(r"`([^`]+)`", FENCE.sub("", page)):
        text = " ".join(span.split())
        words = [word for word in text.split() if not re.match(r"[A-Z][A-Z0-9_]*=", word)]
        if len(words) > 1 and words[0] in PROGRAMS:
            yield text


def lines(block: str) -> Iterator[str]:
    """Commands of a block of shell lines, without remarks."""
    for line in block.replace("\\\n", " ").splitlines():
        text = " ".join(re.sub(r"(^|\s)#( |$).*", "", line).split())
        if text:
            yield text


def split(text: str) -> list[list[str]]:
    """The words of each command of a line, between `&&`, `|`, `;` and `&`."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";|&")
    lexer.whitespace_split, lexer.commenters = True, ""
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";|&"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [words for words in commands if words]


def assignments(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Variables that stand before a command, and its words."""
    variables = {}
    while words and (found := re.fullmatch(r"([A-Za-z_]\w*)=(.*)", words[0], re.DOTALL)):
        variables[found[1]] = found[2]
        words = words[1:]
    return variables, words
