"""Two versions of a model, each served and scored as it was trained, while one takes the other's place and gives it back.

v1 is of this checkout. v2 is of a newer one: a feature more, which looks back 30 days, and another length of an old window. Both
are trained by the real stages; the service and the scoring run the newer code. Landed are the rows of two carriers from one origin.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.flights import landing
from models.flights.definitions import KEY
from models.flights.model import MODEL
from tasks.core.urls import url_of
from tasks.modelling import model
from tasks.registry import versions
from tasks.registry.ledger import Evidence, Ledger
from tasks.settings import settings_files
from tasks.settings.settings_files import put
from tasks.storage.artefacts import Store, sha256_file
from tests.serving.test_swap import serving
from tests.serving.world import CODE, World
from tests.waiting import until

INTERVAL = "2013-03"
STAGES = ("manifest", "ingest", "validate", "labels", "features")
LANDED = ("--first", "2013-01", "--last", INTERVAL)
WARMUP = ("--first", "2013-01", "--last", "2013-02")
DAYS = {"1": (20, 31), "3": (1, 9)}
"""Of January and March: February has 28 days, so the first days of March look back on both."""
AT_ONCE = 25

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@dataclass
class Home:
    """A home with a store, a landing zone and a DVC remote, in which checkouts work."""

    root: Path

    @property
    def store(self) -> Store:
        return Store(url_of(self.root / "store")).part("flights")

    def run(self, code: Path, *words: str) -> None:
        """``python -m tasks.running WORDS`` of a checkout; words[1] is the run's key."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRLOOP_", "AIRFLOW"))}
        environ = {**kept, "PYTHONPATH": str(code), "AIRLOOP_CODE": str(code), "AIRLOOP_HOME": str(self.root), "AIRLOOP_MODEL": "flights",
                   "AIRLOOP_STORE": url_of(self.root / "store"), "MLFLOW_TRACKING_URI": ""}  # fmt: skip
        action, key, *rest = words
        argv = [sys.executable, "-m", "tasks.running", action, "--run", key, *rest]
        done = subprocess.run(argv, cwd=code, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def ingest(self, code: Path, key: str) -> None:
        """Take all landed intervals in."""
        self.run(code, "stage", key, *STAGES, *LANDED, "--begins")
        self.run(code, "job", key, "publish", *LANDED)

    def register(self, version: int, key: str) -> Evidence:
        """Keep what a training run made as a version, as the job register does, without MLflow."""
        root, store = self.root / "runs" / key, self.store
        digest = sha256_file(root / "model/model.onnx")
        for name in ("model.onnx", "contract.json"):
            store.write(f"models/{digest}/{name}", (root / "model" / name).read_bytes())
        store.write_json(f"models/{digest}/smoke.json", tried(root, digest))
        settings = settings_files.recorded("flights")
        record = versions.put_record(
            store, digest, {n: (root / n).read_bytes() for n in (*settings, *versions.REBUILD)}
        )
        tags = {
            "run": key,
            "onnx": digest,
            "contract": sha256_file(root / "model/contract.json"),
            "data_through": "2013-02",
        }
        tags |= {f"settings.{name}": sha256_file(root / name) for name in settings}
        found = versions.claim(store, version, record, {f"airloop.{name}": value for name, value in tags.items()})
        assert found is not None
        return found.evidence

    def make_live(self, action: str, version: int) -> None:
        book = Ledger(self.store)
        book.append(
            expect=len(book.entries()), action=action, to_version=version, effective_from=INTERVAL, who="test", why="test",
            evidence=versions.read(self.store, version).evidence,
        )  # fmt: skip

    def score(self, code: Path, key: str) -> Scored:
        self.run(code, "job", key, "score", "--first", INTERVAL, "--begins")
        folder = f"predictions/{INTERVAL}"
        scored = self.store.read_json(f"{folder}/scored.json")
        return Scored(scored, {int(v[1:]): self.store.read(f"{folder}/{v}.parquet") for v in scored["predictions"]})


def tried(root: Path, digest: str) -> list[dict[str, Any]]:
    """A few rows with what the model says of them, as the evaluation keeps them for the service to try."""
    found = model.load(*((root / "model" / name).read_bytes() for name in ("model.onnx", "contract.json")), digest)
    table = pq.read_table(root / "data/features/2013-02.parquet").slice(0, 5)
    rows = table.select(found.contract.names).to_pylist()
    return [{"features": row, "probability": p} for row, p in zip(rows, found.score(table).tolist(), strict=True)]


@dataclass
class Scored:
    """scored.json, and the files that it names."""

    said: dict[str, Any]
    files: dict[int, bytes]

    def table(self, version: int) -> pa.Table:
        return pq.read_table(io.BytesIO(self.files[version]))


@dataclass
class Story:
    """What was scored at each step, and what a client was answered all the while."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    scored: dict[str, Scored] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    answers: list[tuple[int, int, float]] = field(default_factory=list)
    """Version, row and probability."""


def newer(root: Path) -> Path:
    """A checkout whose flights have a feature more, and count late departures over six hours in place of three."""
    for name in ("models", "tasks", "serving"):
        shutil.copytree(CODE / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", "jobs.yaml"):
        shutil.copy(CODE / name, root)
    flights = root / "models/flights"
    shutil.copy(Path(__file__).with_name("newer") / "month.py", flights)
    with (flights / "params.py").open("r+") as file:
        text = file.read()
        file.seek(0)
        file.write(
            text.replace("self.trailing_days + 2", "max(self.trailing_days, self.month_days) + 2").replace(
                "\n\n\nSECTIONS", "\n    month_days: Positive = 30\n\n\nSECTIONS"
            )
        )
    with (flights / "model.py").open("a") as file:
        file.write(
            "\nfrom dataclasses import replace\nfrom models.flights.month import MONTHLY\n"
            "MODEL = replace(MODEL, numbers=(*MODEL.numbers, MONTHLY),\n"
            '    features_sql=Deferred("models.flights.month:monthly_sql"),\n'
            '    online=replace(MODEL.online, state=Deferred("models.flights.month:MonthlyState")))\n'
        )
    put(flights / "params.yaml", {"features.departure_hours": 6})
    environ = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-m", "tasks.spec_file", "flights"], cwd=root, env=environ, check=True)
    return root


def land(home: Home) -> None:
    tables = {}
    for name, (header, rows) in landing.read_tables(landing.source()).items():
        month, day, origin = (header.index(column) for column in ("month", "day", "origin"))
        spans = {number: range(first, last + 1) for number, (first, last) in DAYS.items()}
        chosen = [row for row in rows if row[origin] == "LGA" and int(row[day]) in spans.get(row[month], range(32))]
        if "carrier" in header:
            chosen = [row for row in chosen if row[header.index("carrier")] in ("AA", "MQ")]
        tables[name] = header, chosen
    for interval in ("2013-01", "2013-02", INTERVAL):
        landing.land(interval, tables, Store(url_of(home.root / "landing")).part("flights"))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """v1 is live and asked; v2 is promoted beside features of v1's time, then features of v2's land, then v2 is rolled back."""
    root = tmp_path_factory.mktemp("versions")
    home, after = Home(root / "home"), newer(root / "newer")
    land(home)
    home.ingest(CODE, "ingest-first")
    home.run(CODE, "stage", "train-first", "train", "--first", "2013-02", "--begins")
    home.register(1, "train-first")
    home.run(after, "stage", "train-newer", *STAGES, "train", *WARMUP, "--begins")
    home.register(2, "train-newer")
    home.make_live("promote", 1)
    told = Story()
    with serving(World(home.store), code=after, AIRLOOP_CODE=str(after), AIRLOOP_ONLINE_POLL_SECONDS="0.2") as (url, _):
        asyncio.run(live_through(told, home, after, url))
    return told


async def live_through(told: Story, home: Home, code: Path, url: str) -> None:
    kept = home.root / f"runs/ingest-first/data/kept/{INTERVAL}/flights.parquet"
    told.rows = pq.read_table(kept).sort_by([(name, "ascending") for name in KEY]).to_pylist()
    stop = asyncio.Event()
    client = asyncio.create_task(ask(told, url, stop))
    try:
        await asyncio.to_thread(steps, told, home, code, url)
    finally:
        stop.set()
        await client


def steps(told: Story, home: Home, code: Path, url: str) -> None:
    asked_of(told, 1)
    home.make_live("promote", 2)
    until(lambda: shows(url, 2), "v2 answers")
    told.scored["promoted"] = home.score(code, "score-promoted")
    home.ingest(code, "ingest-newer")
    told.scored["landed again"] = home.score(code, "score-again")
    asked_of(told, 2)
    home.make_live("rollback", 1)
    until(lambda: shows(url, 1), "v1 answers again")
    asked_of(told, 1)


def shows(url: str, version: int) -> bool:
    return bool(httpx.get(f"{url}/models/flights/ready").json()["model_version"] == version)


def asked_of(told: Story, version: int) -> None:
    """Wait until every row has been asked of this version since now."""
    begin = len(told.answers)
    until(
        lambda: len({row for v, row, _ in told.answers[begin:] if v == version}) == len(told.rows), "every row is asked"
    )


async def ask(told: Story, url: str, stop: asyncio.Event) -> None:
    """Ask for the interval's rows, some at a time, again and again."""
    asked = [MODEL.online.as_asked(row) for row in told.rows]
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        while not stop.is_set():
            for first in range(0, len(asked), AT_ONCE):
                response = await client.post(
                    "/models/flights/predict", json={"flights": asked[first : first + AT_ONCE]}
                )
                told.statuses.append(response.status_code)
                if response.is_success:
                    found = enumerate(response.json()["predictions"], start=first)
                    told.answers += [(p["model_version"], row, p["probability_late"]) for row, p in found]
                await asyncio.sleep(0.1)


def test_no_request_fails(story: Story) -> None:
    assert len(story.statuses) > 100
    assert set(story.statuses) == {200}
    order = [version for version, _, _ in story.answers]
    assert [v for n, v in enumerate(order) if n == 0 or order[n - 1] != v] == [1, 2, 1]


@pytest.mark.parametrize("version", [1, 2])
def test_every_answer_is_what_scoring_says_of_the_row(story: Story, version: int) -> None:
    table = story.scored["landed again"].table(version)
    assert table.select(KEY).to_pylist() == [{name: row[name] for name in KEY} for row in story.rows]
    scores = table["probability"].to_pylist()
    wrong = [(row, found, scores[row]) for v, row, found in story.answers if v == version and found != scores[row]]
    assert not wrong, f"{len(wrong)} of {len(story.answers)}, as row, online and batch: {wrong[:3]}"


def test_a_version_scores_the_same_on_whatever_features_have_landed(story: Story) -> None:
    """v2 is scored on its own where those of v1's time have landed, and the other way round."""
    first, second = story.scored.values()
    assert first.files == second.files
    assert first.files[1] != first.files[2]
    assert [set(scored.said["own_features"]) for scored in (first, second)] == [{"v2"}, {"v1"}]
    assert [(scored.said["champion"], scored.said["previous"]) for scored in (first, second)] == [(2, 1), (2, 1)]
