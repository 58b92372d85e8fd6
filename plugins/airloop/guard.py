"""Runs a command that must not outlive whoever started it: `python guard.py COMMAND...`, with stdin a pipe from the starter.

A task that is killed with SIGKILL cannot clean up, and its command, in a session of its own, would go on beside the retry.
Here the pipe's end tells: the kernel closes it with the starter, whatever killed it. Only the standard library, no
imports of ours: it starts in some 20 ms.

After SIGTERM it waits for all that the command started and not for the command alone: a stage's own process stands below DVC's,
and may need some seconds for a checkpoint when those above it are gone.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 10
"""From SIGTERM, which the whole group gets, to SIGKILL."""

ending = threading.Event()


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
    if not ending.is_set():  # else the alarm is set, and what was asked to end has its time
        _kill_group()


def main() -> int:
    """Exit code of the command, or 128 + the number of the signal that ended it."""
    if os.getpgrp() != os.getpid():
        raise SystemExit("guard.py kills its whole process group, so it must lead one (start_new_session=True).")
    starter = os.dup(0)
    signal.signal(signal.SIGTERM, _end)
    _adopt_orphans()
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_watch, args=(starter,), daemon=True).start()
    code = command.wait()
    if ending.is_set():
        _wait_for_all()  # what missed the SIGTERM is killed by the alarm
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    # Not sys.exit: the interpreter's own end would wait for a lock that the watching thread may hold.
    result = main()
    sys.stdout.flush()
    os._exit(result)
