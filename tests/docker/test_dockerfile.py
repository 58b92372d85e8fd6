"""House rules of the image, read from its Dockerfile: no engine is needed."""

import re
from pathlib import Path

from local.paths import ROOT

SOURCES = ("dags", "plugins", "tasks", "serving", "dvc.yaml", "params.yaml")


def test_it_needs_no_frontend_from_a_registry():
    assert "syntax=" not in (ROOT / "docker/airflow.Dockerfile").read_text().splitlines()[0]


def test_every_stage_stands_on_the_base_image_that_an_argument_names(stages):
    assert stages[""] == [("ARG", "PYTHON_IMAGE=python:3.11-slim-bookworm")]
    assert {steps[0][1].split()[0] for name, steps in stages.items() if name} == {"${PYTHON_IMAGE}"}


def test_packages_are_installed_by_their_hashes_from_the_locks(stages):
    installs = [
        rest for word, rest in stages["packages"] if word == "RUN" and ("pip install" in rest or "pip sync" in rest)
    ]
    assert len(installs) == 1
    commands = [part for part in installs[0].split("&&") if "pip install" in part or "pip sync" in part]
    assert all("--require-hashes" in command and "--no-cache" in command for command in commands)
    assert "main.txt containers.txt" in commands[-1]


def test_no_index_address_and_no_secret_reaches_the_image(stages):
    final = " ".join(f"{word} {rest}" for word, rest in stages["airflow"])
    found = re.findall(r"\w*(?:INDEX|PROXY|_CERT|PASSWORD|TOKEN|FERNET|SECRET)\w*", final)
    assert found == ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]  # only a path


def test_nothing_is_downloaded_in_the_last_stage_but_debians_java(stages):
    runs = [rest for word, rest in stages["airflow"] if word == "RUN"]
    assert len(runs) == 1
    assert re.findall(r"apt-get install -y --no-install-recommends (.+?) &&", re.sub(r"\s+", " ", runs[0])) == [
        "openjdk-17-jre-headless"
    ]
    assert "rm -rf /var/lib/apt/lists/*" in runs[0]
    assert not re.search(r"\b(pip|uv|curl|wget|gcc|build-essential)\b", runs[0])


def test_it_runs_as_a_user_by_number_that_is_not_root(stages):
    users = [rest for word, rest in stages["airflow"] if word == "USER"]
    assert users == ["10001:10001"]  # by number: Kubernetes' runAsNonRoot cannot look a name up


def test_it_holds_the_code_that_the_pipeline_needs(stages):
    copied = {source for word, rest in stages["code"] if word == "COPY" for source in rest.split()[:-1]}
    assert set(SOURCES) <= copied
    assert [name for name in SOURCES if not (ROOT / name).exists()] == []


def test_it_says_what_it_is_and_how_it_is(stages):
    words = dict(stages["airflow"])
    assert "health.py" in words["HEALTHCHECK"]
    assert 'image.revision="${AIRLOOP_CODE_REVISION}"' in words["LABEL"]
    assert ("ENV", "AIRLOOP_CODE_REVISION=${AIRLOOP_CODE_REVISION}") in stages["airflow"]


def test_the_commands_and_volumes_of_compose_exist_in_it(stages, services):
    text = "\n".join(rest for _, rest in stages["airflow"])
    for name, service in services.items():
        if name == "postgres":
            continue
        for mount in service.get("volumes", []):
            assert mount.split(":")[1] in text, (
                f"{name}: make the folder in the image, so that its volume belongs to the user"
            )
        for word in service.get("healthcheck", {}).get("test", []):
            if word.endswith(".py"):
                assert (ROOT / "docker" / Path(word).name).exists()


def test_a_build_sees_what_is_copied_and_nothing_else(instructions):
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*", "the list names what may be seen, so that a secret beside it cannot be"
    seen = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source.split("/")[0]
        for word, rest in instructions
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert seen == copied
    assert {"**/.*", "**/__pycache__"} <= set(rules)
