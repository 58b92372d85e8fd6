"""The prediction log's writer: a request only puts a tuple into memory, a background thread writes segments."""

from __future__ import annotations

import datetime as dt
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any

import orjson

from serving.live import Live, Prediction
from tasks.online.prediction_log import SCHEMA, prediction_id, segment_name
from tasks.spec import Request
from tasks.storage.artefacts import Store

SEGMENT_LINES = 2000
"""Lines from which a segment is closed; until then it is written again, whole, with what has come."""
SEGMENT_SECONDS = 300
MAX_WAITING = 200_000
"""Lines kept while the store cannot be written; beyond, the oldest segment is given up and counted as lost."""

Record = tuple[str, float, Request, Prediction, Live]


class PredictionLog:
    """Gives every prediction of a model its id and brings it into the store; safe to share between threads."""

    def __init__(self, model: str, store: Store) -> None:
        self._model, self._store = model, store
        self._process = secrets.token_hex(4)
        self._taking, self._writing = threading.Lock(), threading.Lock()
        self._pending: list[Record] = []
        self._unwritten: dict[str, list[bytes]] = {}
        """Lines of the open segment, which is written again as it grows, and of closed ones that failed."""
        self.failing = ""
        """Why the last write failed; empty when it did not."""
        self.lost = 0
        """Lines given up because the store could not be written."""
        self._segment = -1
        self._next_segment()

    def add(self, requests: Sequence[Request], predictions: Sequence[Prediction], live: Live) -> list[str]:
        """Log predictions made with ``live``; returns their ids."""
        assert live.model is not None
        now, version = time.time(), live.model.version
        with self._taking:
            first = self._lines + len(self._pending)
            if not first:
                self._open()  # after days of silence it is not the day that the segment was made ready on
            ids = [
                prediction_id(self._model, self._day, version, self._process, self._segment, first + n)
                for n in range(len(requests))
            ]
            self._pending.extend((i, now, r, p, live) for i, r, p in zip(ids, requests, predictions, strict=True))
        return ids

    @property
    def waiting(self) -> int:
        """Predictions that are not in the store yet."""
        return len(self._pending) + (sum(map(len, self._unwritten.values())) if self.failing else 0)

    def flush(self) -> None:
        """Bring everything added so far into the store; what raises here is kept and tried again next time."""
        with self._writing:
            name, taken = self._take()
            if taken:
                self._unwritten.setdefault(name, []).extend(_line(record) for record in taken)
            try:
                for each in list(self._unwritten) if taken or self.failing else ():
                    self._store.write(each, b"".join(self._unwritten[each]))
                    if each != self._open_name():
                        del self._unwritten[each]
                self.failing = ""
            except Exception as error:
                self.failing = f"{type(error).__name__}: {error}"
                while sum(map(len, self._unwritten.values())) > MAX_WAITING:
                    self.lost += len(self._unwritten.pop(next(iter(self._unwritten))))
                raise

    def _take(self) -> tuple[str, list[Record]]:
        """What was added since the last time and the segment it belongs to, which is closed when full or old."""
        with self._taking:
            name, taken = self._open_name(), self._pending
            self._pending = []
            self._lines += len(taken)
            if self._lines >= SEGMENT_LINES or (self._lines and time.time() - self._opened > SEGMENT_SECONDS):
                self._next_segment()
                if not taken and not self.failing:
                    self._unwritten.pop(name, None)
        return name, taken

    def _open_name(self) -> str:
        return segment_name(self._day, self._process, self._segment)

    def _next_segment(self) -> None:
        self._segment += 1
        self._lines = 0
        self._open()

    def _open(self) -> None:
        self._opened = time.time()
        self._day = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"


def _line(record: Record) -> bytes:
    name, at, request, prediction, live = record
    assert live.model is not None
    assert live.state is not None
    known = prediction.known
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "prediction_id": name,
        "time": dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds"),
        **request.logged(),
        "as_of": known.as_of,
        "model": live.model.model.sha256,
        "version": live.model.version,
        "ledger_seq": live.model.seq,
        "state": live.state.digest,
        "probability": prediction.probability,
        "degraded": bool(known.reasons),
        "reasons": known.reasons,
    }
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
