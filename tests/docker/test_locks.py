"""Each image's packages: nothing that its role never imports, everything that it does, in the versions of all the others."""

import sys
import sysconfig
from pathlib import Path

import pytest

from local.paths import ROOT
from tests.docker.roles import ROLES, held_by, named, needs, pins

HEAVY = {
    "apache-airflow-core", "babel", "docker", "evidently", "faker", "kubernetes", "kubernetes-asyncio", "matplotlib", "mlflow", "nltk",
    "onnxruntime", "onnxmltools", "pandas", "plotly", "pyarrow", "pyspark", "scikit-learn", "scipy", "statsmodels", "torch", "xgboost",
    "xgboost-cpu",
}  # fmt: skip
"""What weighs much and comes along unasked: an image has it because its role imports it, or not at all."""
INDIRECT = {
    "airflow": {
        "apache-airflow-core": "apache-airflow", "babel": "Airflow's macros", "nltk": "evidently", "plotly": "evidently",
        "scikit-learn": "evidently", "scipy": "tasks/modelling/stats.py", "kubernetes": "its provider", "kubernetes-asyncio": "its provider",
    },
    "mlflow": {"pandas": "the server's handlers"},
}  # fmt: skip
"""Heavy packages that another one of the role imports in the paths that we use; tried by taking them away."""


@pytest.mark.parametrize("role", ROLES)
def test_every_package_that_a_role_asks_for_is_imported_by_its_code(role):
    imported = {package for module in needs(role) for package in held_by(module)}
    asked, kept = named(f"{role}.in"), set(ROLES[role]["kept"])
    idle = asked - imported - kept
    assert not idle, f"requirements/{role}.in: strike {sorted(idle)}, or say in docker/images.toml why it is kept"
    assert kept <= asked, f"docker/images.toml, {role}.kept: {sorted(kept - asked)} is not in requirements/{role}.in"
    assert not kept & imported, (
        f"docker/images.toml, {role}.kept: {sorted(kept & imported)} is imported; strike its reason"
    )


@pytest.mark.parametrize("role", ROLES)
def test_everything_that_a_role_imports_is_in_its_lock(role):
    locked = set(pins(f"{role}.txt"))
    missing = {module: held_by(module) for module in needs(role) if not held_by(module) & locked}
    assert not missing, f"requirements/{role}.in: name what holds these, then `make lock`: {missing}"


@pytest.mark.parametrize("role", ROLES)
def test_code_that_a_role_does_not_run_is_there(role):
    assert [name for name in ROLES[role].get("not_run", ()) if not list(ROOT.glob(name))] == []


@pytest.mark.parametrize("role", ROLES)
def test_no_heavy_package_comes_along_unasked(role):
    found = HEAVY & set(pins(f"{role}.txt")) - named(f"{role}.in") - set(INDIRECT.get(role, {}))
    assert not found, (
        f"name {sorted(found)} in requirements/{role}.without, or in INDIRECT if the role cannot do without"
    )


@pytest.mark.parametrize("role", ROLES)
def test_what_is_left_out_is_neither_in_the_lock_nor_imported(role):
    file = ROOT / f"requirements/{role}.without"
    left_out = named(file.name) if file.exists() else set()
    imported = {package for module in needs(role) for package in held_by(module)}
    assert not left_out & (set(pins(f"{role}.txt")) | imported)


def test_all_images_and_the_laptop_have_the_same_versions():
    versions: dict[str, dict[str, str]] = {}
    for lock in ("main", "torch", *ROLES):
        for package, version in pins(f"{lock}.txt").items():
            versions.setdefault(package, {})[lock] = version
    different = {package: found for package, found in versions.items() if len(set(found.values())) > 1}
    assert not different, "constrain the role by main.txt and airflow.txt, then `make lock`"


def test_the_gpus_xgboost_is_the_version_of_the_others():
    assert pins("gpu.txt")["xgboost"] == pins("train.txt")["xgboost-cpu"]


def test_each_line_of_left_out_names_something_that_is_there(script):
    """A library that moved its files would come back into the images unseen."""
    leave_out = script("docker/leave_out.py")
    packages = Path(sysconfig.get_path("purelib"))
    rules = list(leave_out.patterns((ROOT / "docker/left_out.txt").read_text()))
    here = [(glob, keep) for glob, keep in rules if (packages / glob.split("/")[0]).exists()]
    assert len(here) > 40, "the environment of the tests holds most of these packages"
    assert [glob for glob, _ in here if not any(packages.glob(glob))] == []


def test_leaving_out_keeps_the_exceptions_and_all_else(script, tmp_path, monkeypatch):
    leave_out = script("docker/leave_out.py")
    for name in ("data/s3/a", "data/ec2/a", "data/index.json", "lib/tests/a", "lib/deep/tests/b", "lib/code.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("12345")
    rules = tmp_path / "rules.txt"
    rules.write_text("# why\ndata/*/   # all but\n!data/s3\nlib/**/tests\nnot-installed/*\n")
    monkeypatch.setattr(sys, "argv", ["leave_out.py", str(rules)])
    monkeypatch.setattr(leave_out.sysconfig, "get_path", lambda _: str(tmp_path))
    leave_out.main()
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["data/index.json", "data/s3/a", "lib/code.py", "rules.txt"]
