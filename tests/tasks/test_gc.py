"""gc by a property: in any home, planted garbage goes, and what is needed or young stays, to the last object."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks import gc
from tasks.core.errors import AirloopError, ConfigError
from tasks.landing import landed_index
from tasks.registry import ledger, versions
from tasks.retention import found
from tasks.retention.settings import Retention, retention
from tasks.settings.environment import Environment
from tasks.storage.artefacts import Store, sha256, to_json
from tasks.storage.state_file import StateFile

NOW = time.time()
AGES = st.sampled_from([0.1, 1.0, 5.0, 20.0, 100.0, 500.0, 1000.0])
"""Days, on both sides of every limit."""
KEEP = Retention(grace=2, workspaces=7, records=730, data=30, predictions=400)


class World:
    """A home in the making, which knows what must be there after a clean-up."""

    def __init__(self, root: Path) -> None:
        self.root, self.count = root, 0
        self.where = Environment(home=root, code=root / "checkout")
        self.model = "flights"
        """Whose part of the store is planted next."""
        self.remote, self.cache = root / "remote", root / "cache"
        self.stays: set[Path] = set()
        self.goes: set[Path] = set()

    @property
    def store(self) -> Store:
        return Store(self.where.store_url).part(self.model)

    def put(self, path: Path, content: bytes, age: float, *, stays: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (NOW - age * 86400,) * 2)
        (self.stays if stays or age < KEEP.grace else self.goes).add(path)

    def keep(self, name: str, content: bytes, age: float, *, stays: bool = True) -> None:
        self.put(self.root / "store" / self.model / name, content, age, stays=stays)

    def unique(self) -> str:
        self.count += 1
        return str(self.count)

    def data(self, age: float, *, stays: bool, folder: bool = False) -> str:
        """An object in remote and cache, or a folder of two; returns its md5."""
        files = [f"row {self.unique()}".encode() for _ in range(2 if folder else 1)]
        digests = [hashlib.md5(content).hexdigest() for content in files]
        contents = dict(zip(digests, files, strict=True))
        if folder:
            listing = json.dumps([{"md5": d, "relpath": str(n)} for n, d in enumerate(digests)]).encode()
            digests = [hashlib.md5(listing).hexdigest() + ".dir"]
            contents[digests[0]] = listing
        for digest, content in contents.items():
            for odb in (self.remote, self.cache):
                self.put(odb / "files/md5" / digest[:2] / digest[2:], content, age, stays=stays)
        return digests[0]

    def lock(self, age: float, *, stays: bool) -> dict[str, object]:
        outs = [
            {"path": "a", "md5": self.data(age, stays=stays)},
            {"path": "b", "md5": self.data(age, stays=stays, folder=True)},
        ]
        deps = [{"path": "c", "md5": self.data(age, stays=stays)}, {"path": "tasks/x.py"}]
        return {f"stage{self.unique()}": {"cmd": "x", "deps": deps, "outs": outs}}

    def code(self, age: float, *, stays: bool) -> str:
        tree = sha256(self.unique().encode())
        self.put(self.root / f"store/code/{tree}.tar.gz", b"code", age, stays=stays)
        return tree

    def run_json(self, key: str, age: float, *, stays: bool) -> bytes:
        code = {"revision": "r", "dirty": False, "tree": self.code(age, stays=stays)}
        asked = {"key": key, "dag": "train", "month": "2013-03", "overrides": {}, "code": code}
        return to_json(asked)

    def run(self, age: float, *, stays: bool = False) -> str:
        """A run's record; its data were made when it was."""
        key = f"train-{self.unique()}"
        here = stays or age < KEEP.records
        self.keep(f"runs/{key}/run.json", self.run_json(key, age, stays=here), age, stays=here)
        stages = self.lock(age, stays=age < KEEP.data)
        self.keep(f"runs/{key}/dvc.lock", yaml.safe_dump({"stages": stages}).encode(), age, stays=here)
        self.keep(f"runs/{key}/gate.json", b"{}", age, stays=here)
        return key

    def version(self, age: float, *, live: bool) -> None:
        run = self.run(age, stays=True)
        onnx = f"model {self.unique()}".encode()
        model = sha256(onnx)
        self.keep(f"models/{model}/model.onnx", onnx, age)
        self.keep(f"models/{model}/record-{'f' * 16}/run.json", b"of another try", age, stays=False)
        lock = yaml.safe_dump({"stages": self.lock(age, stays=True)}).encode()
        files = {"dvc.lock": lock, "run.json": self.run_json(run, age, stays=True)}
        record = versions.put_record(self.store, model, files)
        for name, content in files.items():
            self.keep(f"models/{model}/record-{record}/{name}", content, age)
        tags = {"run": run, "onnx": model, "contract": "c" * 64, "gate": "d" * 64, "data_through": "2013-03"}
        number = len(versions.read_all(self.store)) + 1
        made = versions.claim(self.store, number, record, {f"airloop.{k}": v for k, v in tags.items()})
        assert made
        self.stays.add(self.root / f"store/{self.model}/versions/{number:06d}.json")
        if live:
            book = ledger.Ledger(self.store)
            entry = book.append(
                expect=len(book.entries()),
                action="promote",
                to_version=number,
                effective_from="2013-04",
                who="t",
                why="t",
                evidence=made.evidence,
            )
            self.stays.add(self.root / f"store/{self.model}/ledger/{entry.seq:06d}.json")

    def landed(self, interval: str, age: float) -> None:
        files = {table: f"state/{interval}-{self.unique()}-{table}.parquet" for table in ("flights", "weather")}
        for name in files.values():
            self.keep(name, b"state", age)
        lock = self.lock(age, stays=True)
        record = {
            "interval": interval, "previous": interval, "run": self.run(age, stays=True), "manifest": "m",
            "features": self.data(age, stays=True), "counts": {}, "lock": lock,
            "state": {table: {"name": name, "sha256": "0"} for table, name in files.items()},
        }  # fmt: skip
        self.keep(f"landed/{interval}.json", to_json(record), age)

    def model_of_nobody(self, age: float) -> None:
        self.keep(f"models/{sha256(self.unique().encode())}/model.onnx", b"never registered", age, stays=False)

    def state_of_nobody(self, age: float) -> None:
        self.keep(f"state/2013-01-{self.unique()}-flights.parquet", b"before a correction", age, stays=False)

    def predictions(self, age: float) -> None:
        self.keep(f"online/day-{self.unique()}/p-0.jsonl", b"{}", age, stays=age < KEEP.predictions)
        self.keep(f"predictions/2013-03/v{self.unique()}.parquet", b"rows", age)

    def checkpoint(self, age: float) -> None:
        self.keep(f"checkpoints/xgboost-{self.unique()}/1-x.json", b"{}", age, stays=age < KEEP.checkpoints)

    def workspace(self, age: float) -> None:
        """A folder of a run, whose lock names what its record does not yet."""
        key = self.unique()
        stages = self.lock(age, stays=True)  # as long as the workspace is there
        self.put(self.root / f"runs/{key}/dvc.lock", yaml.safe_dump({"stages": stages}).encode(), age, stays=age < 7)
        os.utime(self.root / f"runs/{key}", (NOW - age * 86400,) * 2)

    def broken_upload(self, age: float) -> None:
        self.put(self.remote / f"files/md5/ab/upload{self.unique()}.tmp", b"half", age, stays=False)

    def unfinished(self, age: float) -> None:
        """What a writer left that was killed; the grace is for one that is still at work."""
        self.keep(f"landed/.2013-01.json.{self.unique()}.partial", b"half", age, stays=age < KEEP.grace)

    def collect(self) -> list[found.Garbage]:
        garbage, _ = found.find(self.store.shared, self.where, KEEP, NOW)
        return garbage

    def there(self) -> set[Path]:
        return {path for path in self.root.rglob("*") if path.is_file()}


MODELS = ("flights", "another")
KINDS = (
    "run",
    "model_of_nobody",
    "state_of_nobody",
    "predictions",
    "checkpoint",
    "workspace",
    "broken_upload",
    "unfinished",
)


@settings(max_examples=20, deadline=None)
@given(
    models=st.lists(st.tuples(AGES, st.booleans()), max_size=3),
    intervals=st.lists(AGES, max_size=3),
    others=st.lists(st.tuples(st.sampled_from(KINDS), AGES), max_size=12),
    orphans=st.lists(AGES, max_size=4),
)
@example(models=[], intervals=[], others=[(kind, age) for kind in KINDS for age in (0.1, 5.0, 1000.0)], orphans=[])
def test_what_is_planted_goes_and_what_is_needed_stays(models, intervals, others, orphans) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder).resolve())
        for number, (age, live) in enumerate(models):
            world.model = MODELS[number % 2]
            world.version(age, live=live)
        for number, age in enumerate(intervals, 1):
            world.model = MODELS[number % 2]
            world.landed(f"2013-{number:02d}", age)
        for number, (kind, age) in enumerate(others):
            world.model = MODELS[number % 2]
            getattr(world, kind)(age)
        for age in orphans:
            world.data(age, stays=False, folder=True)
            world.code(age, stays=False)
        assert world.there() == world.stays | world.goes
        garbage = world.collect()
        assert world.there() == world.stays | world.goes, "looking deletes nothing"
        gc.delete(garbage)
        assert world.there() == world.stays
        assert [item for item in world.collect() if item.kind != "DVC's data"] == []


def test_what_the_index_of_landed_intervals_names_stays_and_what_was_merged_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landed_index, "IN_HEAD", 2)
    world = World(tmp_path)
    for month in range(1, 10):
        world.landed(f"2013-{month:02d}", 100)
    index = landed_index.opened(world.store)
    state = {"rows": StateFile(name="state/2013-10-x-rows.parquet", sha256="0")}
    for month in range(10, 13):  # whose records are not written yet
        labels = world.data(100, stays=True)
        item = index["2013-09"].model_copy(update={"interval": f"2013-{month}", "state": state, "labels": labels})
        landed_index.add(world.store, item)
    world.keep("state/2013-10-x-rows.parquet", b"x", 100)
    before = list(landed_index.read(world.store))
    used = {chunk.name for chunk in landed_index.read(world.store).head.chunks}
    for name in world.store.names("index"):
        merged = name.startswith("index/chunks/") and name not in used
        world.keep(name, world.store.read(name), 100, stays=not merged)
    assert [path.suffix for path in world.goes if "chunks" in path.parts] == [".json"], "one was merged into another"
    gc.delete(world.collect())
    assert world.there() == world.stays
    assert list(landed_index.read(world.store)) == before


def test_a_prediction_s_state_can_be_read_as_long_as_the_prediction(tmp_path: Path) -> None:
    world = World(tmp_path)
    for age, name, stays in ((1000, "a", False), (500, "b", True), (300, "c", True)):
        world.keep(f"state/{name}", b"x", age, stays=stays)
        world.keep(f"online/states/{name}.json", to_json({"2013-01": {"flights": f"state/{name}"}}), age, stays=stays)
    gc.delete(world.collect())
    assert world.there() == world.stays, "b was in use until c came, 300 days ago"


@pytest.mark.parametrize("name", ["ledger/000001.json", "versions/000001.json"])
def test_a_store_of_one_model_is_refused_whole(tmp_path: Path, name: str) -> None:
    """Its folders would pass for models without a version, and all of its code for garbage."""
    world = World(tmp_path)
    world.code(100, stays=True)
    world.put(tmp_path / "store" / name, b"{}", 100, stays=True)
    with pytest.raises(ConfigError, match="Move every folder in it but code/"):
        world.collect()


def test_a_record_that_cannot_be_read_stops_everything(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.version(100, live=True)
    world.model_of_nobody(100)
    (record,) = (tmp_path / "store/flights/models").rglob("dvc.lock")
    record.write_text("{")
    with pytest.raises(AirloopError, match="nothing is deleted"):
        world.collect()


def test_a_setting_that_is_no_number_of_days_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOOP_RETAIN_LOGS", "an interval")
    retention.cache_clear()
    with pytest.raises(ConfigError, match=r"AIRLOOP_RETAIN_LOGS='an interval' is no number of days"):
        retention()
    retention.cache_clear()
