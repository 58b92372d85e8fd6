"""The frame counts what a command and all it started took, and says when the machine was not quiet."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from bench import frame
from bench.__main__ import MEASUREMENTS, table
from bench.frame import Machine, Row, run, timed


def python(tmp_path, code):
    return run([sys.executable, "-c", textwrap.dedent(code)], tmp_path)


def test_a_command_is_charged_for_its_children_also_those_nobody_waits_for(tmp_path):
    usage = python(
        tmp_path,
        """
        import subprocess, sys, time
        grab = "import time; block = bytearray(300 * 2**20); end = time.process_time() + 0.5\\nwhile time.process_time() < end: pass\\n"
        child = subprocess.Popen([sys.executable, "-c", grab + "print('held', flush=True); time.sleep(60)"], stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(0.6)
        child.kill()  # and never waited for, as Python does with Spark's JVM
        print("done")
        """,
    )
    assert usage.output == "done\n"
    assert usage.peak_mb > 300
    assert usage.cpu_s > 0.45
    assert usage.seconds > 0.7


def test_sleeping_costs_time_and_no_cpu(tmp_path):
    usage = python(tmp_path, "import time; time.sleep(0.4)")
    assert usage.seconds > 0.4
    assert usage.cpu_s < 0.3


def test_a_command_that_fails_is_no_measurement(tmp_path):
    with pytest.raises(RuntimeError, match="no such thing"):
        python(tmp_path, "raise SystemExit('no such thing')")


def test_rows_keep_every_repeat_and_the_spread():
    values = iter((3.0, 1.0, 2.0))
    row = timed("stage", lambda: frame.Usage(next(values), 0.5, 100.0, ""), 3)
    found = row.as_dict()
    assert (found["min"], found["median"], found["max"], found["values"]) == (1.0, 2.0, 3.0, [3.0, 1.0, 2.0])
    assert (found["cpu_s"], found["peak_mb"]) == (0.5, 100.0)
    json.dumps(found)


def test_a_busy_machine_is_named(monkeypatch):
    monkeypatch.setattr(frame.os, "cpu_count", lambda: 2)
    machine = Machine(load=[3.2])
    assert "3.2 on 2 cores" in machine.busy()
    quiet = Machine(load=[0.1])
    monkeypatch.setattr(frame.psutil, "cpu_times", lambda: quiet.before)
    assert quiet.busy() == ""


def test_steal_is_named(monkeypatch):
    class Times(SimpleNamespace):
        def __iter__(self):
            return iter((self.user, self.steal))

    machine = Machine(load=[0.0], before=Times(user=0.0, steal=0.0))
    monkeypatch.setattr(frame.psutil, "cpu_times", lambda: Times(user=90.0, steal=10.0))
    assert "10% of the CPU time" in machine.busy()


def test_the_table_shows_only_columns_that_are_filled():
    shown = table("t", [Row("a", "s", (1.0,), "", {"peak_mb": 5.0})])
    assert [str(c.header) for c in shown.columns] == ["what", "median", "min", "max", "unit", "peak MiB", "note"]


def test_help_lists_every_measurement(tmp_path):
    done = subprocess.run([sys.executable, "-m", "bench", "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in MEASUREMENTS)
    refused = subprocess.run([sys.executable, "-m", "bench", "nonsense"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "nonsense" in refused.stderr
