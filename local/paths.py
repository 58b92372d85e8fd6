"""Where things lie. Standard library only: the bootstrap needs this before anything is installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
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


DEMO = "demo"
"""The folder in a home that is the home of its demo."""


def home_from(environ: Mapping[str, str]) -> Path:
    """AIRLOOP_HOME as an absolute path, a relative one taken from the checkout; <checkout>/.airloop where it is unset.

    With AIRLOOP_DEMO=1 the home of the demo, a folder in that one.
    """
    raw = environ.get("AIRLOOP_HOME", "")
    home = Path(os.path.normpath(ROOT / Path(raw).expanduser())) if raw else HOME
    return home / DEMO if is_demo(environ) else home


def is_demo(environ: Mapping[str, str]) -> bool:
    """Whether the demo is meant, and not what `airloop up` starts."""
    return environ.get("AIRLOOP_DEMO", "") not in {"", "0"}
