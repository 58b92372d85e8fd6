"""Checkpoints in the artefact store: whole or not there, written beside the training, found by digest.

An object is named ``checkpoints/<training>/<position>-<sha256><suffix>``: its name says whether its content is intact, so one
write makes it valid and nothing needs to point to it. docs/adr/0018-checkpoints-named-by-their-content.md says why.

A checkpoint is an insurance. What goes wrong while one is written is said once, counted, said again at the end, and ends no
training; only what is kept already must be readable, because a training that begins again may throw days away.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tasks.core.errors import warn
from tasks.settings.training_params import CheckpointParams
from tasks.storage.artefacts import Store, sha256

FOLDER = "checkpoints"
NAME = re.compile(r"/(?P<position>\d{12})-(?P<sha256>[0-9a-f]{64})\.\w+$")
WAIT = 20.0
"""Seconds that a training waits at most for a write that is under way: less than a pod has between SIGTERM and SIGKILL."""


@dataclass(frozen=True)
class Checkpoint:
    """A training as it was after ``position`` steps."""

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
        self._store, self._folder, self._settings = store, f"{FOLDER}/{training}", settings
        self._writer: threading.Thread | None = None
        self._damaged: set[str] = set()
        self._last_position, self._last_time = 0, time.monotonic()
        self.waited = 0.0
        """Seconds that training has waited here."""
        self.written = 0
        """Checkpoints that were written."""
        self.lost: list[str] = []
        """Why each of the others was not."""

    def latest(self) -> Checkpoint | None:
        """The newest that is intact; a damaged one is passed over with a warning.

        Raises:
            OSError: the store cannot be read. Nothing is spent yet, so the training is better tried again than begun again.
        """
        if self._store is None:
            return None
        for name in reversed(self._names()):
            found = NAME.search(name)
            assert found
            with suppress(FileNotFoundError):  # a training with the same name went on and has pruned it
                content = self._store.read(name)
                if sha256(content) == found["sha256"]:
                    self._last_position, self._last_time = int(found["position"]), time.monotonic()
                    return Checkpoint(self._last_position, content)
                self._damaged.add(name)
                warn(f"checkpoint {self._store.uri(name)} is damaged; an older one is used, if there is one")
        return None

    def due(self, position: int) -> bool:
        """Whether enough steps or seconds have passed since the last; never while that is still being written."""
        if self._writer is not None and self._writer.is_alive():
            return False
        steps, seconds = position - self._last_position, time.monotonic() - self._last_time
        return steps >= self._settings.steps or seconds >= self._settings.seconds

    def put(self, position: int, suffix: str, make: Callable[[], bytes]) -> None:
        """Have the bytes that ``make`` returns written by another thread.

        ``make`` runs there too: it must hold a copy of what training goes on to change. Waits for the one before.
        """
        if self._store is None or (position == self._last_position and not self.lost):
            return  # what is there is the same, byte for byte
        started = time.monotonic()
        if self.flush():
            # A daemon: one that hangs must not keep a process alive that was asked to end.
            work = (self._store, position, suffix, make)
            self._writer = threading.Thread(target=self._write, args=work, name="checkpoint", daemon=True)
            self._writer.start()
        else:
            self._lose(position, f"the one before was not written within {WAIT:.0f} s")
        self._last_position, self._last_time = position, time.monotonic()
        self.waited += self._last_time - started

    def flush(self) -> bool:
        """Wait until what was put is written, or could not be; False when neither is so after WAIT seconds."""
        if self._writer is not None:
            self._writer.join(WAIT)
            if self._writer.is_alive():
                return False
            self._writer = None
        return True

    def clear(self) -> None:
        """Delete them, and say how many were lost: the training is done, or begins again."""
        if self.lost:
            warn(
                f"{len(self.lost)} of {len(self.lost) + self.written} checkpoints were not written, the last because "
                f"{self.lost[-1]}; had this training been interrupted, it would have lost more than train.checkpoint says"
            )
        if self._store is None or not self.flush():
            return
        self._last_position = 0
        try:
            self._store.delete_all(self._folder)
        except Exception as error:  # noqa: BLE001 - libraries of stores have exceptions of their own
            # Tidying up must not fail a training that is done.
            where = self._store.uri(self._folder)
            warn(f"checkpoints in {where} could not be deleted ({type(error).__name__}: {error}); `airloop gc` does it")

    def _write(self, store: Store, position: int, suffix: str, make: Callable[[], bytes]) -> None:
        try:
            content = make()
            name = f"{self._folder}/{position:012d}-{sha256(content)}{suffix}"
            store.write(name, content)
            self.written += 1
            self._damaged.discard(name)
            for name in self._names()[: -self._settings.keep]:
                store.delete(name)
        except Exception as error:  # noqa: BLE001 - libraries of stores have exceptions of their own; none may end a training
            self._lose(position, f"{type(error).__name__}: {error}")

    def _lose(self, position: int, why: str) -> None:
        if not self.lost:
            warn(
                f"the checkpoint at {position} was not written ({why}); training goes on and tries again when the next is due"
            )
        self.lost.append(why)

    def _names(self) -> list[str]:
        """Oldest first. A damaged one is none of them, or newer ones would be pruned in its favour."""
        assert self._store is not None
        return [name for name in self._store.names(self._folder) if NAME.search(name) and name not in self._damaged]

    @property
    def place(self) -> dict[str, str] | None:
        """Where they are and whose, in plain JSON for ``at`` in another process; None where none are kept."""
        return None if self._store is None else {"store": self._store.url, "training": self._folder.rpartition("/")[2]}

    @classmethod
    def at(cls, place: dict[str, str] | None, settings: CheckpointParams) -> Checkpoints:
        """Those of ``place``."""
        return cls(None, "", settings) if place is None else cls(Store(place["store"]), place["training"], settings)
