"""What the service answers with: the live model and the state of the intervals it needs, loaded aside and swapped at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.core.errors import DataError
from tasks.landing import landed_index
from tasks.landing.landed_index import Index, Item
from tasks.modelling import model, smoke
from tasks.online.prediction_log import state_name
from tasks.registry import version_features
from tasks.registry.ledger import Entry, Ledger
from tasks.settings import params
from tasks.spec import Known, ModelSpec, Settings, State
from tasks.storage.artefacts import Store, sha256, to_json


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A verified model, and what the ledger says of it."""

    version: int
    model: model.Model
    features: Settings
    """Settings its training features were made with; the state is asked with the same."""
    seq: int
    """Ledger entry that put it live."""
    categories: tuple[tuple[str, frozenset[str]], ...]
    """Category features and the values training knew."""
    golden: tuple[str, ...]
    """Intervals that its golden rows are from."""


@dataclass(frozen=True, slots=True)
class LiveState:
    """The state of the intervals that are kept, and the digest of their files."""

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
    refused: int | None = None
    """Version that is itself at fault, so that reading it again would not help; None where there is none, or the store may be."""

    @property
    def ready(self) -> bool:
        """Whether predictions can be made."""
        return self.model is not None and self.state is not None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The probability of one entity, and what it rests on."""

    entity: Any
    probability: float
    known: Known


def predict(live: Live, entities: Sequence[Any]) -> list[Prediction]:
    """One prediction for each entity, in order; ``live`` must be ready."""
    assert live.model is not None
    assert live.state is not None
    known = [live.state.state.known(entity) for entity in entities]
    scores = live.model.model.predict(live.model.model.contract.encode_rows([k.features for k in known]))
    for each in known:
        for name, values in live.model.categories:
            if each.features[name] not in values:
                each.reasons.append(f"{name} {each.features[name]} is none that the model was trained on")
    return [Prediction(*each) for each in zip(entities, scores.tolist(), known, strict=True)]


class Loader:
    """Brings what the store says is live into memory.

    Args:
        spec: the model.
        store: with the ledger, models and landed intervals.
        code: the checkout, for settings that the store has no record of.
        version: the only model version to load, None for the one that is live.
    """

    def __init__(self, spec: ModelSpec, store: Store, code: Path, version: int | None = None) -> None:
        self._spec = spec
        self._store = store
        self._code = code
        self._version = version
        self._index: Index | None = None
        self._chosen: tuple[Index, LiveModel, dict[str, Item]] | None = None
        """What was kept of an index for this version."""

    def load(self, current: Live) -> Live:
        """``current`` if nothing changed, else a new set that has answered; never a worse one.

        What fails verification is refused: the former model or state stays, and ``problems`` says why.
        """
        problems: dict[str, str] = {}
        try:
            entries = Ledger(self._store).entries()
            self._index = index = landed_index.read(self._store, self._index)
        except Exception as error:  # noqa: BLE001 - whatever the store's library raises, the service goes on
            return Live(current.model, current.state, f"the store cannot be read: {error}", {"store": _say(error)})
        entry = wanted_entry(entries, self._version)
        if entry is None or entry.to_version is None:
            return Live(None, current.state, _nothing_live(entries, self._version))
        wanted: LiveModel | None
        refused = None
        try:
            wanted = self._model(entry, current.model)
        except Exception as error:  # noqa: BLE001 - see above
            problems["model"] = f"v{entry.to_version} is refused: {_say(error)}"
            wanted, refused = current.model, entry.to_version if isinstance(error, DataError) else None
        if wanted is None:
            return Live(None, current.state, problems["model"], problems, refused)
        kept: dict[str, Item] = {}
        try:
            kept = self._kept(index, wanted)
            state = self._state(kept, wanted.features, current.state)
        except Exception as error:  # noqa: BLE001 - see above
            problems["state"] = f"the landed intervals {', '.join(kept)} are refused: {_say(error)}"
            if current.state is None or current.state.state.params != wanted.features:
                return Live(current.model, current.state, problems["state"], problems, refused)
            state = current.state
        return self._warm(Live(wanted, state, "", problems, refused), current)

    def _warm(self, new: Live, current: Live) -> Live:
        """``new`` once it has answered, else ``current`` with the reason."""
        if new.model is current.model and new.state is current.state:
            return new
        try:
            (answer,) = predict(new, [self._example()])
            _require_probability(answer.probability)
        except Exception as error:  # noqa: BLE001 - see above
            assert new.model is not None
            problem = f"v{new.model.version} is refused: {_say(error)}"
            refused = new.model.version if isinstance(error, DataError) else None
            return Live(current.model, current.state, problem, new.problems | {"model": problem}, refused)
        return new

    def _example(self) -> Any:
        online = self._spec.online
        return online.request().model_validate(online.examples[0]).to_entity()

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
        version_features.require_declared(entry.to_version, loaded.contract.names, self._spec)
        _try_golden_rows(loaded, smoke.read(evidence.model, self._store))
        categories = ((f.name, frozenset(f.categories)) for f in loaded.contract.features if f.categories is not None)
        features, golden = self._settings(entry.to_version, evidence.run)
        return LiveModel(entry.to_version, loaded, features, entry.seq, tuple(categories), golden)

    def _settings(self, version: int, run: str) -> tuple[Settings, tuple[str, ...]]:
        """Feature settings and golden intervals of the version's training; the checkout's where the store has no record of them."""
        where = (version, run, self._store, self._spec.name)
        features, golden = version_features.recorded(*where), version_features.golden_intervals(*where)
        if features is None:
            settings = params.of_model(self._code, self._spec.name)
            return settings.features, tuple(settings.golden.intervals)
        return features, golden

    def _kept(self, index: Index, live: LiveModel) -> dict[str, Item]:
        """The newest interval and what it looks back on, and as much of each golden interval, as far as they have landed.

        The job deploy asks the service for the golden rows of what is live, whenever that was trained.
        """
        if self._chosen is None or self._chosen[0] is not index or self._chosen[1] is not live:
            wanted = [*live.golden, *([index.newest] if index.newest else [])]
            seen = [(self._spec.cadence.back(key, live.features.lookback), key) for key in wanted]
            found = {item.interval: item for first, last in seen for item in index.between(first, last)}
            self._chosen = index, live, {key: found[key] for key in sorted(found)}
        return self._chosen[2]

    def _state(self, intervals: Mapping[str, Item], features: Settings, current: LiveState | None) -> LiveState:
        files = {m: {name: f.sha256 for name, f in item.state.items()} for m, item in intervals.items()}
        digest = sha256(to_json(files))
        if current and current.digest == digest and current.state.params == features:
            return current
        tables = {m: self._spec.online.read_state(self._store, item.state) for m, item in intervals.items()}
        state = self._spec.online.state(tables, features)
        del tables
        pa.default_memory_pool().release_unused()  # a third of the process, with a year landed
        # So that a logged digest can be read as intervals and files later.
        self._store.create(state_name(digest), to_json(files))
        return LiveState(state, digest)


def wanted_entry(entries: Sequence[Entry], version: int | None) -> Entry | None:
    """The entry to serve: the newest, or the newest that put ``version`` live; None when there is none.

    An entry that takes everything out of service counts whatever the version.
    """
    live = entries[-1] if entries else None
    if version is None or live is None or live.to_version is None:
        return live
    return next((entry for entry in reversed(entries) if entry.to_version == version), None)


def _try_golden_rows(loaded: model.Model, rows: Sequence[smoke.Row]) -> None:
    # A model that was registered before its golden rows kept their features is tried by the job deploy alone.
    known = [row for row in rows if "features" in row]
    scores = loaded.predict(loaded.contract.encode_rows([row["features"] for row in known]))
    if wrong := smoke.difference(known, scores.tolist()):
        raise DataError(wrong)


def _require_probability(value: float) -> None:
    if not 0 <= value <= 1:  # NaN too
        raise DataError(f"the model answers {value}, which is no probability.")


def _nothing_live(entries: Sequence[Entry], version: int | None) -> str:
    if not entries:
        return "no model is live yet: the promotion ledger is empty until the first trained model passes its gate"
    last = entries[-1]
    if last.to_version is not None:
        return f"this replica is for v{version}, which no entry of the promotion ledger puts live"
    return f"no model is live: ledger entry {last.seq} by {last.who} took it out of service ({last.why})"


def _say(error: Exception) -> str:
    return str(error) or type(error).__name__
