"""Where things lie. Standard library only: the bootstrap needs this before anything is installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

VENV = ROOT / ".venv"
STAMP = VENV / ".airloop.json"
"""Written by the bootstrap: the locks' digest, the interpreter and the Java home that this environment was made with."""

TORCH_STAMP = VENV / ".torch.json"
"""Written by the bootstrap where PyTorch is installed: its version, its build, and what they were chosen from."""

HOME = ROOT / ".airloop"
"""Where AIRLOOP_HOME is unset: the checkout's own folder, which `dvc repro` and the tests use without `up`."""

JDK_CACHE = HOME / "jdk"
"""A downloaded Java. It stays in the checkout when AIRLOOP_HOME is elsewhere, and `down` keeps it."""


def scripts() -> Path:
    """The folder of `airflow`, `mlflow`, `dvc` and `spark-submit`: beside the running Python, else in .venv."""
    here = Path(sys.executable).parent
    return here if (here / "airflow").exists() else VENV / "bin"


def home_from(environ: os._Environ[str] | dict[str, str]) -> Path:
    """AIRLOOP_HOME as an absolute path, a relative one taken from the checkout; <checkout>/.airloop where it is unset."""
    raw = environ.get("AIRLOOP_HOME", "")
    return Path(os.path.normpath(ROOT / Path(raw).expanduser())) if raw else HOME
