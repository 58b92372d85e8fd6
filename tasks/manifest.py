"""Looks up what has landed of one month: the manifest's digests stand for the landing zone, which DVC cannot see."""

from __future__ import annotations

import argparse
from pathlib import Path

from tasks.common import months
from tasks.common.artefacts import to_json
from tasks.common.environment import environment
from tasks.common.errors import run_main
from tasks.common.files import write_file
from tasks.common.landing_zone import MANIFEST, Manifest, parse_manifest, read


def fetch(month: str) -> Manifest:
    """The manifest that has landed for ``month``; DataError when there is none, or it is not one."""
    where = f"{environment().landing_url.rstrip('/')}/{month}/{MANIFEST}"
    return parse_manifest(read(month, MANIFEST), month, where)


def main() -> None:
    """Fetch the manifest of --month to data/manifests/<month>.json, in canonical form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--month", required=True, help="YYYY-MM")
    month = parser.parse_args().month
    months.parse(month)
    manifest = fetch(month)
    write_file(Path(f"data/manifests/{month}.json"), to_json(manifest.model_dump()))
    print(f"{month}: " + ", ".join(f"{name} {entry.rows:,} rows" for name, entry in sorted(manifest.files.items())))


if __name__ == "__main__":
    run_main(main)
