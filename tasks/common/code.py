"""Which code ran: its revision, and the files themselves, so that a model can be rebuilt even from uncommitted work."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path, PurePosixPath

from tasks.common.artefacts import Store
from tasks.common.environment import environment
from tasks.common.errors import DataError
from tasks.common.params import Frozen

PIPELINE = ("dvc.yaml", "tasks")
"""What a run's workspace holds of the checkout; all that can change a digest."""


class Code(Frozen):
    """Identity of the code of a run."""

    revision: str
    """Git commit, or AIRLOOP_CODE_REVISION where there is no git."""
    dirty: bool
    """Whether the files differ from that commit."""
    tree: str
    """sha256 over names and contents of the files; names ``code/<tree>.tar.gz`` in the store."""


def files(root: Path) -> list[Path]:
    """Pipeline files below ``root``, relative, sorted; caches and hidden files left out."""
    found: list[Path] = []
    for name in PIPELINE:
        path = root / name
        candidates = path.rglob("*") if path.is_dir() else [path]
        found += [p.relative_to(root) for p in candidates if p.is_file()]
    return sorted(p for p in found if not any(part.startswith((".", "__pycache__")) for part in p.parts))


def tree_digest(root: Path) -> str:
    """sha256 over the names and contents of the pipeline files below ``root``."""
    digest = hashlib.sha256()
    for path in files(root):
        content = hashlib.sha256((root / path).read_bytes()).hexdigest()
        digest.update(f"{path.as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def identify(root: Path) -> Code:
    """Revision and digest of the checkout at ``root``."""
    revision = _git(root, "rev-parse", "HEAD") or environment().code_revision or "unknown"
    dirty = bool(_git(root, "status", "--porcelain", "--", *PIPELINE))
    return Code(revision=revision, dirty=dirty, tree=tree_digest(root))


def copy(source: Path, target: Path) -> None:
    """Copy the pipeline files of checkout ``source`` to workspace ``target``."""
    for path in files(source):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / path, target / path)


def archive(root: Path, code: Code, store: Store) -> None:
    """Keep the pipeline files in the store, once for each tree digest."""
    name = archive_name(code.tree)
    if store.exists(name):
        return
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for path in files(root):
            info = tarfile.TarInfo(path.as_posix())
            data = (root / path).read_bytes()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    store.write(name, buffer.getvalue())


def unpack(code: Code, store: Store, target: Path) -> None:
    """Put the archived pipeline files of ``code`` below ``target``, replacing what is there.

    DataError when the archive holds anything but files below it.
    """
    name = archive_name(code.tree)
    with tarfile.open(fileobj=io.BytesIO(store.read(name)), mode="r:gz") as tar:
        # Not extractall: its filters came with Python 3.11.4, and Debian 12 has 3.11.2.
        for member in tar:
            path, content = PurePosixPath(member.name), tar.extractfile(member) if member.isfile() else None
            if content is None or path.is_absolute() or ".." in path.parts:
                raise DataError(
                    f"{store.uri(name)} holds {member.name!r}, which is no file of a pipeline; do not use it."
                )
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(content.read())


def archive_name(tree: str) -> str:
    """Name in the store of the files with digest ``tree``."""
    return f"code/{tree}.tar.gz"


def _git(root: Path, *arguments: str) -> str:
    """Output of a git command, empty where there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
