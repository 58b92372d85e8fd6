from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airloop.process import GUARD, Command, CommandError, Listener, Outcome, conclude

LOG = logging.getLogger(__name__)


def run(script: str, command: Command | None = None) -> Outcome:
    return (command or Command()).run([sys.executable, "-c", script], cwd=Path.cwd(), env=os.environ, log=LOG)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_what_a_command_prints_is_logged_line_by_line(caplog) -> None:
    with caplog.at_level(logging.INFO):
        outcome = run("import sys; print('landed 3 rows'); print('a warning', file=sys.stderr)")
    conclude(outcome)
    assert {"landed 3 rows", "a warning"} <= set(caplog.messages)


def test_exit_99_skips_with_the_reason() -> None:
    with pytest.raises(AirflowSkipException, match=r"^no landed month is concerned$"):
        conclude(run("print('skipped: no landed month is concerned'); raise SystemExit(99)"))


def test_a_refusal_fails_for_good_with_all_its_lines() -> None:
    script = "import sys; print('error: 2 settings to correct:\\n  train.xgboost.eta\\n  gate.floors', file=sys.stderr); sys.exit(1)"
    with pytest.raises(AirflowFailException) as caught:
        conclude(run(script))
    assert str(caught.value) == "2 settings to correct:\n  train.xgboost.eta\n  gate.floors"


def test_the_reason_is_the_stage_s_own_and_not_its_wrapper_s() -> None:
    said = [
        "error: 31% of the rows are bad",
        "error: stage validate@2013-04: failed to run: python tasks/validate.py, exited with 1",
    ]
    outcome = Listener().hear_all(said).outcome(1)
    assert outcome.refused
    assert outcome.reason == "31% of the rows are bad"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise ConnectionError('the store is away')", "exit code 1: ConnectionError: the store is away"),
        (
            "print('error: stage train: failed to run: python tasks/train.py, exited with -9'); raise SystemExit(1)",
            "exited with -9",
        ),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("raise SystemExit(137)", "SIGKILL"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_a_crash_or_a_kill_is_tried_again(script: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        conclude(run(script))


def test_output_that_is_no_text_is_no_problem() -> None:
    assert run("import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\n')").code == 0


def test_stop_ends_the_command_and_all_it_started(tmp_path: Path) -> None:
    # The grandchild ignores SIGTERM, as a JVM in trouble does.
    script = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)'])
time.sleep(0.5)
open({str(tmp_path / "pid")!r}, 'w').write(str(child.pid))
time.sleep(60)
"""
    command = Command()
    results: list[Outcome] = []
    thread = threading.Thread(target=lambda: results.append(run(script, command)))
    thread.start()
    assert wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    command.stop()
    thread.join(15)
    assert results and results[0].code > 128
    assert wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))


@pytest.mark.parametrize("starter_ends", [False, True], ids=["", "its starter gone"])
def test_stopped_a_stage_has_time_for_its_checkpoint_when_those_above_it_are_gone(
    tmp_path: Path, starter_ends: bool
) -> None:
    """As DVC's process ends at once, and Airflow's task soon after."""
    stage = f"""
import pathlib, signal, sys, time
def keep(*_):
    time.sleep(1)
    pathlib.Path({str(tmp_path / "kept")!r}).touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, keep)
pathlib.Path({str(tmp_path / "pid")!r}).write_text("x")
time.sleep(60)
"""
    above = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stage!r}])"
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", str(GUARD), sys.executable, "-c", above],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert wait_until((tmp_path / "pid").exists, 30)
    started = time.monotonic()
    os.killpg(guard.pid, signal.SIGTERM)
    if starter_ends:
        time.sleep(0.3)
        guard.stdin.close()
    assert guard.wait(15) == 143
    assert (tmp_path / "kept").exists()
    assert time.monotonic() - started < 8, "nor does it wait longer than that"


def test_a_command_does_not_outlive_a_starter_that_is_killed(tmp_path: Path) -> None:
    inner = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    starter = f"""
import logging, os, sys
from pathlib import Path
from airloop.process import Command
Command().run([sys.executable, '-c', {inner!r}], cwd=Path.cwd(), env=os.environ, log=logging.getLogger())
"""
    path = os.pathsep.join(["plugins", *sys.path])
    with subprocess.Popen([sys.executable, "-c", starter], env={**os.environ, "PYTHONPATH": path}) as process:
        assert wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), 30)
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        process.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not alive(pid))
