"""Which code ran: its revision, and the files themselves, so that a model can be rebuilt even from uncommitted work."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterable, Iterator
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
    return _digest((path.as_posix(), (root / path).read_bytes()) for path in files(root, model))


def _digest(named: Iterable[tuple[str, bytes]]) -> str:
    """sha256 over names and contents, in order."""
    digest = hashlib.sha256()
    for name, content in named:
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
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
    """Keep the pipeline files of ``model`` in the shared part of ``store``, once for each tree digest.

    An archive that is there and holds other files is replaced: every run of this code would work with it.
    """
    name = archive_name(code.tree)
    if store.shared.exists(name):
        try:
            _verified(code, store)
        except DataError as error:
            warn(f"{error} It is made again from {root}.")
        else:
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

    DataError, before a file is written, when the archive holds anything but these files.
    """
    for name, content in _verified(code, store).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)


def _verified(code: Code, store: Store) -> dict[str, bytes]:
    """The archived files of ``code`` by name; DataError unless they are exactly those that its digest names."""
    where = store.shared.uri(archive_name(code.tree))
    try:
        found = dict(_members(store.shared.read(archive_name(code.tree))))
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DataError(
            f"{where} is no archive of a pipeline ({error}); do not use it. Restore it from a backup of the store."
        ) from None
    if _digest(found.items()) != code.tree:
        raise DataError(
            f"{where} does not hold the code with that digest: it was altered. Restore it from a backup of the store."
        )
    return found


def _members(archive_bytes: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file; ValueError for anything that is no file below the archive's folder."""
    with tarfile.open(fileobj=io.BytesIO(archive_bytes), mode="r:gz") as tar:
        # Not extractall: its filters came with Python 3.11.4, and Debian 12 has 3.11.2.
        for member in tar:
            path, content = PurePosixPath(member.name), tar.extractfile(member) if member.isfile() else None
            if content is None or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"it holds {member.name!r}, which is no file of a pipeline")
            yield member.name, content.read()


def archive_name(tree: str) -> str:
    """Name in the store of the files with digest ``tree``."""
    return f"code/{tree}.tar.gz"


def _git(root: Path, *arguments: str) -> str:
    """Output of a git command; OSError where there is no git, CalledProcessError where it refuses."""
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
