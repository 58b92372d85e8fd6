"""What takes in what `airloop land` has landed, where Airflow is up. Where it is not: tests/local/test_cli.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from local import env, land, stack


class Airflow:
    """Notes what it is asked to run."""

    url = "http://airflow"
    dags = ("flights.ingest",)
    asked: list[tuple[str, dict[str, str]]]

    def knows(self, dag: str) -> bool:
        return dag in self.dags

    def trigger(self, dag: str, conf: dict[str, str]) -> str:
        self.asked.append((dag, conf))
        return "manual"


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Airflow]:
    """Is up in this home."""
    monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path))
    monkeypatch.setattr(stack, "running", lambda home: home == env.place().home)
    monkeypatch.setattr(land, "Airflow", Airflow)
    monkeypatch.setattr(Airflow, "asked", [], raising=False)
    return Airflow


def test_several_intervals_are_one_run(airflow: type[Airflow]) -> None:
    said = land.take_in("flights", "2013-01", "2013-04")
    assert airflow.asked == [("flights.ingest", {"interval": "2013-01", "through": "2013-04"})]
    assert said == "One run takes 2013-01 to 2013-04 in: http://airflow/dags/flights.ingest/runs/manual"


def test_so_is_one_interval(airflow: type[Airflow]) -> None:
    land.take_in("flights", "2013-01", "2013-01")
    assert airflow.asked == [("flights.ingest", {"interval": "2013-01"})]


def test_a_dag_that_airflow_does_not_know_yet_is_not_asked_for(airflow: type[Airflow]) -> None:
    said = land.take_in("second", "2013-01", "2013-01")
    assert airflow.asked == []
    assert """When it has, `airflow dags trigger second.ingest -c '{"interval": "2013-01"}'` takes""" in said
