from __future__ import annotations

import pytest
from airloop.places import ConfigError, Engine, Place, place_of


@pytest.mark.parametrize(
    ("engine", "environ", "place"),
    [
        (Engine.PYTHON, {}, Place.PROCESS),
        (Engine.SPARK, {}, Place.SPARK),
        (Engine.PYTHON, {"AIRLOOP_PLACE": ""}, Place.PROCESS),
        (Engine.PYTHON, {"AIRLOOP_PLACE": "containers"}, Place.PROCESS),
        (Engine.PYTHON, {"AIRLOOP_PLACE": "cluster"}, Place.POD),
        (Engine.SPARK, {"AIRLOOP_PLACE": "cluster"}, Place.POD),
        (Engine.SPARK, {"AIRLOOP_PLACE": "cluster", "AIRLOOP_PLACE_TRAIN": "spark"}, Place.SPARK),
        (Engine.PYTHON, {"AIRLOOP_PLACE_TRAIN": "pod"}, Place.POD),
        (Engine.PYTHON, {"AIRLOOP_PLACE": "cluster", "AIRLOOP_PLACE_TRAIN": "process"}, Place.PROCESS),
        (Engine.PYTHON, {"AIRLOOP_PLACE_GATE": "pod"}, Place.PROCESS),
    ],
)
def test_one_function_picks_the_place(engine: Engine, environ: dict[str, str], place: Place) -> None:
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
        place_of("train", Engine.PYTHON, environ)
    assert said in str(caught.value)
