"""On which features a version is scored, from what is recorded of it and of the landed interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from models.flights.definitions import FEATURES
from models.flights.params import FeatureParams
from tasks.core.errors import DataError
from tasks.core.urls import url_of
from tasks.landing import landed
from tasks.registry import version_features, versions
from tasks.scoring import own_features
from tasks.settings import params, settings_files
from tasks.settings.environment import CODE
from tasks.storage.artefacts import Store, sha256, to_json
from tests.makers import Workspace

INTERVAL = "2013-04"
OURS = settings_files.of_model("flights")
NOW: FeatureParams = params.of_model(CODE, "flights").features
LONGER = NOW.model_copy(update={"departure_hours": NOW.departure_hours + 3})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landed features, of all names."""
    return Workspace(tmp_path_factory.mktemp("own"), rows_a_day=2).root / f"data/features/{INTERVAL}.parquet"


@pytest.mark.parametrize("own", [NOW, None])
@pytest.mark.parametrize("names", [FEATURES, FEATURES[:6]])
def test_landed_features_do_for_the_same_settings_and_fewer_names(file: Path, own: Any, names: tuple[str, ...]) -> None:
    assert own_features.needed(names, own, NOW, file) is None


@pytest.mark.parametrize("landed_with", [NOW, None])
def test_other_settings_want_features_of_their_own(file: Path, landed_with: Any) -> None:
    assert own_features.needed(FEATURES, LONGER, landed_with, file) == LONGER


def test_a_name_that_has_not_landed_wants_features_of_its_own(file: Path) -> None:
    assert own_features.needed((*FEATURES, "moon"), NOW, NOW, file) == NOW


def record(**files: dict[str, Any]) -> landed.Landed:
    lock = {f"features@{INTERVAL}": {"params": files}} if files else {}
    return landed.Landed(
        interval=INTERVAL, previous=INTERVAL, run="r", manifest="m", features="f", counts={}, lock=lock, state={}
    )


@pytest.mark.parametrize("name", [OURS, "params.yaml"])
def test_what_features_landed_with_is_in_their_record(name: str) -> None:
    """That of an older version has params.yaml alone."""
    recorded = {"features": LONGER.model_dump(mode="json")}
    assert own_features.landed_with(record(**{name: recorded})) == LONGER


@pytest.mark.parametrize("files", [{}, {OURS: {"features": {"horizon_hours": 3}}}])
def test_what_the_record_does_not_say_or_the_code_not_read_is_unknown(files: dict[str, Any]) -> None:
    assert own_features.landed_with(record(**files)) is None


def settings(features: FeatureParams) -> bytes:
    return yaml.safe_dump({"features": features.model_dump(mode="json")}).encode()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(url_of(tmp_path / "store")).part("flights")


def register(store: Store, content: bytes) -> None:
    """v1, with a record that has these settings."""
    digest = versions.put_record(store, "onnx", {OURS: content})
    tags = {"airloop.run": "r", "airloop.onnx": "onnx", f"airloop.settings.{OURS}": sha256(content)}
    assert versions.claim(store, 1, digest, tags)


def test_a_version_s_own_record_counts_before_that_of_a_run_which_began_again(store: Store) -> None:
    store.write(f"runs/r/{OURS}", settings(NOW))
    assert version_features.recorded(1, "r", store, "flights") == NOW
    register(store, settings(LONGER))
    assert version_features.recorded(1, "r", store, "flights") == LONGER


def test_without_a_record_nothing_is_known(store: Store) -> None:
    assert version_features.recorded(1, "r", store, "flights") is None


def test_settings_that_the_code_cannot_read_are_said_with_version_and_way_out(store: Store) -> None:
    register(store, to_json({"features": {"horizon_hours": 3}}))
    with pytest.raises(DataError, match=r"(?s)^v1 is of another time: .*trailing_days.*needs a default"):
        version_features.recorded(1, "r", store, "flights")
