"""Looks up what has landed of one month: the manifest's digests stand for the landing zone, which DVC cannot see."""

from __future__ import annotations

import argparse
from pathlib import Path

from tasks.common import months, settings_files
from tasks.common.errors import run_main
from tasks.common.files import write_file
from tasks.common.landing_zone import fetch_manifest, manifest_bytes


def main() -> None:
    """Fetch the manifest of --month to data/manifests/<month>.json, in canonical form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--month", required=True, help="YYYY-MM")
    month = parser.parse_args().month
    months.parse(month)
    # This stage always runs, so a run.yaml that is older than the settings is found before anything is made.
    settings_files.read_run(Path())
    manifest = fetch_manifest(month)
    write_file(Path(f"data/manifests/{month}.json"), manifest_bytes(manifest))
    print(f"{month}: " + ", ".join(f"{name} {entry.rows:,} rows" for name, entry in sorted(manifest.files.items())))


if __name__ == "__main__":
    run_main(main)
