from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.kubernetes.environment import Environment, cluster_objects
from tests.kubernetes.kustomize import OVERLAYS, ROOT, key, real, render

VERSIONS = ("1.33", "1.35", "1.37")
FOLDERS = ["base", "cluster", *(f"overlays/{name}" for name in OVERLAYS)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_renders_the_same(folder: str) -> None:
    """So that every other test is about what is really applied."""
    expected = real(ROOT / folder)
    if expected is None:
        pytest.skip("neither kubectl nor kustomize is on the PATH: rendered by tests/kubernetes/kustomize.py alone")
    ours = render(ROOT / folder)
    assert len(ours) == len(expected)
    assert {key(each): each for each in ours} == {key(each): each for each in expected}


def test_what_the_renderer_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("nameSuffix: -x\n")
    with pytest.raises(ValueError, match="nameSuffix is not known"):
        render(tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_as_kubernetes_defines_it(environment: Environment, version: str) -> None:
    for each in [*environment.objects, *cluster_objects()]:
        assert kubernetes_validate.validate(each, version, strict=True) == version, key(each)


@pytest.mark.parametrize(
    "path", [["spec", "maxReplica"], ["spec", "scaleTargetRef", "names"], ["metadata", "label"], ["status", "x"]]
)
def test_a_misspelt_field_would_be_seen(environment: Environment, path: list[str]) -> None:
    broken = yaml.safe_load(yaml.safe_dump(environment.all("HorizontalPodAutoscaler")["airloop-online"]))
    *parents, name = path
    at = broken
    for parent in parents:
        at = at.setdefault(parent, {})
    at[name] = "x"
    with pytest.raises(kubernetes_validate.ValidationError, match=name):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_no_name_is_used_twice(environment: Environment) -> None:
    keys = [key(each) for each in environment.objects]
    assert len(keys) == len(set(keys))
