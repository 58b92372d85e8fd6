"""An S3 store for the tests: the one that was given, or SeaweedFS on this machine."""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import httpx

from .settings import Settings, address_for_pods

BUCKET = "airloop"


@contextmanager
def running(settings: Settings, folder: Path) -> Iterator[dict[str, str]]:
    """Environment variables of a store that this machine and the pods reach; one that was started here ends with the block."""
    import os

    if settings.s3_endpoint:
        given = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
        lacking = [name for name in given if not os.environ.get(name)]
        assert not lacking, f"S3_ENDPOINT was given without {', '.join(lacking)} in the environment."
        yield {"AWS_ENDPOINT_URL": settings.s3_endpoint, **{name: os.environ[name] for name in given}}
        return
    keys = {"AWS_ACCESS_KEY_ID": "airloop", "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24)}
    with _weed(address_for_pods(settings), folder, {**os.environ, **keys}) as url:
        yield {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", **keys}


@contextmanager
def folder_in_bucket(name: str) -> Iterator[str]:
    """URL of a folder of the environment's store, which is emptied at the end."""
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    if not files.exists(BUCKET):
        files.mkdir(BUCKET)
    try:
        yield f"s3://{BUCKET}/{name}"
    finally:
        files.invalidate_cache()
        if files.exists(f"{BUCKET}/{name}"):
            files.rm(f"{BUCKET}/{name}", recursive=True)


@contextmanager
def _weed(address: str, folder: Path, environ: dict[str, str]) -> Iterator[str]:
    folder.mkdir(parents=True)
    s3, master, volume, filer = _free_ports(address, 4)
    command = [
        "weed", "server", f"-dir={folder}", f"-ip={address}", f"-ip.bind={address}", "-volume.max=50",
        "-master.volumeSizeLimitMB=512", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
        "-s3", f"-s3.port={s3}",
    ]  # fmt: skip
    with (folder / "weed.log").open("w") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        url = f"http://{address}:{s3}"
        _wait(url, process, folder / "weed.log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None and time.monotonic() < deadline, f"weed did not start:\n{log.read_text()[-2000:]}"
        try:
            httpx.get(f"{url}/healthz", timeout=5)
        except httpx.HTTPError:
            time.sleep(0.3)
        else:
            return


def _free_ports(address: str, count: int) -> list[int]:
    """Ports of which each has the one 10,000 above it free as well, where SeaweedFS puts its gRPC."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as low, socket.socket() as high:
            low.bind((address, 0))
            port = low.getsockname()[1]
            if port + 10_000 > 65_535 or port in found:
                continue
            try:
                high.bind((address, port + 10_000))
            except OSError:
                continue
            found.append(port)
    return found
