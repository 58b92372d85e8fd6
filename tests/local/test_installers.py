"""pip and uv go by one configuration, whichever of the two was told, and by nothing that is about other work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local import installers

MIRROR = "https://mirror.example/simple"
BARE = {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "PATH": os.defpath}


def made(**environ: str) -> dict[str, str]:
    return installers.environment({**BARE, **environ})


@pytest.fixture
def pip_conf(tmp_path: Path) -> str:
    file = tmp_path / "pip.conf"
    file.write_text(
        f"[global]\nindex-url = {MIRROR}\ncert = /ca.pem\nproxy = http://proxy:1\ntrusted-host = a.example\n  b.example\n"
        f"find-links = {tmp_path}\n  /nonexistent\nuser = true\ntarget = /nonexistent\nconstraint = /nonexistent\n"
        "[install]\nextra-index-url = https://more.example/simple file:///nonexistent\n"
    )
    return str(file)


@pytest.fixture
def uv_toml(tmp_path: Path) -> str:
    file = tmp_path / "uv.toml"
    file.write_text(
        f'allow-insecure-host = ["a.example"]\n[[index]]\nurl = "{MIRROR}"\ndefault = true\n'
        '[[index]]\nname = "more"\nurl = "https://more.example/simple"\n[pip]\nsystem = true\ntarget = "/nonexistent"\n'
    )
    return str(file)


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_a_mirror_that_one_is_told_of_is_both_s(name):
    said = made(**{name: MIRROR})
    assert (said["PIP_INDEX_URL"], said["UV_DEFAULT_INDEX"]) == (MIRROR, MIRROR)


def test_pip_s_file_is_both_s(pip_conf, tmp_path):
    said = made(PIP_CONFIG_FILE=pip_conf)
    assert said["UV_DEFAULT_INDEX"] == said["PIP_INDEX_URL"] == MIRROR
    assert said["UV_INDEX"] == said["PIP_EXTRA_INDEX_URL"] == "https://more.example/simple", "the folder is not there"
    assert said["UV_FIND_LINKS"] == said["PIP_FIND_LINKS"] == str(tmp_path)
    assert said["UV_INSECURE_HOST"] == said["PIP_TRUSTED_HOST"] == "a.example b.example"
    assert said["SSL_CERT_FILE"] == said["PIP_CERT"] == "/ca.pem"
    assert said["HTTPS_PROXY"] == "http://proxy:1"


def test_uv_s_file_is_both_s(uv_toml):
    said = installers.environment({**BARE, "UV_NO_CONFIG": "", "UV_CONFIG_FILE": uv_toml})
    assert said["PIP_INDEX_URL"] == said["UV_DEFAULT_INDEX"] == MIRROR
    assert said["PIP_EXTRA_INDEX_URL"] == said["UV_INDEX"] == "https://more.example/simple"
    assert said["PIP_TRUSTED_HOST"] == "a.example"
    assert "UV_CONFIG_FILE" not in said


def test_a_variable_wins_over_a_file(pip_conf):
    assert (
        made(PIP_CONFIG_FILE=pip_conf, PIP_INDEX_URL="https://other.example")["UV_DEFAULT_INDEX"]
        == "https://other.example"
    )
    assert (
        made(PIP_CONFIG_FILE=pip_conf, UV_DEFAULT_INDEX="https://other.example")["PIP_INDEX_URL"]
        == "https://other.example"
    )


@pytest.mark.parametrize("name", ["PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_private_authority_is_both_s(name):
    said = made(**{name: "/etc"})
    assert (said["PIP_CERT"], said["SSL_CERT_FILE"]) == ("/etc", "/etc")


def test_nothing_of_other_work_reaches_them(pip_conf):
    said = made(
        PIP_USER="1", PIP_TARGET="/x", PIP_REQUIRE_VIRTUALENV="1", PIP_CONSTRAINT="/x", UV_SYSTEM_PYTHON="1", UV_PYTHON="/x",
        UV_PROJECT_ENVIRONMENT="/x", PYTHONPATH="/x", PYTHONHOME="/x", PYTHONUSERBASE="/x", PIP_CONFIG_FILE=pip_conf,
    )  # fmt: skip
    kept = {name for name in said if name.startswith(("PIP_", "UV_", "PYTHON"))}
    assert kept == {
        "PIP_CONFIG_FILE", "PIP_DISABLE_PIP_VERSION_CHECK", "UV_NO_CONFIG", "UV_INDEX_STRATEGY",
        *(variable for pip, uv, _ in installers.BOTH.values() for variable in (pip, uv) if variable in said and variable.startswith(("PIP_", "UV_"))),
    }  # fmt: skip
    assert said["PIP_CONFIG_FILE"] == os.devnull


def test_where_nothing_is_said_nothing_is():
    said = made()
    assert not {"PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "SSL_CERT_FILE", "HTTPS_PROXY"} & set(said)


def test_both_installers_themselves_ask_the_mirror(tmp_path, pip_conf):
    """A mirror that is away: each says so by its address, and neither puts anything where the shell's target says."""
    environ = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "UV_HTTP_TIMEOUT": "5", "UV_NO_CONFIG": "1", "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
               "PIP_TARGET": str(tmp_path / "target"), "PIP_RETRIES": "0", "UV_HTTP_RETRIES": "0"}  # fmt: skip
    for name in [name for name in environ if name.endswith("FIND_LINKS") or name.lower().endswith("_proxy")]:
        del environ[name]
    env = installers.environment(environ)
    for command in (
        ["-m", "pip", "download", "--no-deps", "-d", str(tmp_path), "not-there"],
        ["-m", "uv", "pip", "install", "--target", str(tmp_path / "uv"), "--no-deps", "not-there"],
    ):
        done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "127.0.0.1" in done.stdout + done.stderr and "not-there" in done.stderr, done.stdout + done.stderr
    assert not (tmp_path / "target").exists()
