"""What the service answers with: the live model and the state of the landed months, loaded aside and swapped at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from pydantic import ValidationError

from tasks.common import landed, model, params
from tasks.common.artefacts import Store, sha256, to_json
from tasks.common.errors import DataError
from tasks.common.landed import Landed
from tasks.common.ledger import Entry, Ledger
from tasks.common.online_log import state_name
from tasks.flights.asof import Flight, Known, State
from tasks.flights.request import EXAMPLE, FlightRequest
from tasks.flights.state import read_state


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A verified model, and what the ledger says of it."""

    version: int
    model: model.Model
    features: params.FeatureParams
    """Settings its training features were made with; the state is asked with the same."""
    seq: int
    """Ledger entry that put it live."""
    categories: tuple[tuple[str, frozenset[str]], ...]
    """Category features and the values training knew."""


@dataclass(frozen=True, slots=True)
class LiveState:
    """The landed months, and the digest that stands for their files."""

    state: State
    digest: str


@dataclass(frozen=True, slots=True)
class Live:
    """One consistent set; a request keeps the one it started with."""

    model: LiveModel | None = None
    state: LiveState | None = None
    reason: str = "the service is starting and has not read the store yet"
    """Why nothing can be predicted; meaningless when something can."""
    problems: dict[str, str] = field(default_factory=dict)
    """What could not be loaded, by "model", "state" or "store": the service goes on with what it had."""

    @property
    def ready(self) -> bool:
        """Whether predictions can be made."""
        return self.model is not None and self.state is not None


@dataclass(frozen=True, slots=True)
class Prediction:
    """P(late) of one flight, and what it rests on."""

    flight: Flight
    probability: float
    known: Known


def predict(live: Live, flights: Sequence[Flight]) -> list[Prediction]:
    """One prediction a flight, in order; ``live`` must be ready."""
    assert live.model is not None
    assert live.state is not None
    known = [live.state.state.known(flight) for flight in flights]
    scores = live.model.model.predict(live.model.model.contract.encode_rows([k.features for k in known]))
    for each in known:
        for name, values in live.model.categories:
            if each.features[name] not in values:
                each.reasons.append(f"{name} {each.features[name]} is none that the model was trained on")
    return [Prediction(*each) for each in zip(flights, scores.tolist(), known, strict=True)]


class Loader:
    """Brings what the store says is live into memory."""

    def __init__(self, store: Store, code: Path) -> None:
        self._store = store
        self._code = code

    def load(self, current: Live) -> Live:
        """``current`` if nothing changed, else a new set that has answered; never a worse one.

        What fails verification is refused: the former model or state stays, and ``problems`` says why.
        """
        problems: dict[str, str] = {}
        try:
            entry = Ledger(self._store).latest()
            months = landed.read_all(self._store)
        except Exception as error:  # noqa: BLE001 - whatever the store's library raises, the service goes on
            return Live(current.model, current.state, f"the store cannot be read: {error}", {"store": _say(error)})
        if entry is None or entry.to_version is None:
            return Live(None, current.state, _nothing_live(entry))
        wanted: LiveModel | None
        try:
            wanted = self._model(entry, current.model)
        except Exception as error:  # noqa: BLE001 - see above
            problems["model"] = f"v{entry.to_version} is refused: {_say(error)}"
            wanted = current.model
        if wanted is None:
            return Live(None, current.state, problems["model"], problems)
        try:
            state = self._state(months, wanted.features, current.state)
        except Exception as error:  # noqa: BLE001 - see above
            problems["state"] = f"the landed months {', '.join(months)} are refused: {_say(error)}"
            if current.state is None or current.state.state.params != wanted.features:
                return Live(current.model, current.state, problems["state"], problems)
            state = current.state
        return self._warm(Live(wanted, state, "", problems), current)

    def _warm(self, new: Live, current: Live) -> Live:
        """``new`` once it has answered, else ``current`` with the reason."""
        if new.model is current.model and new.state is current.state:
            return new
        try:
            (answer,) = predict(new, [FlightRequest.model_validate(EXAMPLE).to_flight()])
            _require_probability(answer.probability)
        except Exception as error:  # noqa: BLE001 - see above
            assert new.model is not None
            problem = f"v{new.model.version} is refused: {_say(error)}"
            return Live(current.model, current.state, problem, new.problems | {"model": problem})
        return new

    def _model(self, entry: Entry, current: LiveModel | None) -> LiveModel:
        evidence = entry.evidence
        assert evidence is not None, "the ledger refuses such entries"
        assert entry.to_version is not None
        if current and (current.version, current.model.sha256) == (entry.to_version, evidence.model):
            return current if current.seq == entry.seq else replace(current, seq=entry.seq)
        folder = f"models/{evidence.model}"
        loaded = model.load(
            self._store.read(f"{folder}/model.onnx"),
            self._store.read(f"{folder}/contract.json", evidence.contract),
            evidence.model,
        )
        categories = ((f.name, frozenset(f.categories)) for f in loaded.contract.features if f.categories is not None)
        return LiveModel(entry.to_version, loaded, self._features(evidence.run), entry.seq, tuple(categories))

    def _features(self, run: str) -> params.FeatureParams:
        """Feature settings of the training run; the checkout's where the store has no record of the run."""
        try:
            data: Any = yaml.safe_load(self._store.read(f"runs/{run}/params.yaml"))
        except FileNotFoundError:
            return params.load(self._code / "params.yaml").features
        try:
            return params.FeatureParams.model_validate(data["features"])
        except (ValidationError, KeyError, TypeError) as error:
            raise DataError(f"{self._store.uri(f'runs/{run}/params.yaml')} has no feature settings: {error}") from None

    def _state(self, months: dict[str, Landed], features: params.FeatureParams, current: LiveState | None) -> LiveState:
        files = {m: {name: f.sha256 for name, f in record.state.items()} for m, record in months.items()}
        digest = sha256(to_json(files))
        if current and current.digest == digest and current.state.params == features:
            return current
        tables = {m: read_state(self._store, record.state) for m, record in months.items()}
        state = State(tables, features)
        del tables
        pa.default_memory_pool().release_unused()  # a third of the process, with a year landed
        # So that a logged digest can be read as months and files later.
        self._store.create(state_name(digest), to_json(files))
        return LiveState(state, digest)


def _require_probability(value: float) -> None:
    if not 0 <= value <= 1:  # NaN too
        raise DataError(f"the model answers {value}, which is no probability.")


def _nothing_live(entry: Entry | None) -> str:
    if entry is None:
        return "no model is live yet: the promotion ledger is empty until the first trained model passes its gate"
    return f"no model is live: ledger entry {entry.seq} by {entry.who} took it out of service ({entry.why})"


def _say(error: Exception) -> str:
    return str(error) or type(error).__name__
