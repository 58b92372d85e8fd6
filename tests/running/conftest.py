"""A checkout with this pipeline's tasks/, stages of a line or two, and a store of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.core.results import RESULT_VARIABLE, Result, read
from tasks.core.urls import url_of
from tasks.storage.artefacts import Store

ROOT = Path(__file__).parents[2]
RUN = "ingest-2013-01-12345678"
META = {"window": "lookback", "engine": "python", "cpu": 1, "memory": "1Gi", "timeout_minutes": 5}
STAGES = {
    "each": {
        "foreach": "${intervals}",
        "do": {
            "cmd": "python tasks/each.py ${key}", "deps": ["tasks/each.py"], "outs": ["each/${key}.txt"], "meta": META,
        },
    },
    "all": {"cmd": "python tasks/all.py", "deps": ["tasks/all.py", "each/2013-01.txt"], "outs": ["all.txt"], "meta": META},
}  # fmt: skip
JOBS = {
    "one": {"cmd": "python tasks/one.py ${key}", "reads": ["each@${key}"], "meta": META},
    "direct": {"cmd": "python -m tasks.direct", "meta": {name: META[name] for name in META if name != "window"}},
}
PRELUDE = """\
import os, signal, sys, time
from pathlib import Path
from tasks.core.errors import ConfigError, DataError, Skip, Unavailable, run_main
from tasks.core.results import emit
"""


@dataclass
class Checkout:
    """The checkout, and how its commands end."""

    root: Path
    environ: dict[str, str]
    store: Store

    def write(self, name: str, script: str) -> None:
        """What the stage or job ``name`` does."""
        (self.root / f"tasks/{name}.py").write_text(PRELUDE + textwrap.dedent(script))

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start ``python -m tasks.running ARGUMENTS`` for the run."""
        argv = [sys.executable, "-m", "tasks.running", *arguments]
        argv[4:4] = ["--run", RUN]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, cwd=self.root, env={**self.environ, **environ}, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *arguments: str, **environ: str) -> Ended:
        """Run it to its end."""
        document = self.root.parent / "result.json"
        document.unlink(missing_ok=True)
        process = self.start(*arguments, **{RESULT_VARIABLE: str(document), **environ})
        output, _ = process.communicate(timeout=300)
        return Ended(process.returncode, read(document), output)

    def recorded(self, pod: str) -> dict[str, Any]:
        """What a pod left in the store."""
        return dict(json.loads(self.store.read(f"runs/{RUN}/pods/{pod}.json")))

    def lock(self) -> dict[str, Any]:
        """dvc.lock of the run, as the store has it."""
        return dict(yaml.safe_load(self.store.read(f"runs/{RUN}/dvc.lock"))["stages"])


@dataclass
class Ended:
    """How a command ended."""

    code: int
    result: Result | None
    output: str


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Whose stages write what they are named after."""
    root = tmp_path / "checkout"
    for name in ("models", "tasks"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", root)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"vars": ["run.yaml"], "stages": STAGES}))
    (root / "jobs.yaml").write_text(yaml.safe_dump({"jobs": JOBS}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRLOOP_", "AIRFLOW"))}
    environ = {
        **kept,
        "PYTHONPATH": str(root),
        "AIRLOOP_CODE": str(root),
        "AIRLOOP_HOME": str(tmp_path / "home"),
        "AIRLOOP_STORE": url_of(tmp_path / "store"),
        "AIRLOOP_DVC_REMOTE": str(tmp_path / "remote"),
    }
    made = Checkout(root, environ, Store(url_of(tmp_path / "store")).part("flights"))
    made.write("each", "Path('each').mkdir(exist_ok=True); Path(f'each/{sys.argv[1]}.txt').write_text(sys.argv[1])")
    made.write("all", "Path('all.txt').write_text(''.join(p.read_text() for p in sorted(Path('each').iterdir())))")
    made.write(
        "one",
        "emit({'interval': sys.argv[1], 'argv': sys.argv[2:], 'text': Path(f'each/{sys.argv[1]}.txt').read_text()})",
    )
    made.write("direct", "emit({'argv': sys.argv[1:], 'cwd': os.getcwd()})")
    return made
