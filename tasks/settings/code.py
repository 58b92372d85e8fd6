"""Which code ran: its revision, and the files themselves, so that a model can be rebuilt even from uncommitted work."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from importlib.util import cache_from_source
from pathlib import Path, PurePosixPath

from tasks.core.errors import DataError, warn
from tasks.core.frozen import Frozen
from tasks.settings.environment import environment
from tasks.settings.settings_files import of_model
from tasks.storage.artefacts import Store

PIPELINE = ("dvc.yaml", "jobs.yaml", "tasks", "models/__init__.py")
"""What a run's workspace holds of the checkout, with its model's folder; with the settings, all that can change a digest."""
SAME_SECOND = 2
"""Seconds within which two versions of a file may have one time."""


class Code(Frozen):
    """Identity of the code of a run."""

    revision: str
    """Git commit, or AIRLOOP_CODE_REVISION where there is no git."""
    dirty: bool
    """Whether the files differ from that commit, or may: it is False only where somebody looked."""
    tree: str
    """sha256 over names and contents of the files; names ``code/<tree>.tar.gz``, which all models' stores share."""


def pipeline(model: str) -> tuple[str, ...]:
    """Files and folders of a checkout that a run of ``model`` works with."""
    return (*PIPELINE, f"models/{model}")


def files(root: Path, model: str) -> list[Path]:
    """Pipeline files of ``model`` below ``root``, relative, sorted; settings, caches and hidden files left out."""
    settings = Path(of_model(model))
    found: list[Path] = []
    for name in pipeline(model):
        path = root / name
        candidates = path.rglob("*") if path.is_dir() else [path]
        found += [p.relative_to(root) for p in candidates if p.is_file()]
    code = (p for p in found if p != settings)
    return sorted(p for p in code if not any(part.startswith((".", "__pycache__")) for part in p.parts))


def tree_digest(root: Path, model: str) -> str:
    """sha256 over the names and contents of the pipeline files of ``model`` below ``root``."""
    digest = hashlib.sha256()
    for path in files(root, model):
        content = hashlib.sha256((root / path).read_bytes()).hexdigest()
        digest.update(f"{path.as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def identify(root: Path, model: str) -> Code:
    """Revision of the checkout at ``root`` and digest of its files for ``model``.

    A warning where there is a repository that git does not open.
    """
    revision, dirty = _by_git(root, [*pipeline(model), f":(exclude){of_model(model)}"]) or _by_environment()
    return Code(revision=revision, dirty=dirty, tree=tree_digest(root, model))


def _by_git(root: Path, names: Iterable[str]) -> tuple[str, bool] | None:
    """Commit of ``root`` and whether the files ``names`` differ; None where git does not say."""
    try:
        return _git(root, "rev-parse", "HEAD"), bool(_git(root, "status", "--porcelain", "--", *names))
    except (OSError, subprocess.CalledProcessError) as error:
        if (root / ".git").exists():
            why = (getattr(error, "stderr", "") or str(error)).strip()
            warn(
                f"git does not say which revision {root} is: {why}\n"
                "The files themselves are kept with every run. Do as git says, or set AIRLOOP_CODE_REVISION."
            )
        return None


def _by_environment() -> tuple[str, bool]:
    """AIRLOOP_CODE_REVISION, whose ``-dirty`` is what `git describe --dirty` writes; unknown and perhaps changed without it."""
    stated = environment().code_revision
    return (stated.removesuffix("-dirty"), stated.endswith("-dirty")) if stated else ("unknown", True)


def copy(source: Path, target: Path, model: str) -> None:
    """Copy the pipeline files of ``model`` from checkout ``source`` to workspace ``target``, and what is compiled of them."""
    for path in files(source, model):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / path, target / path)
        _copy_compiled(source / path, target / path)


def _copy_compiled(source: Path, target: Path) -> None:
    """Copy what Python compiled of ``source``, where it did: each run's stages would do it again, for a tenth of a second.

    Python takes it for that of another file of the same size and second, so it must be clearly younger than its source.
    """
    compiled, copied = (Path(cache_from_source(str(path))) for path in (source, target))
    if source.suffix == ".py" and compiled.exists() and compiled.stat().st_mtime > source.stat().st_mtime + SAME_SECOND:
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(compiled, copied)


def archive(root: Path, code: Code, store: Store, model: str) -> None:
    """Keep the pipeline files of ``model`` in the shared part of ``store``, once for each tree digest."""
    name = archive_name(code.tree)
    if store.shared.exists(name):
        return
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for path in files(root, model):
            info = tarfile.TarInfo(path.as_posix())
            data = (root / path).read_bytes()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    store.shared.write(name, buffer.getvalue())


def unpack(code: Code, store: Store, target: Path) -> None:
    """Put the archived pipeline files of ``code`` below ``target``, replacing what is there.

    DataError when the archive holds anything but files below it.
    """
    name = archive_name(code.tree)
    with tarfile.open(fileobj=io.BytesIO(store.shared.read(name)), mode="r:gz") as tar:
        # Not extractall: its filters came with Python 3.11.4, and Debian 12 has 3.11.2.
        for member in tar:
            path, content = PurePosixPath(member.name), tar.extractfile(member) if member.isfile() else None
            if content is None or path.is_absolute() or ".." in path.parts:
                raise DataError(
                    f"{store.shared.uri(name)} holds {member.name!r}, which is no file of a pipeline; do not use it."
                )
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(content.read())


def archive_name(tree: str) -> str:
    """Name in the store of the files with digest ``tree``."""
    return f"code/{tree}.tar.gz"


def _git(root: Path, *arguments: str) -> str:
    """Output of a git command; OSError where there is no git, CalledProcessError where it refuses."""
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
