"""A landing zone and a workspace of a test's own, and real rows of the example to put there."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from models.flights import landing
from tasks.core.urls import url_of
from tasks.settings.environment import environment
from tasks.storage.artefacts import Store, sha256, to_json
from tests.makers import put_settings

INTERVAL = "2013-02"
"""The interval with the bad record."""

Tables = dict[str, tuple[list[str], list[list[str]]]]


@dataclasses.dataclass(frozen=True)
class Place:
    """A test's landing zone, store (a model's part of each) and workspace."""

    landing: Path
    workspace: Path
    store: Path
    environ: dict[str, str]
    run: Callable[..., None]
    """``run(tasks.ingest)`` runs a stage's main() in the workspace; ``interval=`` picks another interval than INTERVAL."""

    def land(self, tables: Tables, interval: str = INTERVAL) -> None:
        """Land these rows as they are, with a manifest that is right."""
        for name, (header, rows) in tables.items():
            self.put(f"{name}.csv.gz", landing.to_csv_gz(header, rows), len(rows), interval)

    def put(self, name: str, data: bytes, rows: int, interval: str = INTERVAL) -> None:
        """Land one file of any content, with a manifest entry that is right about its bytes."""
        manifest = self.landing / interval / "manifest.json"
        files = json.loads(manifest.read_bytes())["files"] if manifest.exists() else {}
        files[name] = {"sha256": sha256(data), "bytes": len(data), "rows": rows}
        Store(url_of(self.landing)).write(f"{interval}/{name}", data)
        manifest.write_bytes(to_json({"interval": interval, "files": files}))

    def written(self) -> list[str]:
        """Everything a stage made, the manifest aside."""
        data = self.workspace / "data"
        found = sorted(p.relative_to(data).as_posix() for p in data.rglob("*") if p.is_file())
        return [name for name in found if not name.startswith("manifests/")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    put_settings(workspace, [INTERVAL])
    folders = {name: tmp_path / name for name in ("landing", "store")}
    environ = {f"AIRLOOP_{name.upper()}": url_of(path) for name, path in folders.items()}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(workspace)
    environment.cache_clear()

    def run(stage: ModuleType, interval: str = INTERVAL) -> None:
        monkeypatch.setattr(sys, "argv", [str(stage.__file__), "--interval", interval])
        stage.main()

    yield Place(folders["landing"] / "flights", workspace, folders["store"] / "flights", environ, run)
    environment.cache_clear()


@pytest.fixture(scope="session")
def archive() -> Path:
    """The example's source distribution: AIRLOOP_SOURCE, or fetched once into AIRLOOP_HOME."""
    environment.cache_clear()
    return landing.source()


@pytest.fixture(scope="session")
def year(archive: Path) -> Tables:
    """All rows of 2013."""
    return landing.read_tables(archive)


@pytest.fixture(scope="session")
def small(year: Tables) -> Tables:
    """Three days of INTERVAL, the one with the bad record among them: 2,600 flights, 215 observations."""
    chosen: Tables = {}
    for table, (header, rows) in year.items():
        month, day = header.index("month"), header.index("day")
        chosen[table] = header, [row for row in rows if row[month] == "2" and row[day] in ("11", "12", "13")]
    return chosen
