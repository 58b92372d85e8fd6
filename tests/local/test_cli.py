"""`airloop` as people type it: what it says of itself and of what cannot be, and that each verb is about this checkout's home."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from local import cli, paths
from tasks import spec
from tasks.core.urls import url_of
from tasks.storage.artefacts import Store

VERBS = sorted(cli.airloop.commands)
HEAVY = {"airflow", "dvc", "fastapi", "httpx", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "rich", "yaml"}


def airloop(tmp_path: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What a shell without any setting of ours sees; nothing to read from."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRLOOP_", "MLFLOW_"))}
    env |= {"AIRLOOP_HOME": str(tmp_path / "home"), **environ}
    command = [sys.executable, "-m", "local.cli", *words]
    return subprocess.run(
        command, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def source() -> str:
    """The example's data, which every test that lands it shares."""
    example = spec.load("flights").example
    assert example
    return str(example.source())


def test_without_words_it_lists_its_verbs_by_what_they_are_about(tmp_path: Path) -> None:
    done = airloop(tmp_path)
    assert done.returncode == 0 and done.stdout == airloop(tmp_path, "--help").stdout
    at = [done.stdout.index(f"\n{title}:\n") for title in cli.SECTIONS]
    assert at == sorted(at)
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_s_help_ends_with_examples_that_its_parser_takes(verb: str, tmp_path: Path) -> None:
    done = airloop(tmp_path, verb, "--help")
    assert done.returncode == 0, done.stderr
    text, _, examples = done.stdout.partition("\nExamples:\n")
    assert f"Usage: airloop {verb}" in text
    assert examples and all(f"airloop {verb}" in line for line in examples.splitlines())


def test_the_list_of_verbs_loads_nothing_heavy() -> None:
    code = "import sys; from local import cli; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "click" in done.stdout.split() and not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lineag", "x"], "Did you mean 'lineage'?"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["lineage"], "Missing argument 'PREDICTION'"),
        (["rebuild", "two"], "'two' is not a valid integer"),
        (["rollback", "0"], "0 is not in the range x>=1"),
        (["up", "--place", "moon"], "'moon' is not one of 'embedded', 'compose'"),
        (["up", "--without", "grafana"], "add --place compose"),
        (["land"], "one INTERVAL, or --from INTERVAL --through INTERVAL"),
        (["land", "--from", "2013-01"], "one INTERVAL, or --from INTERVAL --through INTERVAL"),
        (["land", "2013-01", "--through", "2013-02"], "one INTERVAL, or --from INTERVAL --through INTERVAL"),
        (["land", "2013-01", "2013-02"], "unexpected extra argument (2013-02)"),
        (["status", "--demmo"], "No such option '--demmo'"),
    ],
)
def test_words_that_it_does_not_take_are_a_matter_of_usage(words: list[str], says: str, tmp_path: Path) -> None:
    done = airloop(tmp_path, *words, AIRLOOP_MLFLOW_PORT="many")  # where they are taken all the same, nothing starts
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rebuild", "1", "--model", "fligths"], "There is no model 'fligths' in models/; did you mean flights?"),
        (["heal", "--model", "zzz"], "There is no model 'zzz' in models/; choose from "),
        (["land", "2013-13"], "2013-13"),
        (["land", "2014-01"], "The example of flights does not have 2014-01; it has 2013-01 to 2013-12."),
        (["land", "--from", "2013-12", "--through", "2014-02"], "does not have 2013-12 to 2014-02"),
        (
            ["land", "--from", "2013-02", "--through", "2013-01"],
            "--through 2013-01 is before --from 2013-02; swap them.",
        ),
        (["logs", "mlfow"], "There is no log of 'mlfow'; services are "),
        (["restore", "nowhere"], "nowhere"),
        (["lineage", "nonsense"], "No prediction 'nonsense'"),
        (["lineage", "-1"], "No such option"),
    ],
)
def test_what_cannot_be_is_a_sentence(words: list[str], says: str, tmp_path: Path) -> None:
    done = airloop(tmp_path, *words)
    assert done.returncode == (2 if says == "No such option" else 1)
    assert says in done.stderr and "Traceback" not in done.stderr


def test_what_is_no_prediction_is_said_with_both_forms(tmp_path: Path) -> None:
    said = airloop(tmp_path, "lineage", "nonsense").stderr
    assert said.count("\n") == 1
    assert "<model>.2013-04.v1." in said and "<model>.online.2013-04-05.v1." in said


def test_an_id_that_names_its_model_is_looked_for_in_that_model_s_store(tmp_path: Path) -> None:
    done = airloop(tmp_path, "lineage", "flights.2013-04.v1.0123456789abcdef")
    assert done.returncode == 1
    assert (
        f"No prediction 'flights.2013-04.v1.0123456789abcdef' in {url_of(tmp_path / 'home/store/flights')}"
        in done.stderr
    )


@pytest.mark.parametrize("words", [["rebuild", "99"], ["rollback", "99", "--reason", "worse"]])
@pytest.mark.parametrize("demo", [False, True])
def test_the_store_of_this_home_is_asked(words: list[str], demo: bool, tmp_path: Path) -> None:
    done = airloop(tmp_path, *words, *(["--demo"] if demo else []))
    home = tmp_path / "home" / ("demo" if demo else "")
    assert done.returncode == 1
    assert f"No version 99 was registered in {url_of(home / 'store/flights')}: there is none yet." in done.stderr


def test_a_setting_that_is_wrong_stops_it(tmp_path: Path) -> None:
    done = airloop(tmp_path, "lineage", "nonsense", AIRLOOP_MLFLOW_PORT="many")
    assert done.returncode == 1 and done.stderr.startswith("Error: AIRLOOP_MLFLOW_PORT='many' is no port")
    assert "No prediction" not in done.stderr


def test_an_interval_lands_in_this_home(tmp_path: Path, source: str) -> None:
    done = airloop(tmp_path, "land", "2013-02", AIRLOOP_SOURCE=source)
    assert done.returncode == 0, done.stderr
    zone = Store(url_of(tmp_path / "home/landing")).part("flights")
    landed, taken_in = done.stdout.splitlines()
    assert landed == f"2013-02: 24,951 flights, 2,010 weather landed in {zone.uri('2013-02')}"
    assert taken_in.startswith(
        "No services of this home are up. `airloop repro flights --last 2013-02` takes 2013-02 in;"
    )
    assert json.loads(zone.read("2013-02/manifest.json"))["interval"] == "2013-02"
    assert not zone.exists("2013-01/manifest.json")


def test_several_intervals_land_one_after_the_other_in_the_demo_s_home(tmp_path: Path, source: str) -> None:
    done = airloop(tmp_path, "land", "--from", "2013-01", "--through", "2013-02", "--demo", AIRLOOP_SOURCE=source)
    *landed, taken_in = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in landed] == ["2013-01", "2013-02"], done.stderr
    assert """airflow dags trigger flights.ingest -c '{"interval": "2013-01", "through": "2013-02"}'""" in taken_in
    assert sorted(path.name for path in (tmp_path / "home/demo/landing/flights").iterdir()) == ["2013-01", "2013-02"]


def test_a_model_without_an_example_says_how_its_feed_lands(tmp_path: Path) -> None:
    """In a process whose flights have none."""
    code = """
import dataclasses, sys
from local import cli
from tasks import spec
without = dataclasses.replace(spec.load("flights"), example=None, land_command="feed --day {interval}")
spec.current = lambda: without
cli.main()
"""
    env = {**os.environ, "AIRLOOP_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", code, "land", "2013-04"]
    done = subprocess.run(command, cwd=paths.ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "Error: The model flights has no example feed; its own lands an interval by `feed --day 2013-04`.\n"
    )


def test_status_of_a_home_where_nothing_runs_says_how_to_start(tmp_path: Path) -> None:
    done = airloop(tmp_path, "status")
    assert done.returncode == 1 and "Start with `airloop up`" in done.stdout
    assert "Start with `airloop up --demo`" in airloop(tmp_path, "status", "--demo").stdout


def test_a_name_with_an_umlaut_is_read_in_every_locale(tmp_path: Path) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = airloop(tmp_path, "status", **locale, AIRLOOP_HOME=str(tmp_path / "Füße"))
    assert done.returncode == 1 and f"Nothing of {tmp_path / 'Füße'} is running." in done.stdout


@pytest.mark.parametrize(("words", "model"), [([], ""), (["--model", "flights"], "flights")])
def test_a_shell_is_about_this_home_and_leaves_the_model_to_run_yaml(
    words: list[str], model: str, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b'echo "=$AIRLOOP_STORE=$AIRLOOP_MODEL=" >told; exit\n')
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRLOOP_")}
    env |= {"AIRLOOP_HOME": str(tmp_path / "home"), "SHELL": "/bin/sh"}
    command = [sys.executable, "-m", "local.cli", "shell", *words]
    subprocess.run(command, cwd=tmp_path, env=env, stdin=theirs, capture_output=True, check=True)
    assert (tmp_path / "told").read_text() == f"={url_of(tmp_path / 'home/store')}={model}=\n"
    for end in (ours, theirs):
        os.close(end)


def test_a_shell_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    done = airloop(tmp_path, "shell", SHELL="/nowhere/sh")
    assert done.returncode == 1
    assert (
        done.stderr
        == "Error: The shell /nowhere/sh does not start (No such file or directory); set SHELL to another.\n"
    )


def test_make_keeps_what_is_about_the_checkout_itself() -> None:
    words = ["make", "--no-print-directory", "help"]  # which a make says that is started by another
    said = subprocess.run(words, cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in said.splitlines()] == [
        "help", "setup", "setup-torch", "demo", "test", "soak", "test-cluster", "bench", "bench-gpu", "lint", "format", "docs",
        "lock", "images", "clean",
    ]  # fmt: skip


def test_make_demo_is_the_verb() -> None:
    words = ["make", "--dry-run", "--always-make", "demo", "THROUGH=2013-12", "PLACE=compose", "WITHOUT=grafana redis"]
    said = subprocess.run(words, cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout
    assert ".venv/bin/airloop demo --place compose --through 2013-12 --without grafana --without redis" in said
