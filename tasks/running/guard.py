"""Keeps a command from outliving whoever started it.

A task that is killed with SIGKILL cannot clean up, and its command, in a session of its own, would go on beside the retry. So
the command's process forks at once, before it has imported anything: the parent watches, the child works. The parent's stdin is a
pipe from the starter; the kernel closes it with the starter, whatever killed it, and the parent kills the whole group.

After SIGTERM it waits for all that the command started and not for the command alone: a stage's own process may need some
seconds for a checkpoint when those above it are gone. Standard library only.
"""

import ctypes
import os
import signal
import sys
import threading

from tasks.running.variables import GUARDED

GRACE_SECONDS = 10
"""From SIGTERM, which the whole group gets, to SIGKILL."""
SIGNAL_SECONDS = 0.5
"""How long a signal may take to be handled."""

ending = threading.Event()
_group = 0


def enter() -> None:
    """Fork where a starter asked for a guard. Returns in the child, which does the work; the parent never returns."""
    if not os.environ.pop(GUARDED, ""):
        return
    if os.getpgrp() != os.getpid():
        raise SystemExit(
            f"{GUARDED} is set, but this process leads no group (start_new_session=True); its kill would hit others."
        )
    signal.signal(signal.SIGTERM, _end)  # before the fork, so that none is missed
    _adopt_orphans()
    child = os.fork()
    if child:
        _guard(child)
    global _group  # noqa: PLW0603 - a fact of this process
    _group = os.getpgrp()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def group() -> int:
    """The process group that holds this process and all it starts, and nothing else; 0 without a guard."""
    return _group


def _guard(child: int) -> None:
    threading.Thread(target=_watch, args=(0,), daemon=True).start()
    code = os.waitstatus_to_exitcode(_waited_for(child))
    if ending.is_set():
        _wait_for_all()  # what missed the SIGTERM is killed by the alarm
    # Not sys.exit: the interpreter's own end would wait for a lock that the watching thread may hold.
    os._exit(code if code >= 0 else 128 - code)


def _waited_for(child: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def _kill_group(*_: object) -> None:
    os.killpg(0, signal.SIGKILL)


def _end(*_: object) -> None:
    signal.signal(signal.SIGALRM, _kill_group)
    signal.alarm(GRACE_SECONDS)
    ending.set()


def _adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that ``wait`` knows of it (Linux)."""
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1)


def _wait_for_all() -> None:
    """Until none of them is left; the alarm ends a wait that takes too long."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def _watch(starter: int) -> None:
    while os.read(starter, 1):
        pass
    # Whoever is asked to end sends SIGTERM and ends soon after: the signal may not have been handled yet.
    if not ending.wait(SIGNAL_SECONDS):  # else the alarm is set, and what was asked to end has its time
        _kill_group()
