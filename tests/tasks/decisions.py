"""Decisions in one process, on the real ledger and the project's own jobs: a store in memory, a service and an MLflow of a few lines.

Each access to any of them passes a gate, at which a test lets another decision run.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import fsspec
import pytest

from tasks import deploy, online, spec
from tasks.core.errors import AirloopError, Skip
from tasks.online import client
from tasks.online.client import Answer
from tasks.online.replicas import Replicas
from tasks.registry import ledger, versions, view
from tasks.storage import artefacts
from tasks.storage.artefacts import Store, to_json
from tests import clock, makers

SCORES = {version: version / 10 for version in range(1, 10)}
"""Probability that a version answers to its golden row."""
ROW = {"carrier": "B6", "flight": 101, "origin": "JFK", "dest": "SFO", "scheduled_at": 1360848600}
NUMBERS = itertools.count()
BEGINNING: dict[str, bytes] = {}
"""What a home's store holds at first."""


class GatedFiles:
    """A file system that says before each access which it is."""

    def __init__(self, real: Any, gate: Callable[[str], None]) -> None:
        self._real, self._gate = real, gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name in ("cat_file", "pipe_file", "exists", "find", "rm_file"):

            def gated(path: str, *arguments: Any, **more: Any) -> Any:
                self._gate(f"{name} {path}")
                return found(path, *arguments, **more)

            return gated
        return found


class Home:
    """A ledger in which v1, v2 and v3 were promoted, versions that may follow, and a service and an MLflow that know nothing yet.

    Args:
        monkeypatch: puts the service and MLflow in their place.
        wrong: versions whose golden row is answered otherwise.
        refused: versions that the service refuses by name.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, wrong: tuple[int, ...] = (), refused: tuple[int, ...] = ()
    ) -> None:
        self.wrong, self.refused = wrong, refused
        self.gate: Callable[[str], None] = lambda _: None
        self.served: int | None = None
        self.aliases: dict[str, int | None] = {}
        self.fault: Callable[[str, str], Answer | Exception | None] = lambda url, path: None
        """What an address answers in place of the service."""
        self.urls = ["http://online"]
        self.asked: list[str] = []
        root = f"memory://home{next(NUMBERS)}"
        artefacts._PROVEN.add(f"{root}/flights")
        self.store = Store(root).part("flights")
        self.store._fs = GatedFiles(self.store._fs, lambda access: self.gate(access))  # noqa: PLW0108 - the gate is another one by then
        self.book = ledger.Ledger(self.store)
        if not BEGINNING:
            self._begin()
            BEGINNING.update({name: self.store.read(name) for name in self.store.names("")})
        for name, content in BEGINNING.items():
            self.store.write(name, content)
        clock.install(monkeypatch)
        monkeypatch.setattr(online, "service", lambda: Replicas("flights", self.urls))
        monkeypatch.setattr(client, "ask", self.ask)
        monkeypatch.setattr(view, "agree", self.agree)

    def _begin(self) -> None:
        for version in SCORES:
            self.register(version, f"2013-0{version}")
            if version <= 3:
                deploy.promote(f"2013-0{version}", "first", self.book, self.store)

    def register(self, version: int, interval: str) -> None:
        """A version as `register` leaves it."""
        self.register_again(version, interval, f"train-{version}", f"{version:x}" * 64)

    def register_again(self, version: int, interval: str, run: str, model: str = "e" * 64) -> str:
        """A version of ``run`` with this digest, or in place of one that is there."""
        known = {"onnx": model, "contract": "c" * 64, "run": run, "data_through": interval}
        tags = {f"airloop.{name}": value for name, value in {**known, "why": "better"}.items()}
        record, tags = makers.approved(self.store, tags, makers.champion_of(self.book))
        self.store.delete(f"versions/{version:06d}.json")
        assert versions.claim(self.store, version, record, tags)
        self.store.write(f"models/{model}/smoke.json", to_json([{**ROW, "probability": SCORES[version]}]))
        return model

    def ask(self, url: str, path: str, _: Any) -> Answer:
        """The service: it looks at the ledger when told to, and answers a golden row with what it serves."""
        self.gate(f"ask {path}")
        self.asked.append(url + path)
        if (fault := self.fault(url, path)) is not None:
            if isinstance(fault, Exception):
                raise fault
            return fault
        if path.startswith("/-/sync"):
            newest = self.newest()
            refused = newest.to_version if newest.to_version in self.refused else None
            if refused is None:
                self.served = newest.to_version
            said = {"model_version": self.served, "problems": {"model": "no"} if refused else {}, "refused": refused}
            return Answer(503 if refused else 200, said, "")
        version = self.served
        assert version is not None
        probability = SCORES[version] + (0.05 if version in self.wrong else 0)
        one = {"model_version": version, spec.current().online.answer: probability}
        return Answer(200, {"predictions": [one]}, "")

    def newest(self) -> ledger.Entry:
        """The ledger's newest entry; a look that nobody can come between."""
        gate, self.gate = self.gate, lambda _: None
        try:
            found = self.book.latest()
        finally:
            self.gate = gate
        assert found is not None
        return found

    def agree(self, _: Store, champion: int | None, previous: int | None) -> view.Agreed:
        """MLflow: an alias is set whatever it was."""
        self.gate("aliases")
        self.aliases = {"champion": champion, "previous": previous}
        self.gate("aliases are set")
        return view.Agreed()

    def decide(self, *words: str, who: str = "t") -> ledger.Entry:
        """What the command line does."""
        return deploy.decide(deploy.arguments(words), who, ledger.Ledger(self.store), self.store)

    def history(self) -> list[tuple[str, int | None]]:
        """Entries after the first three."""
        return [(entry.action, entry.to_version) for entry in ledger.Ledger(self.store).entries()[3:]]


class Actor:
    """One decision, which runs only while it has its turn.

    Args:
        home: where it decides.
        words: its command line.
        who: decides.
        stop: the access before which it gives its turn back, counted from 1.
        counts: which accesses are counted.
    """

    def __init__(
        self, home: Home, words: tuple[str, ...], who: str, stop: int, counts: Callable[[str], bool] = lambda _: True
    ) -> None:
        self.home, self.words, self.who, self.stop, self.counts = home, words, who, stop, counts
        self.passed = 0
        """Accesses so far."""
        self.began = -1
        """Entries that there were when it looked first,"""
        self.ended = -1
        """and when it ended."""
        self.entry: ledger.Entry | None = None
        self.said = ""
        """Why it brought nothing about."""
        self.crash: BaseException | None = None
        self._mine, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def done(self) -> bool:
        """Whether it has come to its end."""
        return self.ended >= 0

    def go(self) -> None:
        """Let it run to its stop, or to its end."""
        if self.done:
            return
        self.home.gate = self._gate
        if not self._thread.is_alive():
            self._thread.start()
        else:
            self._mine.release()
        assert self._back.acquire(timeout=60), f"{self.words} does not come to an end"
        self.home.gate = lambda _: None

    def _gate(self, access: str) -> None:
        if self.counts(access):
            self.passed += 1
            if self.passed == self.stop:
                self._back.release()
                self._mine.acquire()
        if self.began < 0 and access.startswith("find") and access.endswith("/ledger"):
            self.began = self.home.newest().seq

    def _run(self) -> None:
        try:
            self.entry = self.home.decide(*self.words, who=self.who)
        except (AirloopError, Skip) as error:
            self.said = str(error)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            self.crash = error
        self.ended = self.home.newest().seq
        self._back.release()


def forget() -> None:
    """Delete the stores of all homes."""
    fsspec.filesystem("memory").store.clear()
