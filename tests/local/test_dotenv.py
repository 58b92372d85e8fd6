"""`.env` means to make what it means to docker compose; the cases are those of compose's own documentation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local import dotenv, env, paths
from local.errors import LocalError

FILE = """\
# a remark
PLAIN=value
REMARK=8081 # mine
NO_REMARK=8081#mine
export EXPORTED=yes
SINGLE='literal $PLAIN ${PLAIN} # kept'
DOUBLE="with $PLAIN and # kept" # a remark
BRACES=${PLAIN}-x
DEFAULT=${NOT_SET:-fallback}
EMPTY_DEFAULT=${EMPTY-fallback}
EMPTY=
DOLLAR=a$$b
SPACES =  around
UMLAUT=Füße
"""
MEANT = {
    "PLAIN": "value", "REMARK": "8081", "NO_REMARK": "8081#mine", "EXPORTED": "yes", "SINGLE": "literal $PLAIN ${PLAIN} # kept",
    "DOUBLE": "with value and # kept", "BRACES": "value-x", "DEFAULT": "fallback", "EMPTY_DEFAULT": "fallback", "EMPTY": "",
    "DOLLAR": "a$b", "SPACES": "around", "UMLAUT": "Füße",
}  # fmt: skip


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / ".env").write_text(text, encoding="utf-8")
    return tmp_path / ".env"


def test_each_line_means_this(tmp_path):
    assert dotenv.read(written(tmp_path, FILE)) == MEANT


def test_compose_reads_the_same(tmp_path):
    command = ["docker", "compose", "version"]
    if shutil.which("docker") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("there is no docker command with a compose plugin here")
    written(tmp_path, FILE)
    lines = "".join(f"      {name}: ${{{name}}}\n" for name in MEANT)
    (tmp_path / "compose.yaml").write_text(f"services:\n  a:\n    image: a\n    environment:\n{lines}")
    command = ["docker", "compose", "config", "--format", "json", "--no-interpolate=false"]
    said = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout)
    assert {n: v.replace("$$", "$") for n, v in said["services"]["a"]["environment"].items()} == MEANT


def test_a_port_with_a_remark_is_a_port(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AIRLOOP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(env, "ROOT", tmp_path)
    written(tmp_path, "AIRLOOP_AIRFLOW_PORT=8081 # mine\n")
    assert env.place().airflow_port == 8081


def test_the_shell_fills_in_what_no_line_says(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMEBODY", "me")
    monkeypatch.setenv("BOTH", "shell")
    assert dotenv.read(written(tmp_path, "BOTH=file\nA=$SOMEBODY\nB=$BOTH\n")) == {
        "BOTH": "file",
        "A": "me",
        "B": "file",
    }


def test_windows_line_ends_and_marks_are_no_part_of_a_value(tmp_path):
    (tmp_path / ".env").write_bytes("\ufeffA=1\r\nB=2\r\n".encode())
    assert dotenv.read(tmp_path / ".env") == {"A": "1", "B": "2"}


@pytest.mark.parametrize("value", ["pa$-word", "${A:?needed}", "ends$"])
def test_a_dollar_that_is_no_variable_is_said(tmp_path, value):
    with pytest.raises(LocalError, match=r"A in .* has a `\$` that is no variable: write the value in single quotes"):
        dotenv.read(written(tmp_path, f"A={value}\n"))


def test_a_line_that_is_none_is_said(tmp_path):
    with pytest.raises(LocalError, match=r"Line 2 of .* is not NAME=value"):
        dotenv.read(written(tmp_path, "A=1\n=x y\n"))


def test_no_file_says_nothing(tmp_path):
    assert dotenv.read(tmp_path / ".env") == {}


def test_the_locale_changes_nothing(tmp_path):
    """A file with umlauts, and a home with some, in a locale that knows none."""
    written(tmp_path, "UMLAUT=Füße\n")
    home = tmp_path / "Füße"
    code = (
        "from pathlib import Path; import json, os; from local import dotenv, env; made = env.environment();"
        f"print(json.dumps([dotenv.read(Path(os.fsdecode({os.fsencode(tmp_path / '.env')!r})))['UMLAUT'], os.fsencode(made['AIRLOOP_HOME']).hex()]))"
    )
    environ = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "AIRLOOP_HOME": str(home)}
    # Without `site`, which in this locale cannot read the name of a checkout that has umlauts itself.
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=paths.ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["Füße", os.fsencode(home).hex()]
