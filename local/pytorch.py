"""PyTorch in .venv, for those who train with it: out of the locks, because its build is the machine's and weighs up to gigabytes.

Standard library only. What it needs is locked in requirements/torch.txt, its version in requirements/torch.version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from local import installers
from local.paths import ROOT, TORCH_STAMP, VENV

LOCK = ROOT / "requirements" / "torch.txt"
VERSION = ROOT / "requirements" / "torch.version"

Run = Callable[..., bool]
"""Runs the words of a command; whether it succeeded. ``quiet=True`` for one that may fail unseen."""


def wanted() -> bool:
    """Whether it was installed here before; a later setup then keeps it."""
    return TORCH_STAMP.exists()


def build(environ: Mapping[str, str]) -> str:
    """Which build: what TORCH says, else what is installed, else the one without CUDA."""
    return environ.get("TORCH") or str(_stamp().get("build", "cpu"))


def is_current(main_digest: str, environ: Mapping[str, str]) -> bool:
    """Whether the stamp, which holds the environment's own digest, says what is wanted, and the package is there."""
    there = any(VENV.glob("lib/python*/site-packages/torch/version.py"))
    return there and _stamp() == _wanted_stamp(main_digest, build(environ))


def install(run: Run, python: Path, main_digest: str, environ: Mapping[str, str]) -> bool:
    """Install it beside ``python``, by the uv there; False when it could not be.

    A folder or page of wheels that pip or uv is configured with is asked first, then the index that uv knows for the build.
    """
    chosen = build(environ)
    version = VERSION.read_text(encoding="utf-8").strip()
    TORCH_STAMP.unlink(missing_ok=True)
    uv = (python, "-m", "uv", "pip", "install", "--python", python, "--compile-bytecode")
    if not run(*uv, "--quiet", "--require-hashes", "-r", LOCK):
        return False
    own = [word for place in find_links(environ) for word in ("--find-links", place)]
    attempts = [] if not own or chosen in {"auto", "index"} else [["--no-index", *own, f"torch=={version}+{chosen}"]]
    attempts.append([*own, *([] if chosen == "index" else ["--torch-backend", chosen]), f"torch=={version}"])
    for number, words in enumerate(attempts, start=1):
        if run(*uv, *words, quiet=number < len(attempts)):
            TORCH_STAMP.write_text(json.dumps(_wanted_stamp(main_digest, chosen)) + "\n")
            return True
    return False


def find_links(environ: Mapping[str, str]) -> list[str]:
    """Folders and pages of wheels that uv's or pip's settings name."""
    return [place for place in installers.environment(environ).get("UV_FIND_LINKS", "").split(",") if place]


def _wanted_stamp(main_digest: str, chosen: str) -> dict[str, str]:
    digest = hashlib.sha256(main_digest.encode() + LOCK.read_bytes()).hexdigest()
    return {"digest": digest, "version": VERSION.read_text(encoding="utf-8").strip(), "build": chosen}


def _stamp() -> dict[str, str]:
    try:
        return dict(json.loads(TORCH_STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
