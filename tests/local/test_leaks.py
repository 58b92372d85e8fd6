"""What a developer's shell has for other work does not reach what runs here; what is the user's own reaches all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local import env, java, leaks, paths
from tasks.core import network

from .test_checks import fake_java

SHELL = {
    "SPARK_HOME": "/nonexistent",
    "SPARK_REMOTE": "sc://elsewhere:1",
    "PYSPARK_SUBMIT_ARGS": "--master spark://elsewhere:1 pyspark-shell",
    "JAVA_TOOL_OPTIONS": "-Xmx1m",
    "_JAVA_OPTIONS": "-Xmx1m",
    "JDK_JAVA_OPTIONS": "--no-such-option",
    "PYTHONHOME": "/nonexistent",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "MLFLOW_REGISTRY_URI": "databricks",
    "MLFLOW_EXPERIMENT_NAME": "elsewhere",
    "DVC_NO_ANALYTICS": "0",
    "GIT_DIR": "/nonexistent/.git",
    "PIP_USER": "1",
    "PIP_TARGET": "/nonexistent",
    "UV_SYSTEM_PYTHON": "1",
    "UV_PROJECT_ENVIRONMENT": "/nonexistent",
}
SESSION = """
from tasks.engines.spark import session
spark = session("leaks")
print("MASTER", spark.sparkContext.master, spark.range(5).count(), spark.conf.get("spark.sql.extensions", "none"))
"""


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A shell of somebody who works with another Spark, and with much else."""
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "spark-defaults.conf").write_text(
        "spark.master spark://elsewhere:1\nspark.sql.extensions no.such.Extension\n"
    )
    monkeypatch.setenv("AIRLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(env, "ROOT", tmp_path)
    return {**SHELL, "SPARK_CONF_DIR": str(conf)}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["by hand", "in airloop shell"])
def test_a_stage_s_spark_is_our_own(shell, how, tmp_path):
    lines = ""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRLOOP_", "AIRFLOW"))}
    environ = {**clean, **shell, "AIRLOOP_HOME": str(tmp_path / "home")}
    del environ["PYTHONHOME"]  # with which no Python begins at all
    if how == "in airloop shell":
        command = [sys.executable, "-m", "local.cli", "env"]
        lines = subprocess.run(command, cwd=paths.ROOT, env=environ, capture_output=True, text=True, check=True).stdout
    script = f"{lines}\n'{sys.executable}' -c '{SESSION}'"
    done = subprocess.run(
        ["sh", "-c", script], cwd=paths.ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert "MASTER local[*] 5 none" in done.stdout, done.stderr[-3000:]


def test_what_starts_here_has_none_of_it(shell, monkeypatch):
    for name, value in shell.items():
        monkeypatch.setenv(name, value)
    made = env.whole()
    assert {name: made[name] for name in shell if made.get(name) == shell[name]} == {}
    assert Path(made["SPARK_HOME"], "jars").is_dir()
    assert not Path(made["SPARK_CONF_DIR"]).exists()


def test_make_shell_unsets_it(shell, monkeypatch):
    environ = {**os.environ, **shell}
    del environ["PYTHONHOME"], environ["PYTHONWARNINGS"]
    lines = subprocess.run(
        [sys.executable, "-m", "local.cli", "env"],
        cwd=paths.ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert {"unset JAVA_TOOL_OPTIONS", "unset PIP_USER", "unset GIT_DIR", "unset MLFLOW_REGISTRY_URI"} <= set(lines)


def test_make_s_pythons_begin_whatever_the_shell_says_to_python():
    environ = {**os.environ, "PYTHONHOME": "/nonexistent", "PYTHONPATH": "/nonexistent"}
    make = subprocess.run(["make", "--version"], capture_output=True, text=True, check=True)
    assert "GNU Make" in make.stdout
    probe = "include Makefile\nprobe:\n\t@env\n"
    said = subprocess.run(
        ["make", "-f", "-", "probe"],
        input=probe,
        cwd=paths.ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [line for line in said if line.startswith(("PYTHONHOME=", "PYTHONPATH="))] == []
    assert "PYTHONUTF8=1" in said


def test_what_is_said_in_the_checkout_s_own_file_is_meant(shell, tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("SPARK_DRIVER_MEMORY=3g\n")
    monkeypatch.setenv("SPARK_DRIVER_MEMORY", "9g")
    assert env.whole()["SPARK_DRIVER_MEMORY"] == "3g"


@pytest.mark.parametrize(
    "name",
    ["PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_MINE_PASSWORD", "PIP_CERT", "HTTPS_PROXY", "SSL_CERT_FILE", "AWS_CA_BUNDLE",
     "MLFLOW_TRACKING_TOKEN", "AIRFLOW__API__WORKERS", "PYTHONHASHSEED", "LANG", "TZ"],
)  # fmt: skip
def test_what_is_the_user_s_own_stays(name):
    assert not leaks.is_foreign(name)


def test_loopback_is_past_every_proxy_and_what_was_past_it_before_still_is():
    assert network.settings({}) == {}
    said = network.settings(
        {"HTTPS_PROXY": "http://proxy:1", "no_proxy": "a.example", "NO_PROXY": "b.example, localhost"}
    )
    assert said == dict.fromkeys(["NO_PROXY", "no_proxy"], "a.example,b.example,localhost,127.0.0.1,::1")


def test_an_authority_that_one_program_is_told_of_counts_for_all():
    assert network.settings({"REQUESTS_CA_BUNDLE": "/ca.pem"}) == dict.fromkeys(
        ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"), "/ca.pem"
    )
    kept = network.settings({"SSL_CERT_FILE": "/a", "REQUESTS_CA_BUNDLE": "/b", "AWS_CA_BUNDLE": "/c"})
    assert kept == {"CURL_CA_BUNDLE": "/a"}


def test_the_services_get_the_user_s_network(shell, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    for name in (*network.AUTHORITIES, "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/ca.pem")
    made = env.whole()
    assert (made["HTTPS_PROXY"], made["SSL_CERT_FILE"]) == ("http://proxy:1", "/ca.pem")
    assert "127.0.0.1" in made["NO_PROXY"].split(",")


@pytest.mark.parametrize("release", [True, False])
@pytest.mark.parametrize(("version", "used"), [("11", "stamped"), ("1.8", "stamped"), ("17", "named"), ("21", "named")])
def test_a_java_that_spark_cannot_run_on_makes_way_for_the_stamped_one(tmp_path, release, version, used):
    named, stamped = tmp_path / "named", tmp_path / "stamped"
    for home, number in ((named, version), (stamped, "17")):
        home.mkdir()
        fake_java(home, number, java.MODULE)
    if release:
        (named / "release").write_text(f'JAVA_VERSION="{version}.0.2"\nMODULES="java.base {java.MODULE}"\n')
    assert java.usable(str(named), str(stamped)) == str(tmp_path / used)
    assert java.usable("", str(stamped)) == str(stamped)
    assert java.usable(str(named), "") == str(named), "with none to fall back to, the check at start says what is wrong"


def test_the_environment_uses_the_stamped_java(shell, tmp_path, monkeypatch):
    named, stamped = tmp_path / "eight", tmp_path / "seventeen"
    for home, number in ((named, "1.8"), (stamped, "17")):
        home.mkdir()
        fake_java(home, number, java.MODULE)
    monkeypatch.setattr(env, "STAMP", tmp_path / "stamp")
    (tmp_path / "stamp").write_text(json.dumps({"java_home": str(stamped)}))
    monkeypatch.setenv("JAVA_HOME", str(named))
    made = env.environment()
    assert made["JAVA_HOME"] == str(stamped)
    assert str(stamped / "bin") in made["PATH"].split(os.pathsep)
