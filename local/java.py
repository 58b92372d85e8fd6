"""Finds a Java that Spark 4 runs on, or fetches one. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local import leaks
from local.errors import LocalError
from local.paths import JDK_CACHE

VERSIONS = (17, 21)
MODULE = "jdk.incubator.vector"
"""Spark 4 adds this module to its command line; trimmed runtimes lack it and stop at once."""

WAY_OUT = (
    "Install one (Debian and Ubuntu: apt install openjdk-17-jre-headless; macOS: brew install openjdk@17), "
    "set JAVA_HOME to it, and run `make setup` again."
)


@dataclass(frozen=True)
class Java:
    """A Java that was asked for its version: its home, and the major version it reports."""

    home: Path
    major: int


def find() -> Java | None:
    """The first usable Java of JAVA_HOME, PATH and the download folder; None where there is none."""
    for binary in _candidates():
        java = probe(binary)
        if java:
            return java
    return None


def ensure(python: Path) -> Java:
    """A usable Java, downloaded with install-jdk (from `python`'s environment) where none is found.

    Raises:
        LocalError: none was found and none could be downloaded.
    """
    java = find()
    if java:
        return java
    print("No Java 17 or 21 found; downloading one for this checkout…", flush=True)
    reason = _download(python)
    java = find()
    if java:
        return java
    raise LocalError(f"Spark needs Java 17 or 21 with all its modules: none was found, and {reason}. {WAY_OUT}")


def usable(named: str, stamped: str) -> str:
    """The home of the Java to run: the named one if Spark 4 runs on it, else the one that setting up found or fetched.

    Args:
        named: JAVA_HOME; empty where it is not set.
        stamped: home of the Java that `make setup` chose; empty where there is none.
    """
    if not named or named == stamped:
        return named or stamped
    there = os.access(Path(stamped, "bin", "java"), os.X_OK) if stamped else False
    return named if not there or fits(Path(named)) else stamped


def fits(home: Path) -> bool:
    """Whether Spark 4 runs on the Java there; by the file `release` that Javas have, which takes no process."""
    try:
        lines = (home / "release").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return probe(home / "bin" / "java") is not None
    said = {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}
    major = said.get("JAVA_VERSION", "").partition(".")[0]
    if not major.isdigit() or not os.access(home / "bin" / "java", os.X_OK):
        return probe(home / "bin" / "java") is not None
    return int(major) in VERSIONS and MODULE in said.get("MODULES", MODULE).split()


def probe(binary: Path) -> Java | None:
    """Asks one `java` for its home, version and modules; None when Spark 4 cannot run on it."""
    settings = _output([str(binary), "-XshowSettings:properties", "-version"])
    home, version = _property(settings, "java.home"), _property(settings, "java.specification.version")
    if not home or not version.isdigit() or int(version) not in VERSIONS:
        return None
    if MODULE not in _output([str(binary), "--list-modules"]):
        return None
    return Java(Path(home), int(version))


def _candidates() -> Iterator[Path]:
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"]) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path)
    # A macOS archive unpacks to <name>/Contents/Home.
    for pattern in ("*/bin/java", "*/Contents/Home/bin/java"):
        yield from sorted(JDK_CACHE.glob(pattern))


def _download(python: Path) -> str:
    """Fetches Java 17 into the checkout; returns why it could not, or an empty string."""
    JDK_CACHE.mkdir(parents=True, exist_ok=True)
    code = f"import jdk; jdk.install('17', path={str(JDK_CACHE)!r})"
    try:
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the download failed ({error})"
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return f"the download failed ({last})" if done.returncode else "the downloaded one does not fit"


def _output(command: list[str]) -> str:
    try:
        env = leaks.without(os.environ)  # options for every Java would speak first, or keep this one from starting
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _property(settings: str, name: str) -> str:
    for line in settings.splitlines():
        key, _, value = line.strip().partition(" = ")
        if key == name:
            return value.strip()
    return ""
