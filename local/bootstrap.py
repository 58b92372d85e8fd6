"""Makes .venv from the locks, and finds or fetches a Java: what `make setup` runs, with any Python 3.11 to 3.13.

    python -m local.bootstrap [--torch]     with PyTorch too; where it was installed before, it is kept without the word

Standard library only, for nothing is installed yet. A second run compares one digest and returns at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

LOCKS = ("boot.txt", "main.txt", "dev.txt")


def main() -> int:
    """Sets the checkout up; returns a process exit code."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        print(
            f"Airloop needs Python 3.11, 3.12 or 3.13, and this is {sys.version.split()[0]}. "
            "Install one and name it, for example: make setup PYTHON=python3.12",
            file=sys.stderr,
        )
        return 1
    from local.errors import LocalError
    from local.paths import ROOT

    if bad := sorted(set("%:") & set(str(ROOT))):
        print(
            f"The checkout lies in {ROOT}, and a {' or '.join(bad)} in its path is what MLflow's migrations (%) or PATH (:) "
            "cannot do with; move it to a folder without.",
            file=sys.stderr,
        )
        return 1
    try:
        setup(with_torch="--torch" in sys.argv[1:])
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def setup(*, with_torch: bool = False) -> None:
    """Brings .venv and Java to what the locks say; does nothing where the stamps say they are already. Renders a missing run.yaml.

    Raises:
        LocalError: an install step failed, or there is no Java.
    """
    from local import pytorch
    from local.paths import ROOT, STAMP

    with_torch = with_torch or pytorch.wanted()
    digest = wanted_digest()
    if is_current(digest):
        # make compares times, and a checkout may have touched the locks without changing them.
        STAMP.touch()
    else:
        _make(digest)
    # Each run copies what is compiled (tasks/settings/code.py); without it all works, only slower.
    _succeeds(_python(), "-m", "compileall", "-q", "tasks", "models")
    if with_torch:
        _torch(digest)
    if not (ROOT / "run.yaml").exists():
        _succeeds(_python(), "-m", "local.cli", "render")  # its own sentence says what is wrong; the rest is set up


def _make(digest: str) -> None:
    from local import java
    from local.paths import STAMP

    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    _environment()
    found = java.ensure(_python())
    _archive_classes(found.home)
    STAMP.write_text(json.dumps({"digest": digest, "java_home": str(found.home)}) + "\n")
    print(f"Ready in {time.monotonic() - started:.0f} s, with Java {found.major} at {found.home}.", flush=True)


def _torch(digest: str) -> None:
    from local import pytorch
    from local.errors import LocalError
    from local.paths import TORCH_STAMP

    if pytorch.is_current(digest, os.environ):
        TORCH_STAMP.touch()
        return
    _step(f"Installing PyTorch ({pytorch.build(os.environ)})")
    if not pytorch.install(_succeeds, _python(), digest, os.environ):
        raise LocalError(
            "PyTorch could not be installed, see above. Where uv's index for it cannot be reached, name a folder of wheels "
            "(UV_FIND_LINKS or PIP_FIND_LINKS), or take what the package index has: make setup-torch TORCH=index"
        )


def wanted_digest() -> str:
    """SHA-256 over all that the environment depends on: the locks, the project file, the Python and the checkout's path."""
    from local.paths import ROOT

    parts = [*sys.version_info[:2], sys.platform, ROOT]
    digest = hashlib.sha256("\n".join(map(str, parts)).encode())
    for file in (*(ROOT / "requirements" / name for name in LOCKS), ROOT / "pyproject.toml"):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def is_current(digest: str) -> bool:
    """Whether the environment was made for this digest and its Java is still there."""
    from local.paths import STAMP

    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        return bool(stamp["digest"] == digest and (Path(stamp["java_home"]) / "bin" / "java").exists())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _environment() -> None:
    from local.paths import ROOT, VENV

    locks = [str(ROOT / "requirements" / name) for name in LOCKS]
    if not _has_uv(_python()):
        _step("Making .venv")
        _create(VENV)
        _run(_python(), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", locks[0])
    _step("Installing about 290 packages, 2.5 GB (under 2 minutes once they are downloaded)")
    uv = (_python(), "-m", "uv", "pip")
    _run(*uv, "sync", "--python", _python(), "--require-hashes", "--compile-bytecode", *locks)
    _step("Installing Airloop itself")
    # The lock holds setuptools: building in the environment itself asks no registry for one.
    # As ".": uv reads a path there as a requirement, in which a # or a ; of the checkout's name would end it.
    _run(*uv, "install", "--quiet", "--python", _python(), "--no-deps", "--no-build-isolation", "--editable", ".")
    _name_relatively(VENV)


def _name_relatively(venv: Path) -> None:
    """Names the checkout by a relative path where Python looks for it.

    Python 3.11 reads that file in the locale's encoding, and ends where LC_ALL=C has no letters for the checkout's name.
    """
    for file in venv.glob("lib/python*/site-packages/__editable__.airloop-*.pth"):
        lines = file.read_text(encoding="utf-8").splitlines()
        relative = [os.path.relpath(line, file.parent) if Path(line).is_absolute() else line for line in lines]
        file.write_text("".join(f"{line}\n" for line in relative), encoding="utf-8")


def _archive_classes(java_home: Path) -> None:
    """Makes the class-data archive that spares each Spark job some seconds; without it all works, only slower."""
    from local import leaks

    _step("Preparing Spark's classes")
    env = {**leaks.without(os.environ), "JAVA_HOME": str(java_home)}
    done = subprocess.run(
        [str(_python()), "-m", "tasks.engines.jvm"],
        env=env,
        cwd=Path(__file__).parents[1],
        check=False,
        capture_output=True,
        text=True,
    )
    print(f"  {(done.stdout or done.stderr).strip()}", flush=True)


def _create(folder: Path) -> None:
    from local.errors import LocalError

    try:
        venv.create(folder, with_pip=True, clear=True, symlinks=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LocalError(
            f"Python could not make a virtual environment ({error}). On Debian and Ubuntu the package "
            f"python3-venv is missing: apt install python3-venv, then run `make setup` again."
        ) from error


def _has_uv(python: Path) -> bool:
    """Whether .venv holds this Python's version and uv; a half-made one, or another Python's, is made again."""
    check = f"import sys, uv; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
    try:
        return subprocess.run([str(python), "-c", check], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _python() -> Path:
    from local.paths import VENV

    return VENV / "bin" / "python"


def _step(text: str) -> None:
    print(f"{text}…", flush=True)


def _run(*command: str | Path) -> None:
    from local.errors import LocalError

    if not _succeeds(*command):
        words = " ".join(map(str, command))
        raise LocalError(f"This step failed, see above: {words}. Mend its cause and run `make setup` again.")


def _succeeds(*command: str | Path, quiet: bool = False) -> bool:
    from local.paths import ROOT

    words = [str(word) for word in command]
    # uv leaves a lock file in the temporary folder for each build.
    with tempfile.TemporaryDirectory(prefix="airloop-setup-") as scratch:
        env = {**_install_environment(), "TMPDIR": scratch}
        return subprocess.run(words, env=env, cwd=ROOT, check=False, capture_output=quiet).returncode == 0


def _install_environment() -> dict[str, str]:
    """An installer's environment, with a cache in the checkout where there is no home to keep one in."""
    from local import installers
    from local.paths import ROOT

    env = {**installers.environment(os.environ), "VIRTUAL_ENV": ""}
    if not os.access(os.path.expanduser("~"), os.W_OK):  # noqa: PTH111 - Path.home() raises where there is none
        env.setdefault("UV_CACHE_DIR", str(ROOT / ".airloop" / "package-cache" / "uv"))
        env.setdefault("PIP_CACHE_DIR", str(ROOT / ".airloop" / "package-cache" / "pip"))
    return env


if __name__ == "__main__":
    sys.exit(main())
