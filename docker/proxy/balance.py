#!/usr/bin/env python3
"""How the proxy spreads requests over the online replicas; Python's standard library only.

    balance               say how
    balance canary:5      change it now, and for later starts; no request is refused and no connection closed
    balance --start       what the container runs: HAProxy, as last said

least_conn (unless said), round_robin, ip_hash, or canary:N - the last replica takes N percent, N from 1 to 99. AIRLOOP_REPLICAS
names host:port of each replica, separated by spaces; AIRLOOP_PROXY_FOLDER is where the choice is kept.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

ALGORITHMS = {"least_conn": "leastconn", "round_robin": "roundrobin", "ip_hash": "source", "canary": "roundrobin"}
"""Way to balance, and name of its backend, to HAProxy's word."""
DEFAULT = "least_conn"
LARGEST = 256
"""HAProxy's largest weight."""
SECONDS = 10


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """What was asked for cannot be had."""


def parse(balance: str) -> tuple[str, int]:
    """The backend of a choice, and the last replica's percent where it is a canary, else 1.

    Raises:
        Refused: the choice is unknown.
    """
    if found := re.fullmatch(r"canary:([1-9][0-9]?)", balance):
        return "canary", int(found[1])
    if balance in ALGORITHMS and balance != "canary":
        return balance, 1
    choices = "least_conn, round_robin, ip_hash, or canary:N with N from 1 to 99"
    raise Refused(f"The balance {balance!r} is unknown; use {choices}.")


def weights(percent: int, count: int) -> list[int]:
    """One weight a replica, of which the last of ``count`` has ``percent`` of all together."""
    last = percent * (count - 1)
    scale = max(1.0, last / LARGEST)
    return [*(max(1, round((100 - percent) / scale)) for _ in range(count - 1)), max(1, round(last / scale))]


def backends(replicas: Sequence[str], percent: int) -> str:
    """HAProxy's backends. Only one asks the replicas how they are; the others follow what it finds."""
    lines = []
    for backend, algorithm in ALGORITHMS.items():
        lines += [f"backend {backend}", f"    balance {algorithm}"]
        lines += ["    hash-type consistent"] if algorithm == "source" else []
        given = weights(percent, len(replicas)) if backend == "canary" else [100] * len(replicas)
        for number, (replica, weight) in enumerate(zip(replicas, given, strict=True), 1):
            follow = "" if backend == DEFAULT else f" no-check track {DEFAULT}/replica-{number}"
            lines.append(f"    server replica-{number} {replica} weight {weight}{follow}")
    return "\n".join([*lines, *_last_resort(replicas)]) + "\n"


def _last_resort(replicas: Sequence[str]) -> list[str]:
    """For the moment in which no replica is up by the checks, as one that has come back: each is tried all the same."""
    lines = ["backend last_resort", "    balance roundrobin"]
    return lines + [f"    server replica-{number} {replica} no-check" for number, replica in enumerate(replicas, 1)]


def commands(balance: str, count: int, folder: Path) -> list[str]:
    """What HAProxy is asked for a choice: the shares first, so that no request meets those of an earlier canary."""
    backend, percent = parse(balance)
    shares = weights(percent, count) if backend == "canary" else []
    found = [f"set server canary/replica-{number} weight {share}" for number, share in enumerate(shares, 1)]
    return [*found, f"set map {folder / 'balance.map'} balance {backend}"]


def change(balance: str, count: int, folder: Path) -> None:
    """Change a running proxy, then what the next start begins with.

    Raises:
        Refused: the choice is unknown, or the proxy did not do as it was asked.
    """
    for command in commands(balance, count, folder):
        if answer := _ask(folder / "proxy.sock", command):
            raise Refused(f"HAProxy refused {command!r}: {answer}")
    _replace(folder / "balance", balance)


def kept(folder: Path) -> str:
    """The choice that was last said."""
    file = folder / "balance"
    return file.read_text().strip() if file.exists() else DEFAULT


def start(replicas: Sequence[str], folder: Path, config: Path) -> None:
    """Write what HAProxy reads, and become it."""
    backend, percent = parse(kept(folder))
    _replace(folder / "balance.map", f"balance {backend}\n")
    _replace(folder / "backends.cfg", backends(replicas, percent))
    os.environ["AIRLOOP_LISTEN"] = os.environ.get("AIRLOOP_LISTEN") or ":8000"
    os.environ["AIRLOOP_PROXY_FOLDER"] = str(folder)
    words = ["haproxy", "-db", "-f", str(config), "-f", str(folder / "backends.cfg")]
    os.execvp("haproxy", words)  # noqa: S606 - checked words; a shell would only stay between the signals and HAProxy


def _ask(path: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        try:
            client.connect(str(path))
            client.sendall(f"{command}\n".encode())
            return client.makefile().read().strip()
        except OSError as error:
            raise Refused(f"The proxy does not answer at {path}: {error}. See `docker compose logs proxy`.") from None


def _replace(file: Path, text: str) -> None:
    staged = file.with_name(f".{file.name}.{os.getpid()}")
    staged.write_text(text)
    staged.replace(file)


def run(words: Sequence[str], replicas: Sequence[str], folder: Path) -> str:
    """Do what the command line says; returns the balance.

    Raises:
        Refused: it cannot be done.
    """
    if not replicas:
        raise Refused("AIRLOOP_REPLICAS is empty; name host:port of each replica, separated by spaces.")
    if len(words) > 1:
        raise Refused("Say one balance, for example `balance canary:5`.")
    if list(words) == ["--start"]:
        start(replicas, folder, Path(os.environ.get("AIRLOOP_PROXY_CONFIG") or "/etc/airloop/haproxy.cfg"))
    for balance in words:
        change(balance, len(replicas), folder)
    return kept(folder)


def main(words: Sequence[str]) -> None:
    """Say the balance, or why it did not change."""
    folder = Path(os.environ.get("AIRLOOP_PROXY_FOLDER") or "/var/lib/proxy")
    try:
        print(f"balance: {run(words, os.environ.get('AIRLOOP_REPLICAS', '').split(), folder)}")
    except Refused as refused:
        sys.exit(str(refused))


if __name__ == "__main__":
    main(sys.argv[1:])
