from __future__ import annotations

import pytest
from airloop.places import Place, place_of

from tasks.core.errors import ConfigError


@pytest.mark.parametrize(
    ("engine", "environ", "place"),
    [
        ("python", {}, Place.PROCESS),
        ("spark", {}, Place.SPARK),
        ("python", {"AIRLOOP_PLACE": ""}, Place.PROCESS),
        ("python", {"AIRLOOP_PLACE": "containers"}, Place.PROCESS),
        ("python", {"AIRLOOP_PLACE": "cluster"}, Place.POD),
        ("spark", {"AIRLOOP_PLACE": "cluster"}, Place.POD),
        ("spark", {"AIRLOOP_PLACE": "cluster", "AIRLOOP_PLACE_TRAIN": "spark"}, Place.SPARK),
        ("python", {"AIRLOOP_PLACE_TRAIN": "pod"}, Place.POD),
        ("python", {"AIRLOOP_PLACE": "cluster", "AIRLOOP_PLACE_TRAIN": "process"}, Place.PROCESS),
        ("python", {"AIRLOOP_PLACE_GATE": "pod"}, Place.PROCESS),
    ],
)
def test_one_function_picks_the_place(engine: str, environ: dict[str, str], place: Place) -> None:
    assert place_of("train", engine, environ) is place


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"AIRLOOP_PLACE": "moon"}, "AIRLOOP_PLACE='moon' is unknown; use one of embedded, containers, cluster."),
        (
            {"AIRLOOP_PLACE_TRAIN": "kubernetes"},
            "AIRLOOP_PLACE_TRAIN='kubernetes' is unknown; use one of process, spark, pod",
        ),
        ({"AIRLOOP_PLACE_TRAIN": "spark"}, "AIRLOOP_PLACE_TRAIN=spark: train is no Spark script; use process or pod"),
    ],
)
def test_an_error_names_setting_value_and_way_out(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        place_of("train", "python", environ)
    assert said in str(caught.value)
