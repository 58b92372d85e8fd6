"""Processes are found by their mark, and only those are ended."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from local import processes, supervise
from local.services import Service

HOME = Path("/some/home of a test")
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


@pytest.fixture
def sleeper():
    started = []

    def start(code: str, **env: str) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_only_marked_processes_of_this_home_are_ours(sleeper):
    code = "import time; print('up', flush=True); time.sleep(60)"
    ours = sleeper(code, **{processes.MARK: str(HOME)})
    sleeper(code, **{processes.MARK: "/another/home"})
    sleeper(code, AIRLOOP_HOME=str(HOME))  # a user's shell, say
    assert [process.pid for process in processes.ours(HOME)] == [ours.pid]


def test_a_process_that_renames_itself_is_still_found(sleeper):
    code = "import setproctitle, time; setproctitle.setproctitle('x' * 4000); print('up', flush=True); time.sleep(60)"
    renamed = sleeper(code, **{processes.MARK: str(HOME), "SPT_NOENV": "1"})
    assert [process.pid for process in processes.ours(HOME)] == [renamed.pid]


def test_one_that_does_not_listen_is_killed(sleeper):
    deaf = sleeper(DEAF, **{processes.MARK: str(HOME)})
    processes.end(processes.ours(HOME), grace=0.3)
    assert not psutil.pid_exists(deaf.pid)
    assert processes.ours(HOME) == []


def test_ending_what_has_gone_is_no_error(sleeper):
    gone = sleeper("print('up')")
    process = psutil.Process(gone.pid)
    gone.wait()
    processes.end([process])


def test_a_long_home_gets_a_short_private_socket(tmp_path):
    long = tmp_path / ("deep" * 40)
    assert len(str(supervise.socket_path(long))) <= supervise.MAX_SOCKET
    assert supervise.socket_path(long) != supervise.socket_path(long / "other")
    assert supervise.socket_path(Path("/short")) == Path("/short/run/supervisor.sock")


def test_a_percent_sign_in_a_path_survives_supervisords_substitution():
    text = supervise.configuration(Path("/a%b"), [Service("one", "One", ("/bin/x y", "50%"), "http://127.0.0.1/")])
    assert 'command="/bin/x y" "50%%"' in text
    assert "/a%%b/logs" in text
