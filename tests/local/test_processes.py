"""Processes are found by their mark, and only those are ended."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from local import paths, processes, runtime, supervise
from local.services import Service
from tests.names import NAMES

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


LISTENER = """
import socket, time
server = socket.create_server(("127.0.0.1", {port}))
print(server.getsockname()[1], flush=True)
time.sleep(60)
"""


def listener(sleeper, home: Path, port: int = 0) -> tuple[subprocess.Popen, int]:
    process = sleeper(LISTENER.format(port=port), **{processes.MARK: str(home)})
    (port,) = (link.laddr.port for link in psutil.Process(process.pid).net_connections("tcp"))
    return process, port


def begin(home: Path, port: int) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "local.program", str(home), str(port), "echo", "the program"]
    return subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True, timeout=60)


def test_a_program_ends_what_an_earlier_start_left_on_its_port(sleeper):
    left, port = listener(sleeper, HOME)
    other_port, _ = listener(sleeper, HOME)
    said = begin(HOME, port).stdout.splitlines()
    assert said == [f"ends {left.pid}, left on port {port} by an earlier start", "the program"]
    assert left.wait(10) is not None
    assert other_port.poll() is None


def test_a_program_leaves_another_home_s_alone(sleeper):
    other, port = listener(sleeper, Path("/another/home"))
    assert begin(HOME, port).stdout == "the program\n"
    assert other.poll() is None


def test_ending_what_has_gone_is_no_error(sleeper):
    gone = sleeper("print('up')")
    process = psutil.Process(gone.pid)
    gone.wait()
    processes.end([process])


def wait_until(true) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_marked_process_started_is_ours_though_it_hides_its_mark(sleeper):
    """PostgreSQL's processes do."""
    code = (
        "import subprocess, sys, time; "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], env={}).pid, flush=True); time.sleep(60)"
    )
    above = sleeper(code, **{processes.MARK: str(HOME)})
    found = processes.ours(HOME)
    assert found[0].pid == above.pid and len(found) == 2
    processes.end(found)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_supervisord_runs_in_a_folder_of_any_name(tmp_path, name):
    home = tmp_path / name
    home.mkdir()
    program = "import sys, time; print(sys.argv[1:], flush=True); time.sleep(60)"
    words = (str(home / "x;y"), "50%", "a ;b", " #1", "")
    one = Service("one", "One", (sys.executable, "-c", program, *words), "http://127.0.0.1/", first=True)
    supervise.start(home, supervise.configuration(home, [one]), [one], dict(os.environ))
    try:
        log = home / "logs/one.log"
        wait_until(lambda: log.exists() and log.read_text() == f"{list(words)}\n")
        assert Path(psutil.Process(supervise.states(home)["one"]["pid"]).cwd()) == paths.ROOT
    finally:
        supervise.shut_down(home)
        if (sockets := runtime.folder(home)) != home / "run":
            shutil.rmtree(sockets)
    assert [path.name for path in tmp_path.iterdir()] == [name]
