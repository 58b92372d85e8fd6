"""Boosted trees that were interrupted are the trees that were not, whichever boundary they go on from."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tasks import train as stage
from tasks.core.urls import url_of
from tasks.settings.training_params import TrainParams
from tasks.settings.value_types import DayRule
from tasks.storage.artefacts import Store
from tasks.training.checkpoints import NAME, Checkpoints
from tasks.training.ending import Ended, Ending
from tasks.training.families import xgboost as family
from tasks.training.family import Fitted, Job
from tasks.training.progress import Progress
from tasks.training.source import Source
from tests import makers

ROUNDS = {"rounds": 60, "segment_rounds": 7, "early_stopping_rounds": 60, "eta": 0.1}
STOPS = {
    "rounds": 400,
    "segment_rounds": 7,
    "early_stopping_rounds": 10,
    "eta": 0.15,
    "max_depth": 4,
    "min_child_weight": 5.0,
}


def settings(threads: int = 1, keep: int = 99, **xgboost: object) -> TrainParams:
    raw = makers.settings()["train"]
    changes = {"threads": threads, "checkpoint": {"steps": 1, "seconds": 3600, "keep": keep}}
    return TrainParams.model_validate(raw | changes | {"xgboost": raw["xgboost"] | xgboost})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    table = pa.concat_tables([makers.features(interval, 30) for interval in ("2013-01", "2013-02")])
    return makers.source(table, tmp_path_factory.mktemp("features"))


class Asks(Progress):
    """Asks the training to end after a round, as SIGTERM would."""

    def __init__(self, ending: Ending, after: int) -> None:
        super().__init__("xgboost")
        self._ending, self._after = ending, after

    def step(self, step, of, samples, losses, *rest, **more) -> None:
        self._ending.asked = step >= self._after


class Patient(Checkpoints):
    """Waits for its disk, so that every boundary of these short trainings is kept."""

    def due(self, position: int) -> bool:
        self.flush()
        return super().due(position)


def fit(source: Source, use: TrainParams, store: Store | None, ends_after: int = 10**9) -> Fitted:
    ending = Ending()
    job = Job(Patient(store, "t", use.checkpoint), Asks(ending, ends_after), ending)
    fitted = family.fit(source, source.contract(), use, job)
    job.checkpoints.flush()
    return fitted


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [ROUNDS, STOPS], ids=["to the end", "stopped early"])
def test_from_every_boundary_the_same_bytes(source: Source, tmp_path: Path, shape, threads: int) -> None:
    use = settings(threads, **shape)
    all_of_them = Store(url_of(tmp_path / "all"))
    expected = fit(source, use, None)
    assert fit(source, use, all_of_them) == expected, "checkpoints shape nothing"
    names = all_of_them.names("checkpoints")
    last = int(NAME.search(names[-1])["position"])
    assert len(names) >= 3
    if shape is STOPS:
        assert last % 7, "stopped in the middle of a segment, or this shows nothing"
    for number, name in enumerate(names):
        one = Store(url_of(tmp_path / str(number)))
        one.write(name, all_of_them.read(name))
        assert fit(source, use, one) == expected, name


@pytest.mark.parametrize("after", [1, 6, 7, 8, 20, 21])
def test_asked_to_end_it_keeps_the_last_boundary_and_goes_on_from_there(
    source: Source, tmp_path: Path, after: int
) -> None:
    use = settings(**ROUNDS)
    store = Store(url_of(tmp_path))
    with pytest.raises(Ended) as ended:
        fit(source, use, store, ends_after=after)
    assert ended.value.code == 143
    boundary = (after - 1) // 7 * 7
    newest = Checkpoints(store, "t", use.checkpoint).latest()
    assert (newest.position if newest else 0) == boundary
    assert fit(source, use, store) == fit(source, use, None)


def test_segments_lose_nothing_of_what_was_learned(source: Source) -> None:
    """Where nothing is drawn they are the same bytes as one piece: what differs otherwise is the draws alone."""
    calm = ROUNDS | {"subsample": 1.0, "colsample_bytree": 1.0}
    assert fit(source, settings(**calm), None) == fit(source, settings(**calm | {"segment_rounds": 60}), None)


def test_segments_are_part_of_what_is_learned(source: Source) -> None:
    """Or a resumed training would be another one: the generator cannot be put back to where it was."""
    assert fit(source, settings(**ROUNDS), None) != fit(source, settings(**ROUNDS | {"segment_rounds": 60}), None)


def test_a_finished_training_whose_result_was_not_written_is_not_repeated(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use, store = settings(**ROUNDS), Store(url_of(tmp_path))
    first = stage.train(source, use, store)
    with monkeypatch.context() as patch:
        patch.setattr(family, "fit", lambda *_: pytest.fail("it was trained again"))
        assert stage.train(source, use, store) == first
    stage.forget(source, use, store)
    assert store.names("checkpoints") == []
    assert stage.train(source, use, None) == first


def changes(use: TrainParams) -> dict[str, TrainParams]:
    raw = use.model_dump()
    return {
        name: TrainParams.model_validate(raw | change)
        for name, change in {
            "seed": {"seed": 8},
            "threads": {"threads": 2},
            "device": {"device": "cuda"},
            "validation": {"validation": {"every": 8, "remainder": 5}},
            "xgboost": {"xgboost": raw["xgboost"] | {"eta": 0.2}},
        }.items()
    }


def test_who_goes_on_from_whose_checkpoints(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    use = settings(**ROUNDS)
    known = stage.identity("xgboost", source, use)
    assert known == stage.identity("xgboost", source, settings(keep=3, **ROUNDS)), "when it is kept shapes nothing"
    others = {name: stage.identity("xgboost", source, other) for name, other in changes(use).items()}
    assert known not in others.values() and len(set(others.values())) == len(others)
    fewer = Source(source.folder, source.intervals, DayRule(every=5, remainder=2), source.validation)
    assert stage.identity("xgboost", fewer, use) != known
    monkeypatch.setattr(family, "VERSION", "9.9")
    assert stage.identity("xgboost", source, use) != known


def test_an_identity_covers_the_code_that_dvc_yaml_names() -> None:
    import yaml

    from tasks.settings.environment import CODE

    named = yaml.safe_load((CODE / "dvc.yaml").read_text())["stages"]["train"]
    deps = [dep for dep in named["deps"] if dep not in {"data/features", "data/labels"}]
    assert sorted(str(path.relative_to(CODE)) for path in stage.SHAPING_CODE) == sorted(deps)
    (sections,) = (found for each in named["params"] for file, found in each.items() if file.endswith("spec.json"))
    assert sorted(f"digests.{section}" for section in stage.SHAPING_SECTIONS) == sorted(sections)


def test_metrics_name_the_training(source: Source) -> None:
    use = settings(**ROUNDS)
    facts = json.loads(stage.train(source, use).metrics)
    assert facts["training"] == stage.identity("xgboost", source, use)
