"""House rules of the images, read from their Dockerfiles: no engine is needed."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

from local.paths import ROOT
from tests.docker.roles import ROLES, needs, pins, stages, steps

SCRIPTS = ("install.sh", "prepare.sh")


@pytest.fixture(params=ROLES)
def role(request):
    """Every image, except where a test names its own."""
    return request.param


def last(role):
    return stages(role)[role]


def test_hadolint_finds_nothing(role):
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    done = subprocess.run(
        [hadolint, "--no-color", f"docker/{role}.Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_needs_no_frontend_from_a_registry(role):
    text = (ROOT / f"docker/{role}.Dockerfile").read_text()
    assert not re.search(r"^#\s*syntax\s*=", text, re.MULTILINE)


def test_every_stage_stands_on_the_base_image_that_an_argument_names(role):
    assert stages(role)[""] == [("ARG", "PYTHON_IMAGE=python:3.11-slim-bookworm")]
    assert {rest.split()[0] for word, rest in steps(role) if word == "FROM"} == {"${PYTHON_IMAGE}"}
    assert list(stages(role))[-1] == role, "the last stage is the image; name it after its role"


def test_packages_come_from_the_roles_own_lock(role):
    (install,) = [rest for word, rest in stages(role)["packages"] if word == "RUN" and "install.sh" in rest]
    assert re.search(rf"sh install\.sh {role}\.txt\b", install)
    assert "type=secret,id=ca" in install and "type=cache" in install


def test_only_the_environment_and_files_of_ours_are_copied_into_it(role):
    copied = [rest for word, rest in last(role) if word == "COPY"]
    assert "--from=packages /opt/venv /opt/venv" in copied
    for rest in set(copied) - {"--from=packages /opt/venv /opt/venv"}:
        assert "--from=code" in rest or "docker/" in rest, (
            f"{rest}: what a build stage made besides /opt/venv stays there"
        )


def test_the_last_stage_downloads_nothing_but_debians_java(role):
    runs = [rest for word, rest in last(role) if word == "RUN"]
    assert "sh /mnt/prepare.sh" in runs[0], "the layer that the images share comes first"
    assert [rest for rest in runs if re.search(r"\b(pip|uv|curl|wget|apt-get|apt)\b", rest)] == []
    packages = runs[0].partition("sh /mnt/prepare.sh")[2].split()
    java = ("ARG", "JAVA_PACKAGE=openjdk-17-jre-headless") in last(role)
    assert packages == (['"$JAVA_PACKAGE"'] if java else [])


def test_java_is_where_spark_is(role):
    has = any("JAVA_PACKAGE" in rest for _, rest in last(role))
    assert has == any(name.split(".")[0] == "pyspark" for name in needs(role))


def test_no_index_address_and_no_secret_reaches_it(role):
    final = " ".join(f"{word} {rest}" for word, rest in last(role))
    found = set(re.findall(r"\w*(?:INDEX|PROXY|_CERT|PASSWORD|TOKEN|FERNET|SECRET|AWS_)\w*", final))
    assert found <= {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"}  # only a path


def test_it_runs_as_a_user_by_number_that_is_not_root(role):
    words = [word for word, _ in last(role)]
    assert [rest for word, rest in last(role) if word == "USER"] == ["10001:10001"]  # runAsNonRoot looks no name up
    assert "RUN" not in words[words.index("USER") :]


def test_it_says_how_it_is_unless_it_ends_by_itself(role):
    (check,) = [rest for word, rest in last(role) if word == "HEALTHCHECK"]
    assert (check == "NONE") == ROLES[role].get("ends", False)
    assert check == "NONE" or "/usr/local/lib/airloop/health.py" in check


def test_it_says_which_code_it_is(role):
    labels = dict(last(role))["LABEL"]
    assert 'image.revision="${AIRLOOP_CODE_REVISION}"' in labels and f'image.title="Airloop {role}"' in labels
    assert ("ENV", "AIRLOOP_CODE_REVISION=${AIRLOOP_CODE_REVISION}") in last(role)
    after = [word for word, _ in last(role)][-4:]
    assert after == ["ARG", "ARG", "ENV", "LABEL"], "the revision changes with every commit: keep it behind all else"


def test_it_holds_the_code_that_it_runs_and_what_that_reads(role):
    copied = {source for word, rest in steps(role) if word == "COPY" for source in rest.split()[:-1]}
    wanted = {name.split("/")[0] for name in ROLES[role]["runs"]}
    wanted |= {"models", "tasks", "params.yaml"} if wanted & {"tasks", "serving"} else set()
    wanted |= {"dvc.yaml", "jobs.yaml"} if "tasks" in "".join(ROLES[role]["runs"]) else set()
    assert wanted <= copied
    assert [name for name in wanted if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(("engine", "role"), [("python", "train"), ("spark", "spark")])
def test_a_stage_of_dvc_yaml_runs_where_its_engine_is(engine, role):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    jobs = yaml.safe_load((ROOT / "jobs.yaml").read_text())["jobs"].values()
    # A Python job in a pod runs in the image `airflow`, which has all of tasks/ (plugins/airloop/pod_spec.py).
    found = [stage.get("do", stage) for stage in stages] + [job for job in jobs if job["meta"]["engine"] == "spark"]
    scripts = {work["cmd"].split()[1] for work in found if work["meta"]["engine"] == engine}
    assert scripts
    assert {*scripts, "tasks/running/__main__.py"} <= set(ROLES[role]["runs"]), (
        f"docker/images.toml, {role}.runs: add what dvc.yaml or jobs.yaml gained"
    )


def test_a_build_sees_what_is_copied_and_nothing_else(role):
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*", "the list names what may be seen, so that a secret beside it cannot be"
    assert {"**/.*", "**/__pycache__"} <= set(rules)
    seen = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source.split("/")[0]
        for word, rest in steps(role)
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
        if not source.startswith("--")
    }
    assert copied <= seen


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_stop_at_the_first_failure(script):
    assert "\nset -eu\n" in (ROOT / "docker" / script).read_text()


def test_packages_are_installed_by_hash():
    commands = [line for script in SCRIPTS for line in installs((ROOT / "docker" / script).read_text())]
    assert commands
    for command in commands:
        # PyTorch's builds differ by machine, so that only its version is pinned.
        assert "--require-hashes" in command or command.endswith('"torch==$(cat torch.version)"')


def installs(text):
    return re.findall(r"^.*\b(?:pip install|pip sync)\b.*$", text, re.MULTILINE)


def test_debians_packages_bring_nothing_along_and_leave_no_lists():
    text = (ROOT / "docker/prepare.sh").read_text()
    assert text.count("apt-get install") == text.count("--no-install-recommends") >= 1
    assert "rm -rf /var/lib/apt/lists/*" in text


def test_onnx_runtime_reports_to_nobody(role):
    """Its wheel sends usage to its maker unless told not to (seen: it tries to keep a device id)."""
    holds = "onnxruntime" in pins(f"{role}.txt")
    assert holds == any("ORT_DISABLE_TELEMETRY=1" in rest for word, rest in last(role) if word == "ENV")
