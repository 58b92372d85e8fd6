"""Checkpoints in the artefact store: whole or not there, written beside the training, found by digest.

An object is named ``checkpoints/<training>/<position>-<sha256><suffix>``: its name says whether its content is intact, so one
write makes it valid and nothing needs to point to it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tasks.common.artefacts import Store, sha256
from tasks.common.params import CheckpointParams

NAME = re.compile(r"/(?P<position>\d{12})-(?P<sha256>[0-9a-f]{64})\.\w+$")


@dataclass(frozen=True)
class Checkpoint:
    """A training as it stood after ``position`` steps."""

    position: int
    content: bytes


class Checkpoints:
    """The checkpoints of one training.

    Args:
        store: where they are kept; None keeps none.
        training: what is trained on what, by which code: equal for trainings that give equal bytes.
        settings: when to write, and how many to keep.
    """

    def __init__(self, store: Store | None, training: str, settings: CheckpointParams) -> None:
        self._store, self._folder, self._settings = store, f"checkpoints/{training}", settings
        self._writer: threading.Thread | None = None
        self._failed: BaseException | None = None
        self._last_position, self._last_time = 0, time.monotonic()
        self.waited = 0.0
        """Seconds that training has waited for a checkpoint before it was written."""

    def latest(self) -> Checkpoint | None:
        """The newest that is intact; a damaged one is passed over with a warning."""
        if self._store is None:
            return None
        for name in reversed(self._names()):
            found = NAME.search(name)
            assert found
            with suppress(FileNotFoundError):
                content = self._store.read(name)
                if sha256(content) == found["sha256"]:
                    self._last_position = int(found["position"])
                    return Checkpoint(self._last_position, content)
                print(f"warning: checkpoint {self._store.uri(name)} is damaged; an older one is used", flush=True)
        return None

    def due(self, position: int) -> bool:
        """Whether enough steps or seconds have passed since the last."""
        steps, seconds = position - self._last_position, time.monotonic() - self._last_time
        return steps >= self._settings.steps or seconds >= self._settings.seconds

    def put(self, position: int, suffix: str, make: Callable[[], bytes]) -> None:
        """Have the bytes that ``make`` returns written by another thread.

        ``make`` runs there too: it must hold a copy of what training goes on to change. Waits for the one before.
        """
        started = time.monotonic()
        self.flush()
        self._last_position, self._last_time = position, time.monotonic()
        self.waited += self._last_time - started
        self._writer = threading.Thread(target=self._write, args=(position, suffix, make), name="checkpoint")
        self._writer.start()

    def flush(self) -> None:
        """Wait until what was put is written; OSError when it could not be."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def clear(self) -> None:
        """Delete them: the training is done."""
        self.flush()
        if self._store is not None:
            for name in self._names():
                self._store.delete(name)

    def _write(self, position: int, suffix: str, make: Callable[[], bytes]) -> None:
        if self._store is None:
            return
        try:
            content = make()
            self._store.write(f"{self._folder}/{position:012d}-{sha256(content)}{suffix}", content)
            for name in self._names()[: -self._settings.keep]:
                self._store.delete(name)
        except BaseException as error:  # noqa: BLE001 - handed to the training's own thread
            self._failed = error

    def _names(self) -> list[str]:
        assert self._store is not None
        return [name for name in self._store.names(self._folder) if NAME.search(name)]

    @property
    def place(self) -> dict[str, str] | None:
        """Where they are and whose, in plain JSON for ``at`` in another process; None where none are kept."""
        return None if self._store is None else {"store": self._store.url, "training": self._folder.rpartition("/")[2]}

    @classmethod
    def at(cls, place: dict[str, str] | None, settings: CheckpointParams) -> Checkpoints:
        """Those of ``place``."""
        return cls(None, "", settings) if place is None else cls(Store(place["store"]), place["training"], settings)
