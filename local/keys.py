"""The secrets of this home: made once, readable by their owner only, never in the repository."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

from tasks.core import disk

NAMES = ("fernet_key", "jwt_secret", "secret_key", "admin_password")
BYTES = {"admin_password": 12, "jwt_secret": 64, "secret_key": 64}
"""Random bytes of a secret, where it is not 32. Tokens are signed with HS512, whose keys have 64 bytes at least."""


def load(home: Path) -> dict[str, str]:
    """The secrets kept in `home`, by the names in NAMES; makes those that are missing.

    Two processes that start at once agree: the file appears whole, and the first one's stays.
    """
    file = home / "secrets.json"
    if not file.exists():
        _write_once(file, {name: _new(name) for name in NAMES})
    kept: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def admin_token(secret: dict[str, str]) -> str:
    """What the online service's admin endpoint asks for: a deployment of another home does not have it."""
    return hmac.new(secret["secret_key"].encode(), b"online admin", hashlib.sha256).hexdigest()


def write_private(file: Path, text: str) -> None:
    """Writes `text` to a file that only its owner can read, replacing what was there in one step."""
    _stage(file, text).replace(file)


def _new(name: str) -> str:
    if name == "fernet_key":
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(BYTES.get(name, 32))


def _write_once(file: Path, values: dict[str, str]) -> None:
    staged = _stage(file, json.dumps(values, indent=1) + "\n")
    try:
        disk.put_if_absent(staged, file)  # another process may be first
    finally:
        staged.unlink(missing_ok=True)


def _stage(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    staged = file.with_name(f".{file.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    return staged
