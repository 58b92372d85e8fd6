"""Builds the images of docker/, one after the other: `make images`, or `python3 docker/build.py train serve` for some.

Any Python 3.11 or later will do. The names are ${AIRLOOP_IMAGE_PREFIX}airloop-<role>:${AIRLOOP_IMAGE_TAG:-local}; docs/containers.md
has the other variables.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROLES: dict[str, dict[str, object]] = tomllib.loads((ROOT / "docker/images.toml").read_text())
PASSED_ON = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "JAVA_PACKAGE", "XGBOOST", "TORCH")
"""Build arguments that are taken from the environment where it has them."""


def name(role: str, environ: Mapping[str, str]) -> str:
    """The image's name with its tag, as docker-compose.yaml and the pods say it too."""
    return f"{environ.get('AIRLOOP_IMAGE_PREFIX', '')}airloop-{role}:{environ.get('AIRLOOP_IMAGE_TAG') or 'local'}"


def command(role: str, revision: str, environ: Mapping[str, str]) -> list[str]:
    """The docker command line that builds ``role``."""
    arguments = {"AIRLOOP_CODE_REVISION": revision}
    if image := environ.get("AIRLOOP_PYTHON_IMAGE"):
        arguments["PYTHON_IMAGE"] = image
    file = (ROOT / f"docker/{role}.Dockerfile").read_text()
    arguments |= {key: environ[key] for key in PASSED_ON if environ.get(key) and f"ARG {key}" in file}
    words = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    if bundle := environ.get("AIRLOOP_BUILD_CA"):
        words += ["--secret", f"id=ca,src={bundle}"]
    return ["docker", "build", "--file", f"docker/{role}.Dockerfile", "--tag", name(role, environ), *words, "."]


def revision() -> str:
    """The checkout's commit, with -dirty behind it where files differ from it; "unknown" without git."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def size(image: str) -> int:
    """Bytes of an image's layers, the base image's included."""
    asked = ["docker", "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def main() -> int:
    """Build what was asked for; returns docker's exit code where it fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roles", nargs="*", choices=[*ROLES, []], help=f"which (default: {' '.join(ROLES)})")
    code = os.environ.get("AIRLOOP_CODE_REVISION") or revision()
    for role in parser.parse_args().roles or ROLES:
        done = subprocess.run(command(role, code, os.environ), cwd=ROOT, check=False)
        if done.returncode:
            return done.returncode
        image = name(role, os.environ)
        print(f"{image}: {size(image) / 1e6:.0f} MB, at most {ROLES[role]['limit_mb']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
