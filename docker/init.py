"""Readies Airflow before its parts start: the login of `admin` into the passwords file, then the database's schema.

Safe to run again: `docker compose up` after a new password or a new version does.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

PASSWORDS_FILE = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"


def write_login(file: Path, password: str) -> None:
    """Replaces the passwords file in one step; only its owner can read it."""
    staged = file.with_name(f".{file.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump({"admin": password}, stream)
    staged.replace(file)


def main() -> None:
    """Writes the login and becomes `airflow db migrate`."""
    password = os.environ.get("AIRLOOP_ADMIN_PASSWORD", "")
    if not password:
        sys.exit(
            "AIRLOOP_ADMIN_PASSWORD is empty; make it with `python3 docker/make_env.py` and pass it to this container."
        )
    write_login(Path(os.environ[PASSWORDS_FILE]), password)
    os.execvp("airflow", ["airflow", "db", "migrate"])  # noqa: S606 - the words are constants; a shell would only stay between


if __name__ == "__main__":
    main()
