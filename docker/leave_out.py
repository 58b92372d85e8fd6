"""Deletes from this Python's packages what no image runs: `python leave_out.py left_out.txt`; the file says what and why."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path


def patterns(text: str) -> Iterator[tuple[str, bool]]:
    """(glob, whether it is an exception) of each line; what follows a # is its reason."""
    for line in text.splitlines():
        if glob := line.partition("#")[0].strip():
            yield glob.removeprefix("!"), glob.startswith("!")


def chosen(packages: Path, rules: Iterable[tuple[str, bool]]) -> set[Path]:
    """Files and folders below ``packages`` that the globs name, less the exceptions; a later line wins."""
    found: set[Path] = set()
    for glob, exception in rules:
        matches = set(packages.glob(glob))
        found = found - matches if exception else found | matches
    return found


def delete(paths: Iterable[Path]) -> int:
    """Delete these files and folders; returns how many bytes they held."""
    freed = 0
    for path in sorted(paths):
        if path.is_dir() and not path.is_symlink():
            freed += sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
            shutil.rmtree(path)
        elif path.exists() or path.is_symlink():  # it may lie in a folder that has just gone
            freed += path.lstat().st_size
            path.unlink()
    return freed


def main() -> None:
    """Delete, and say how much it was."""
    rules = list(patterns(Path(sys.argv[1]).read_text(encoding="utf-8")))
    freed = delete(chosen(Path(sysconfig.get_path("purelib")), rules))
    print(f"left out {freed / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
