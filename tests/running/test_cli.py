"""`python -m tasks.running` as Airflow, a pod and a person start it: real stages, DVC and store."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.core.results import Status
from tasks.running.cli import _setting
from tests.running.conftest import META, RUN, Checkout
from tests.waiting import until

JANUARY = ("--first", "2013-01")
BOTH = ("--first", "2013-01", "--last", "2013-02")
ENDS = """
def main():
    raise {error}
run_main(main)
"""


def test_stages_are_made_and_reported_and_known_the_next_time(checkout: Checkout) -> None:
    first = checkout.run("stage", "each", "all", *JANUARY, "--begins")
    assert (first.code, first.result.status) == (0, Status.DONE), first.output
    assert first.result.payload == {"interval": "2013-01", "run": RUN, "stages": ["each@2013-01", "all"]}
    assert set(checkout.lock()) == {"each@2013-01", "all"}
    again = checkout.run("stage", "each", "all", *JANUARY)
    assert again.code == 0 and again.output.count("taken from the cache") == 2


def test_a_span_is_worked_through_interval_by_interval_and_the_rest_once(checkout: Checkout) -> None:
    done = checkout.run("stage", "each", "all", *BOTH, "--begins")
    assert done.result.done() == ["2013-01", "2013-02"], done.output
    assert done.result.payload["stages"] == ["each@2013-01", "all", "each@2013-02"]
    assert set(checkout.lock()) == {"each@2013-01", "each@2013-02", "all"}


def test_one_bad_interval_does_not_fail_the_others(checkout: Checkout) -> None:
    checkout.write(
        "each",
        """
        def main():
            if sys.argv[1] == "2013-01":
                raise DataError("31% of the rows are bad")
            Path("each").mkdir(exist_ok=True)
            Path(f"each/{sys.argv[1]}.txt").touch()
        run_main(main)
        """,
    )
    done = checkout.run("stage", "each", *BOTH, "--begins")
    assert (done.code, done.result.done()) == (0, ["2013-02"]), done.output
    assert done.result.payload["stages"] == ["each@2013-02"]
    assert done.result.intervals["2013-01"].reason == "31% of the rows are bad"
    assert "2013-01: refused: 31% of the rows are bad" in done.output
    assert set(checkout.lock()) == {"each@2013-02"}


MONTHS = ("2013-01", "2013-02", "2013-03", "2013-04")
ALL = ("--first", MONTHS[0], "--last", MONTHS[-1])


def keyed(name: str, deps: list[str], out: str) -> dict[str, Any]:
    do = {"cmd": f"python tasks/{name}.py ${{key}}", "deps": deps, "outs": [out], "meta": META}
    return {"foreach": "${intervals}", "do": do}


@pytest.fixture
def chain(checkout: Checkout, tmp_path: Path) -> Checkout:
    """Stages as ingest has: `each` reads what it made of the month before, and `several` takes many at once.

    The file `refuse` beside it names months that `each` refuses, and `count` has those that each command of `several` was given.
    """
    stages = {
        "first": keyed("first", ["tasks/first.py"], "data/manifests/${key}.json"),
        "each": keyed("each", ["tasks/each.py", "${item.sees}"], "data/lists/lookback/${key}.json"),
        "several": keyed("several", ["tasks/several.py", "data/lists/lookback/${key}.json"], "several/${key}.txt"),
    }
    stages["several"]["do"] |= {"cmd": "python tasks/several.py --interval ${key}", "meta": META | {"span": True}}
    (checkout.root / "dvc.yaml").write_text(yaml.safe_dump({"vars": ["run.yaml"], "stages": stages}, sort_keys=False))
    for name in ("refuse", "count"):
        (tmp_path / name).touch()
    folder = "Path('data/manifests').mkdir(parents=True, exist_ok=True)"
    checkout.write("first", f"{folder}; Path(f'data/manifests/{{sys.argv[1]}}.json').write_text(sys.argv[1])")
    checkout.write(
        "each",
        f"""
        def main():
            if sys.argv[1] in Path({str(tmp_path / "refuse")!r}).read_text().split():
                raise DataError("31% of the rows are bad")
            Path("data/lists/lookback").mkdir(parents=True, exist_ok=True)
            Path(f"data/lists/lookback/{{sys.argv[1]}}.json").write_text(sys.argv[1])
        run_main(main)
        """,
    )
    checkout.write(
        "several",
        f"""
        from tasks.core.results import Interval, Status, merge, write
        keys = sys.argv[2::2]
        with open({str(tmp_path / "count")!r}, "a") as file: print(*keys, file=file)
        Path("several").mkdir(exist_ok=True)
        refused = Path({str(tmp_path / "refuse")!r}).read_text().split()
        ends = {{key: Interval(Status.REFUSED, "a bad month") if f"several-{{key}}" in refused else Interval(Status.DONE) for key in keys}}
        for key in keys: Path(f"several/{{key}}.txt").write_text(key)
        result = merge(ends, {{}})
        write(result)
        sys.exit(result.exit_code)
        """,
    )
    return checkout


def test_several_intervals_are_made_by_one_command_that_is_given_those_that_are_not_known(chain, tmp_path) -> None:
    done = chain.run("stage", "first", "each", "several", "--first", MONTHS[0], "--last", MONTHS[1], "--begins")
    assert done.result.done() == [*MONTHS[:2]], done.output
    done = chain.run("stage", "first", "each", "several", *ALL, "--begins")
    assert done.result.done() == [*MONTHS], done.output
    assert (tmp_path / "count").read_text().splitlines() == ["2013-01 2013-02", "2013-03 2013-04"]
    assert {f"several@{month}" for month in MONTHS} <= set(chain.lock())


def test_what_comes_after_a_refused_interval_waits_for_it(chain, tmp_path) -> None:
    """Although it was made before: what the run did not make now is not in its dvc.lock, whatever files are there."""
    chain.run("stage", "first", "each", "several", *ALL, "--begins")
    (tmp_path / "refuse").write_text(MONTHS[1])
    with (tmp_path / f"home/runs/{RUN}/tasks/each.py").open("a") as script:
        script.write("# changed")
    done = chain.run("stage", "first", "each", *ALL)
    assert (done.code, done.result.done()) == (0, [MONTHS[0]]), done.output
    assert done.result.intervals[MONTHS[1]].reason == "31% of the rows are bad"
    for month, before in ((MONTHS[2], MONTHS[1]), (MONTHS[3], MONTHS[2])):
        end = done.result.intervals[month]
        assert end.status is Status.WAITING and f"each@{before}" in end.reason
    after = chain.run("stage", "several", *ALL)
    assert (after.code, after.result.done()) == (0, [MONTHS[0]]), after.output
    assert not {f"{name}@{month}" for month in MONTHS[1:] for name in ("each", "several")} & set(chain.lock())


def test_a_span_whose_first_interval_is_refused_is_refused_and_not_waited_for(chain, tmp_path) -> None:
    (tmp_path / "refuse").write_text(MONTHS[0])
    ended = chain.run("stage", "first", "each", *ALL, "--begins")
    assert (ended.code, ended.result.status) == (65, Status.REFUSED), ended.output
    assert ended.result.intervals[MONTHS[3]].status is Status.WAITING


def test_one_command_for_several_refuses_one_and_the_others_are_recorded(chain, tmp_path) -> None:
    (tmp_path / "refuse").write_text(f"several-{MONTHS[2]}")
    done = chain.run("stage", "first", "each", "several", *ALL, "--begins")
    assert done.result.done() == [MONTHS[0], MONTHS[1], MONTHS[3]], done.output
    assert done.result.intervals[MONTHS[2]].reason == "a bad month"
    assert f"several@{MONTHS[2]}" not in chain.lock() and f"several@{MONTHS[3]}" in chain.lock()


def test_a_span_is_begun_and_completed_around_what_something_else_runs(chain, tmp_path) -> None:
    chain.run("stage", "first", "each", *ALL, "--begins")
    chain.run("stage", "several", "--first", MONTHS[0])
    begun = chain.run("begin", "several", *ALL).result
    assert begun.payload["begun"] == [*MONTHS[1:]] and not begun.payload["known"], "the first month is known"
    assert begun.payload["argv"][2:] == [word for month in MONTHS[1:] for word in ("--interval", month)]
    root = Path(begun.payload["workspace"])
    for month in MONTHS[1:3]:
        (root / f"several/{month}.txt").write_text(month)
    ended = {month: {"status": "done"} for month in MONTHS[:3]} | {MONTHS[3]: {"status": "refused", "reason": "bad"}}
    done = chain.run("complete", "several", *ALL, "--ended", json.dumps(ended))
    assert done.result.done() == [*MONTHS[:3]], done.output
    assert chain.run("restore", "several", "--first", MONTHS[0], "--last", MONTHS[2]).result.payload["known"] is True
    assert chain.run("restore", "several", *ALL).result.payload["known"] is False


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ("DataError('31% of the rows are bad')", Status.REFUSED, 65),
        ("ConfigError('eta is negative')", Status.REFUSED, 65),
        ("Unavailable('the store is away')", Status.WAITING, 75),
        ("Skip('nothing to do')", Status.SKIPPED, 99),
    ],
)
def test_how_a_stage_ended_is_how_the_command_ends(checkout: Checkout, error: str, status: Status, code: int) -> None:
    checkout.write("each", ENDS.format(error=error))
    ended = checkout.run("stage", "each", *JANUARY, "--begins")
    assert (ended.code, ended.result.status) == (code, status), ended.output
    assert ended.result.reason in error
    assert checkout.lock() == {}


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("print('error: 31% of the rows are bad', file=sys.stderr); sys.exit(1)", 1),
        ("raise RuntimeError('a bug')", 1),
        ("sys.exit(65)", 65),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
        # A document that does not go with the exit code says nothing: what it is about may have changed since.
        ("emit({}); sys.exit(1)", 1),
        ("emit({}); sys.exit(65)", 65),
        ("run_main.__globals__['write'](DataError('refused').result())", 1),
    ],
)
def test_a_crash_has_no_result(checkout: Checkout, script: str, code: int) -> None:
    checkout.write("each", script)
    ended = checkout.run("stage", "each", *JANUARY, "--begins", AIRLOOP_POD="pod-1")
    assert (ended.code, ended.result) == (code, None), ended.output
    assert not checkout.store.exists(f"runs/{RUN}/pods/pod-1.json"), "and a pod records nothing"


def test_inputs_that_change_meanwhile_are_worth_another_try(checkout: Checkout) -> None:
    checkout.write(
        "each", "Path('each').mkdir(exist_ok=True); Path('each/2013-01.txt').touch(); Path('tasks/each.py').touch()"
    )
    checkout.write(
        "all",
        "Path('all.txt').touch(); Path('each/2013-01.txt').unlink(); Path('each/2013-01.txt').write_text('other')",
    )
    ended = checkout.run("stage", "each", "all", *JANUARY, "--begins")
    assert (ended.code, ended.result.status) == (75, Status.WAITING), ended.output
    assert "each/2013-01.txt changed while it ran" in ended.result.reason
    assert set(checkout.lock()) == {"each@2013-01"}


def test_a_pod_records_its_result_whatever_it_is(checkout: Checkout) -> None:
    done = checkout.run("stage", "each", *JANUARY, "--begins", AIRLOOP_POD="pod-1")
    assert checkout.recorded("pod-1") == done.result.to_dict()
    checkout.write("all", ENDS.format(error="DataError('no rows')"))
    refused = checkout.run("stage", "each", "all", *JANUARY, "--begins", AIRLOOP_POD="pod-2")
    assert refused.code == 65 and checkout.recorded("pod-2")["reason"] == "no rows"


def test_what_a_pod_recorded_is_read_and_its_crash_counts_only_without(checkout: Checkout) -> None:
    checkout.run("stage", "each", *JANUARY, "--begins", AIRLOOP_POD="pod-1")
    for pod in ("pod-1", "pod-2"):
        usage = json.dumps({"stage": "each", "seconds": 1, "error": f"crash of {pod}"})
        found = checkout.run("pod-result", "each", usage, "--pod", pod)
    assert found.result.payload == {"recorded": {}, "errors": []}
    asked = checkout.run("pod-result", "each", json.dumps({"stage": "each"}), "--pod", "pod-3")
    assert asked.result.payload["errors"] == ["crash of pod-2"], "pod-1 recorded how it ended"


def test_a_job_finds_what_it_reads_and_reports(checkout: Checkout) -> None:
    checkout.run("stage", "each", *BOTH, "--begins")
    done = checkout.run("job", "one", *BOTH, "--rest", "--why", "x")
    assert done.result.payload == {"interval": "2013-02", "argv": ["--why", "x"], "text": "2013-02"}, done.output
    assert done.result.done() == ["2013-01", "2013-02"]


@pytest.mark.parametrize(
    ("window", "end", "february"),
    [("lookback", "DataError", Status.WAITING), ("lookback", "Unavailable", Status.WAITING), ("lookback", "Skip", Status.DONE), ("interval", "DataError", Status.DONE)],
)  # fmt: skip
def test_where_intervals_look_back_a_job_does_none_after_one_that_failed(
    checkout: Checkout, window: str, end: str, february: Status
) -> None:
    """What is published has no gap; a superseded landing is none."""
    catalogue = checkout.root / "jobs.yaml"
    catalogue.write_text(catalogue.read_text().replace("window: lookback", f"window: {window}"))
    checkout.write(
        "one",
        f"""
        def main():
            if sys.argv[1] == "2013-01":
                raise {end}("no")
            emit({{"interval": sys.argv[1]}})
        run_main(main)
        """,
    )
    checkout.run("stage", "each", *BOTH, "--begins")
    ended = checkout.run("job", "one", *BOTH)
    assert ended.result.intervals["2013-02"].status is february, ended.output
    if february is Status.WAITING:
        assert ended.result.intervals["2013-02"].reason == "2013-02 follows 2013-01, which has to end well first."
        assert ended.result.done() == []


def test_a_job_that_ends_well_and_reports_nothing_has_crashed(checkout: Checkout) -> None:
    checkout.write("one", "")
    checkout.run("stage", "each", *JANUARY, "--begins")
    ended = checkout.run("job", "one", *JANUARY)
    assert (ended.code, ended.result) == (1, None), ended.output


def test_a_job_without_a_workspace_is_run_in_the_checkout(checkout: Checkout) -> None:
    done = checkout.run("job", "direct", "--rest", "--rollback", "3")
    assert done.result.payload == {"argv": ["--rollback", "3"], "cwd": str(checkout.root)}, done.output


def test_a_folder_that_a_killed_try_left_without_its_files_is_fetched_again(checkout: Checkout) -> None:
    path = checkout.root / "dvc.yaml"
    path.write_text(path.read_text().replace("each/${key}.txt", "each/${key}"))
    checkout.write("each", "path = Path('each', sys.argv[1]); path.mkdir(parents=True); (path / 'a').write_text('a')")
    checkout.write("one", "emit({'text': Path('each', sys.argv[1], 'a').read_text()})")
    assert checkout.run("stage", "each", "--first", "2013-01", "--begins").code == 0
    (runs,) = checkout.root.parent.glob("home/runs")
    (workspace,) = runs.glob("*/dvc.lock")
    shutil.rmtree(workspace.parent)  # another machine takes the run up
    assert checkout.run("job", "one", "--first", "2013-01").code == 0
    shutil.rmtree(workspace.parent / ".airloop", ignore_errors=True)
    (workspace.parent / "each/2013-01/a").unlink()  # and this is how far a try got before it was killed
    ended = checkout.run("job", "one", "--first", "2013-01")
    assert ended.code == 0, ended.output
    assert ended.result is not None and ended.result.payload == {"text": "a"}


def test_what_something_else_runs_is_begun_and_completed(checkout: Checkout) -> None:
    """As spark-submit runs features."""
    begun = checkout.run("begin", "each", *JANUARY, "--begins")
    assert begun.result.payload["known"] is False, begun.output
    assert begun.result.payload["argv"] == ["python", "tasks/each.py", "2013-01"]
    root = checkout.root.parent / "home/runs" / RUN
    assert begun.result.payload["workspace"] == str(root)
    (root / "each").mkdir()
    (root / "each/2013-01.txt").write_text("made elsewhere")
    completed = checkout.run("complete", "each", *JANUARY)
    assert completed.result.payload["stages"] == ["each@2013-01"], completed.output
    assert checkout.run("begin", "each", *JANUARY).result.payload["known"] is True


def test_what_is_complete_without_a_beginning_is_not_recorded(checkout: Checkout) -> None:
    checkout.run("stage", "each", *JANUARY, "--begins")
    ended = checkout.run("complete", "all", *JANUARY)
    assert ended.code != 0 and "was not begun" in ended.output
    assert set(checkout.lock()) == {"each@2013-01"}


def test_a_known_result_is_restored_without_its_data(checkout: Checkout) -> None:
    checkout.run("stage", "each", *JANUARY, "--begins")
    elsewhere = {"AIRLOOP_HOME": str(checkout.root.parent / "elsewhere")}
    restored = checkout.run("restore", "each", *JANUARY, "--begins", **elsewhere)
    assert restored.result.payload["known"] is True, restored.output
    assert not list((checkout.root.parent / "elsewhere").rglob("2013-01.txt"))
    assert checkout.run("restore", "all", *JANUARY, **elsewhere).result.payload["known"] is False


def test_an_interval_has_to_be_named(checkout: Checkout) -> None:
    ended = checkout.run("stage", "each")
    assert ended.code == 65 and "say which: --first 2013-04" in ended.result.reason


def test_what_it_waits_for_is_named(checkout: Checkout) -> None:
    ended = checkout.run("stage", "each", "--first", "2013-02", "--begins")
    assert (ended.code, ended.result.payload) == (75, {"waits_for": "2013-01"}), ended.output


def test_the_first_process_of_a_container_ends_when_it_is_asked_to(checkout: Checkout) -> None:
    """The kernel ignores SIGTERM to it unless it says otherwise: 143 is its own exit code, and not the signal's work."""
    lease = checkout.root.parent / f"home/runs/{RUN}.lease"
    lease.parent.mkdir(parents=True)
    with lease.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"pid": os.getpid(), "started": 0, "group": 0}, file)  # of which no process is left
        file.flush()
        process = checkout.start("stage", "each", *JANUARY, "--begins")
        until(lambda: "An earlier try" in process.stdout.readline(), "it waits for the lease")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("a.b=2013-04-05", "2013-04-05"),
        ("a=2013-04", "2013-04"),
        ("a=[1, 2]", [1, 2]),
        ("a=null", None),
        ("a=0.5", 0.5),
    ],
)
def test_a_setting_on_the_command_line_is_yaml_but_for_dates_which_are_keys(given: str, found: object) -> None:
    assert _setting(given)[1] == found
