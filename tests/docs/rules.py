"""How each command of the docs is checked: by its program. A program that is not here is an error, and so is a word that
its check does not know.

Three kinds: RUN is run by tests/docs, as written; STACK is run by tests/e2e/test_documented.py, as written, against a real
Airflow; all others are dry: the program's own parser takes the words, and files, services and names are there. WHY_DRY has the reason.
"""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import yaml

from local.paths import ROOT
from tests.docker.roles import ROLES
from tests.docs import parsers
from tests.docs.commands import assignments, split

RUN = ("make help", "python3 docker/make_env.py", "grep AIRLOOP_ADMIN_PASSWORD .env", "new()", "airflow=$(new)")
"""How they begin; with them runs the block of docs/kubernetes.md that makes secrets, its kubectl replaced by one that notes."""
STACK = ("airloop land", "airflow dags trigger", "airflow backfill create")
"""How they begin, in README.md."""
WHY_DRY = {
    "airloop": "it would start services or write to the checkout; tests/local and tests/running/test_top.py run it elsewhere",
    "balance": "needs the proxy: tests/docker/test_proxy.py and test_stack.py do it",
    "airflow": "tests/e2e/test_documented.py runs README.md's; the others differ in intervals and place",
    "curl": "it asks a service at its usual port, which on a developer's machine may be another one's",
    "docker": "needs an engine and minutes: tests/docker/test_stack.py plays on the stack every night",
    "dvc": "tests/bench and tests/e2e run its stages; here it would write to the checkout",
    "helm": "needs the network and a cluster; the workflow ci renders the chart with these values",
    "kind": "makes a cluster: the workflow nightly does",
    "kubectl": "needs a cluster: `make test-cluster` has one every night; the rendered objects are tested in tests/kubernetes",
    "make": "takes minutes; tests/local runs the demo's beginning, and CI the others",
    "python": "hours, or outputs in the checkout; the e2e story runs the stages",
    "sbatch": "needs SLURM; tests/training/test_launch.py runs the script's torchrun",
}
MENTIONED = {
    "docker run --init": "an option's name",
    "docker inspect": "names the command",
    "docker kill": "what a person does to a container; tests/docker/test_stack.py does it",
    "mlflow models serve": "what bench compares with",
    "pip check": "says what an image does not pass",
    "mlflow db upgrade": "MLflow's own command, in its pod",
    "airloop VERB --help": "the form of each verb's help",
    "airflow users create": "a command of a provider that a team adds",
    "helm template": "names the command",
    "helm upgrade": "names the command",
    "helm upgrade …": "in full above it",
    "kubectl label node": "names the command",
    "kubectl taint node": "names the command",
    "kubectl delete -k …": "in full in docs/kubernetes.md",
    "kubectl apply --server-side -k …": "in full above it",
    "kubectl rollout restart deploy": "names the command",
    "kubectl describe quota": "what to look at",
    "kubectl describe pod": "what to look at",
    "kubectl get networkpolicy": "what to look at",
    "python tasks/<stage>.py [--interval M]": "the form of all stages' commands",
}
"""Names of commands in a sentence, which nobody types as they stand."""
BLANKS = {"<id>": "1", "<file>": "file", "…": "x", "...": "x"}
"""What a reader fills in."""
COMPOSE = {
    "up": ("--build", "--no-build", "--wait", "--scale", "--no-deps", "--force-recreate", "--no-recreate"),
    "run": ("--rm", "-v", "-e"),
    "exec": (), "ps": (), "logs": ("-f",), "stop": (), "start": (), "build": (), "push": (), "restart": (), "down": ("--volumes",), "config": (),
}  # fmt: skip
"""Commands of docker compose, with the options that the docs use."""
WITH_VALUE = {"--scale", "-v", "-e", "-c", "-l", "-L", "-o"}
CHART = ("airflow-scheduler", "airflow-api-server", "airflow-dag-processor")
"""Objects that Airflow's chart makes of the release `airflow`."""


def check(text: str) -> None:
    """AssertionError when the command cannot work as it is written."""
    for part in split(_substituted(text)):
        variables, words = assignments(part)
        _known(variables)
        if words:
            _check(words)


def _substituted(text: str) -> str:
    """With what git says in place of `$(git …)`."""

    def said(found: re.Match[str]) -> str:
        return subprocess.run(found[1], shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S602 - it is the docs' text

    return re.sub(r"\$\((git [^()]*)\)", said, text)


def _check(words: Sequence[str]) -> None:
    assert words[0] in CHECKS, f"{words[0]}: no check in tests/docs/rules.py; add one, with the reason where it is dry"
    CHECKS[words[0]](list(words[1:]))


def _known(variables: dict[str, str]) -> None:
    """A variable of ours that nothing reads is a misprint."""
    for name in variables:
        if name.startswith("AIRLOOP_"):
            assert _read_somewhere(name), f"nothing reads {name}"


@cache
def _read_somewhere(name: str) -> bool:
    places = ["docker", "docker-compose.yaml", "kubernetes", "local", "models", "plugins", "serving", "tasks", "tests/cluster", "tests/docker"]
    return subprocess.run(["grep", "-rqw", name, *places], cwd=ROOT, check=False).returncode == 0


def make(words: list[str]) -> None:
    """Targets are there, variables are read, and what make would run takes its words."""
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    targets = [word for word in words if "=" not in word]
    text = (ROOT / "Makefile").read_text()
    for name in variables:
        assert re.search(rf"\$\({name}\)|\b{name}\b", text), f"the Makefile has no variable {name}"
    for path in re.findall(r"tests/[\w/.]+", variables.get("ARGS", "")):
        assert (ROOT / path).exists(), path
    argv = ["make", "--dry-run", *targets, *(f"{name}={_filled(value)}" for name, value in variables.items())]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for module, rest in re.findall(r"\.venv/bin/python -m ((?:local|bench|tasks)[\w.]*)([^;|)\n]*)", done.stdout):
        parsers.python(["-m", module, *shlex.split(rest)])
    for rest in re.findall(r"\.venv/bin/airloop ([^;&|\n]*)", done.stdout):
        parsers.airloop(shlex.split(rest))


def _filled(value: str) -> str:
    for blank, example in BLANKS.items():
        value = value.replace(blank, example)
    return value


def docker(words: list[str]) -> None:
    """Services are in docker-compose.yaml, options among those that the docs use, and what runs inside is checked like the rest."""
    if words[0] == "save":
        return _images(" ".join(words[1:]))
    assert words[0] == "compose", f"docker {words[0]}: say in tests/docs/rules.py how it is checked"
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    rest = words[3:] if words[1] == "--profile" else words[1:]
    command, rest = rest[0], rest[1:]
    options, rest = _options(rest, COMPOSE[command])
    for scaled in options.get("--scale", []):
        assert scaled.partition("=")[0] in services, scaled
    inside = rest[1:] if command in {"run", "exec"} else []
    for name in rest[: len(rest) - len(inside)]:
        assert name in services, f"docker-compose.yaml has no service {name}"
    if inside and _filled(inside[-1]) == inside[-1]:
        _check(inside)
    return None


def balance(words: list[str]) -> None:
    """docker/proxy/balance.py takes the choice."""
    parse = runpy.run_path(str(ROOT / "docker/proxy/balance.py"))["parse"]
    assert len(words) <= 1
    for word in words:
        parse(word)


def _options(words: list[str], known: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Options that stand before the first word that is none, each with its values; and the rest."""
    options: dict[str, list[str]] = {}
    while words and words[0].startswith("-"):
        name, words = words[0], words[1:]
        assert name in known, f"{name}: not among the options that tests/docs/rules.py knows"
        values = options.setdefault(name, [])
        if name in WITH_VALUE:
            values.append(words[0])
            words = words[1:]
    trailing = [word for word in words if word.startswith("--scale")]
    return options, [word for word in words if word not in trailing]


def _images(text: str) -> None:
    named = set(re.findall(r"[a-z]+", re.sub(r"airloop-|:local|\$role", "", text)))
    assert named <= set(ROLES), f"docker/images.toml has no {named - set(ROLES)}"


def kubectl(words: list[str]) -> None:
    """Folders and objects are there, and what runs inside a pod is checked like the rest."""
    verbs = {"apply", "config", "create", "delete", "exec", "get", "port-forward", "rollout"}
    assert words[0] in verbs, f"kubectl {words[0]}: say in tests/docs/rules.py how it is checked"
    outside, inside = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    for folder in [after for before, after in zip(outside, outside[1:], strict=False) if before in {"-k", "-f"} and after != "-"]:
        assert (ROOT / folder / "kustomization.yaml").exists() or (ROOT / folder).is_file(), folder
    for name in re.findall(r"\b(?:deploy|statefulset|svc)/([\w-]+)", " ".join(outside)):
        assert name in parsers.kubernetes_names() or name in CHART, f"kubernetes/ makes no {name}"
    if inside and inside[:2] != ["python", "-c"]:
        _check(inside)


def helm(words: list[str]) -> None:
    """Files are there, and the chart's version is the one that the workflow ci renders."""
    assert words[0] in {"install", "repo", "uninstall", "upgrade"}, words[0]
    for before, after in zip(words, words[1:], strict=False):
        if before in {"--values", "-f"}:
            assert (ROOT / after).is_file(), after
        if before == "--version":
            assert f"--version {after} " in (ROOT / ".github/workflows/ci.yml").read_text()


def curl(words: list[str]) -> None:
    """The path is one of the service's."""
    path = re.sub(r"https?://[^/]+", "", words[-1])
    path = re.sub(r"^/models/\w+/", "/models/{name}/", path)
    code = "".join(file.read_text() for folder in ("serving", "plugins/airloop") for file in (ROOT / folder).glob("*.py"))
    assert re.search(rf'"{re.escape(path.rstrip("/"))}/?"', code) or f"GET {path}" in code, path


def sbatch(words: list[str]) -> None:
    """The script is there, and is a shell's."""
    assert subprocess.run(["bash", "-n", ROOT / words[-1]], check=False).returncode == 0, words[-1]


def loop(words: list[str]) -> None:
    """`for role in …; do kind load …; done` names images."""
    _images(" ".join(words[words.index("in") + 1 :]))


def only(*known: str) -> Callable[[list[str]], None]:
    """A check that takes these words alone."""

    def check_words(words: list[str]) -> None:
        assert " ".join(words) in known, f"{' '.join(words)}: not among {known}"

    return check_words


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "airflow": parsers.airflow,
    "airloop": lambda words: parsers.airloop([_filled(word) for word in words]),
    "base64": only("-d"),
    "curl": curl,
    "do": only("kind load docker-image --name airloop airloop-$role:local"),
    "balance": balance,
    "docker": docker,
    "done": only(""),
    "dvc": parsers.dvc,
    "for": loop,
    "helm": helm,
    "kind": only("create cluster --name airloop"),
    "kubectl": kubectl,
    "make": make,
    "python": parsers.python,
    "sbatch": sbatch,
    "sed": only("s/namespace: .*/namespace: monitoring/"),
    "sudo": only("k3s ctr images import -"),
}


def how(text: str) -> str:
    """`mentioned`, `run` or `dry`."""
    if text in MENTIONED:
        return "mentioned"
    return "run" if text.startswith((*RUN, "kubectl create secret")) else "dry"


