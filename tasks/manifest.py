"""Looks up what has landed of one interval: the manifest's digests stand for the landing zone, which DVC cannot see."""

from __future__ import annotations

import argparse
from pathlib import Path

from tasks.core.errors import run_main
from tasks.landing.landing_zone import fetch_manifest, manifest_bytes
from tasks.settings import settings_files
from tasks.settings.environment import CODE
from tasks.storage.files import write_file


def main() -> None:
    """Fetch the manifest of --interval to data/manifests/<interval>.json, in canonical form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", required=True, help="its key, such as 2013-04")
    interval = parser.parse_args().interval
    # This stage always runs, so a run.yaml that is older than the settings is found before anything is made.
    run = settings_files.read_run(Path())
    settings_files.calendar_of(CODE, run["model"]).cadence.check(interval)
    manifest = fetch_manifest(interval)
    write_file(Path(f"data/manifests/{interval}.json"), manifest_bytes(manifest))
    print(f"{interval}: " + ", ".join(f"{name} {entry.rows:,} rows" for name, entry in sorted(manifest.files.items())))


if __name__ == "__main__":
    run_main(main)
