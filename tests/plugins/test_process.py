from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airloop.process import Command, CommandError, Outcome, WaitError, conclude

from tasks.core.results import EXIT_CODES, Interval, Result, Status
from tests.waiting import until

LOG = logging.getLogger(__name__)
GUARDED = "from tasks.running import guard\nguard.enter()\n"
"""The first thing that `python -m tasks.running` does."""


def run(script: str, command: Command | None = None) -> Outcome:
    argv = [sys.executable, "-c", GUARDED + script]
    return (command or Command()).run(argv, cwd=Path.cwd(), env={**os.environ, "PYTHONPATH": str(Path.cwd())}, log=LOG)


def writes(result: Result, code: int | None = None) -> str:
    """A script that ends with ``result``, and with ``code`` instead of its own exit code."""
    return f"""
import json, os, sys
open(os.environ["AIRLOOP_RESULT"], "w").write({json.dumps(result.to_dict())!r})
sys.exit({result.exit_code if code is None else code})
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_command_prints_is_logged_line_by_line(caplog) -> None:
    with caplog.at_level(logging.INFO):
        outcome = run("import sys; print('landed 3 rows'); print('a warning', file=sys.stderr)")
    assert outcome.code == 0
    assert {"landed 3 rows", "a warning"} <= set(caplog.messages)


def test_what_is_done_is_reported() -> None:
    made = Result(payload={"interval": "2013-04"}, intervals={"2013-04": Interval(Status.DONE)})
    assert conclude(run(writes(made))) == made


def test_nothing_to_do_is_a_skip_with_the_reason() -> None:
    with pytest.raises(AirflowSkipException, match=r"^no landed interval is concerned$"):
        conclude(run(writes(Result(Status.SKIPPED, "no landed interval is concerned"))))


def test_a_refusal_fails_for_good_with_all_its_lines() -> None:
    reason = "2 settings to correct:\n  train.xgboost.eta\n  gate.floors"
    with pytest.raises(AirflowFailException) as caught:
        conclude(run(writes(Result(Status.REFUSED, reason))))
    assert str(caught.value) == reason


def test_a_command_that_waits_says_for_what() -> None:
    waiting = Result(Status.WAITING, "2013-03 has not landed yet.", {"waits_for": "2013-03"})
    with pytest.raises(WaitError, match=r"^2013-03 has not landed yet\.$") as caught:
        conclude(run(writes(waiting)))
    assert caught.value.payload == {"waits_for": "2013-03"}
    assert isinstance(caught.value, CommandError), "Airflow tries again where nothing knows how to wait"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise ConnectionError('the store is away')", "exit code 1: ConnectionError: the store is away"),
        # What a command prints decides nothing: only a document does.
        (
            "import sys; print('error: 31% of the rows are bad', file=sys.stderr); sys.exit(1)",
            "exit code 1: error: 31%",
        ),
        ("print('skipped: nothing new'); raise SystemExit(99)", "exit code 99"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("raise SystemExit(137)", "SIGKILL"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_a_crash_or_a_kill_is_tried_again(script: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        conclude(run(script))


@pytest.mark.parametrize(
    ("status", "code"),
    [(status, code) for status in Status for code in (*EXIT_CODES.values(), 1, 137) if EXIT_CODES[status] != code],
)
def test_a_document_counts_only_with_its_own_exit_code(status: Status, code: int) -> None:
    """As of a process that wrote one and was killed before its end, or whose file another left."""
    with pytest.raises(CommandError) as caught:
        conclude(Outcome(code, Result(status, "the document's reason"), "the last line"))
    assert not isinstance(caught.value, WaitError)
    assert "the last line" in str(caught.value)


def test_without_a_document_nothing_is_done() -> None:
    """As of an interpreter that `os._exit` ended, or a disk that was full."""
    with pytest.raises(CommandError, match="wrote no result that says so"):
        conclude(run("pass"))


@pytest.mark.parametrize("document", ["", "{", "[]", '{"schema": 1}', '{"schema": 2, "status": "refused"}'])
def test_a_document_that_is_not_whole_is_a_crash(document: str) -> None:
    script = f"import os, sys; open(os.environ['AIRLOOP_RESULT'], 'w').write({document!r}); sys.exit(65)"
    with pytest.raises(CommandError, match="exit code 65"):
        conclude(run(script))


def test_output_that_is_no_text_is_no_problem() -> None:
    assert run("import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\n')").code == 0


def test_a_command_reads_no_line_of_its_starter() -> None:
    assert run("import sys; sys.exit(7 if sys.stdin.read() else 0)").code == 0


def test_stop_ends_the_command_and_all_it_started(tmp_path: Path) -> None:
    # The grandchild ignores SIGTERM, as a JVM in trouble does.
    script = f"""
import subprocess, sys, time
ignores = 'import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)'
child = subprocess.Popen([sys.executable, '-c', ignores], stdout=subprocess.PIPE)
child.stdout.readline()
open({str(tmp_path / "pid")!r}, 'w').write(str(child.pid))
time.sleep(60)
"""
    command = Command()
    results: list[Outcome] = []
    thread = threading.Thread(target=lambda: results.append(run(script, command)))
    thread.start()
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "both are at work")
    command.stop()
    thread.join(120)
    assert results and results[0].code > 128
    until(lambda: not alive(int((tmp_path / "pid").read_text())), "the grandchild is gone")


@pytest.mark.parametrize("starter_ends", [False, True], ids=["", "its starter gone"])
def test_stopped_a_stage_has_time_for_its_checkpoint_when_those_above_it_are_gone(
    tmp_path: Path, starter_ends: bool
) -> None:
    """As the runner's process may end at once, and Airflow's task soon after."""
    stage = f"""
import pathlib, signal, sys, time
def keep(*_):
    pathlib.Path({str(tmp_path / "asked")!r}).touch()
    time.sleep(1)
    pathlib.Path({str(tmp_path / "kept")!r}).touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, keep)
pathlib.Path({str(tmp_path / "pid")!r}).write_text("x")
time.sleep(600)
"""
    above = f"{GUARDED}import subprocess, sys; subprocess.run([sys.executable, '-c', {stage!r}])"
    guard = subprocess.Popen(
        [sys.executable, "-c", above],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "AIRLOOP_GUARDED": "1"},
    )
    until((tmp_path / "pid").exists, "the stage is at work")
    os.killpg(guard.pid, signal.SIGTERM)
    if starter_ends:
        until((tmp_path / "asked").exists, "the stage is asked to end")
        guard.stdin.close()
    assert guard.wait(120) == 143, "it waits for the stage, and no longer: the alarm would have ended it with SIGKILL"
    assert (tmp_path / "kept").exists()


def test_a_command_does_not_outlive_a_starter_that_is_killed(tmp_path: Path) -> None:
    inner = f"{GUARDED}import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    starter = f"""
import logging, os, sys
from pathlib import Path
from airloop.process import Command
Command().run([sys.executable, '-c', {inner!r}], cwd=Path.cwd(), env=os.environ, log=logging.getLogger())
"""
    path = os.pathsep.join(["plugins", *sys.path])
    with subprocess.Popen([sys.executable, "-c", starter], env={**os.environ, "PYTHONPATH": path}) as process:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the command is at work")
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        process.send_signal(signal.SIGKILL)
    until(lambda: not alive(pid), "the command is gone")
