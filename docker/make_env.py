"""Adds the secrets that docker-compose.yaml asks for to .env, each made at random; keeps every line that is there.

    python3 docker/make_env.py            write them to .env beside docker-compose.yaml, readable by its owner only

Any Python 3.11 or later will do. A secret that has a value already is left as it is, so running it again changes nothing.
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
from pathlib import Path

ENV = Path(__file__).resolve().parent.parent / ".env"
SECRETS = {
    "AIRLOOP_ADMIN_PASSWORD": "login of `admin` at Airflow's web pages and API",
    "AIRLOOP_ADMIN_TOKEN": "lets a deployment ask the online service to look for a new model",
    "AIRLOOP_FERNET_KEY": "encrypts Airflow's connections in its database",
    "AIRLOOP_JWT_SECRET": "signs the tokens that Airflow's parts show each other",
    "AIRLOOP_SECRET_KEY": "signs the web pages' sessions",
    "AIRLOOP_POSTGRES_PASSWORD": "PostgreSQL's superuser; used when its volume is first made",
    "AIRLOOP_AIRFLOW_DB_PASSWORD": "Airflow's role in PostgreSQL; likewise",
    "AIRLOOP_MLFLOW_DB_PASSWORD": "MLflow's role in PostgreSQL; likewise",
    "AIRLOOP_REDIS_PASSWORD": "Celery's broker",
    "AIRLOOP_S3_SECRET_KEY": "the S3 store's key pair, with AIRLOOP_S3_KEY_ID (airloop)",
    "AIRLOOP_METRICS_TOKEN": "lets Prometheus read the pipeline's metrics from Airflow",
}
"""Name to what it is for. The values hold letters, digits, - and _ (and = in the Fernet key): they are used in URLs too."""

BYTES = {"AIRLOOP_ADMIN_PASSWORD": 12, "AIRLOOP_JWT_SECRET": 64, "AIRLOOP_SECRET_KEY": 64}
"""Random bytes of a secret, where it is not 32. Tokens are signed with HS512, whose keys have 64 bytes at least."""
WEAK_BELOW = 64


def missing(text: str) -> list[str]:
    """Names in SECRETS that have no value in a .env file's text."""
    lines = (line.strip().removeprefix("export ").partition("=") for line in text.splitlines())
    given = {name.strip() for name, _, value in lines if value.strip().strip("'\"")}
    return [name for name in SECRETS if name not in given]


def weak(text: str) -> list[str]:
    """Names whose value, of an earlier version of this file, is shorter than what it signs asks for."""
    found = dict(line.strip().removeprefix("export ").split("=", 1) for line in text.splitlines() if "=" in line)
    signing = [name for name, size in BYTES.items() if size >= WEAK_BELOW]
    return [name for name in signing if 0 < len(found.get(name, "").strip("'\"")) < WEAK_BELOW]


def new(name: str) -> str:
    """A fresh random value for the secret `name`."""
    if name == "AIRLOOP_FERNET_KEY":
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(BYTES.get(name, 32))


def extend(file: Path) -> list[str]:
    """Adds what is missing to `file`, in one step and readable by its owner only; returns the names added."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    names = missing(text)
    if not names:
        return []
    if text and not text.endswith("\n"):
        text += "\n"
    text += "".join(f"# {SECRETS[name]}\n{name}={new(name)}\n" for name in names)
    staged = file.with_name(f".{file.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    staged.replace(file)
    return names


def main() -> None:
    """Extends the file and says what was added; never shows a value."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=ENV, help="the file to extend (default: .env of this checkout)")
    file = parser.parse_args().file
    added = extend(file)
    print(f"{file}: added {', '.join(added)}." if added else f"{file}: has every secret already.")
    for name in weak(file.read_text()):
        print(
            f"{file}: {name} has fewer than {WEAK_BELOW} characters. Delete its line and run this again; logins end with that."
        )


if __name__ == "__main__":
    main()
