"""The manifests as Kubernetes gets them, also where there is no kubectl: what of kustomize kubernetes/ uses, and no more.

`test_render.py` compares with the real one wherever that is installed; a field that is not known here is an error.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

ROOT = Path(__file__).parents[2] / "kubernetes"
OVERLAYS = ("dev", "staging", "prod")
CLUSTER_WIDE = {"Namespace", "PriorityClass"}
KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "images", "patches"}

Object = dict[str, Any]


def render(folder: Path) -> list[Object]:
    """Every object of a kustomization; ValueError when it uses what is not known here."""
    return _transformed(folder, [])


def real(folder: Path) -> list[Object] | None:
    """The same by kustomize or kubectl; None where neither is installed."""
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return [each for each in yaml.safe_load_all(done.stdout) if each]
    return None


def key(thing: Object) -> tuple[str, str]:
    """Kind and name, which are unique within an environment."""
    return thing["kind"], thing["metadata"]["name"]


def _transformed(folder: Path, so_far: list[Object]) -> list[Object]:
    file = folder / "kustomization.yaml"
    wanted = yaml.safe_load(file.read_text())
    if unknown := set(wanted) - KNOWN:
        raise ValueError(f"{file}: {', '.join(sorted(unknown))} is not known to {__name__}; teach it, or do without.")
    found = [*so_far]
    for name in wanted.get("resources", ()):
        path = folder / name
        found += render(path) if path.is_dir() else [each for each in yaml.safe_load_all(path.read_text()) if each]
    for name in wanted.get("components", ()):
        found = _transformed(folder / name, found)
    found = [_patched(each, wanted.get("patches", ()), file) for each in found]
    if namespace := wanted.get("namespace"):
        found = [_moved(each, namespace) for each in found]
    for image in wanted.get("images", ()):
        for thing in found:
            _set_image(thing, image)
    return found


def _patched(thing: Object, patches: Any, file: Path) -> Object:
    for patch in patches:
        if set(patch) != {"target", "patch"} or set(patch["target"]) != {"kind", "name"}:
            raise ValueError(
                f"{file}: write a patch as `target: {{kind, name}}` and `patch`, a list of JSON patch steps."
            )
        if key(thing) == (patch["target"]["kind"], patch["target"]["name"]):
            thing = jsonpatch.apply_patch(thing, yaml.safe_load(patch["patch"]))
    return thing


def _moved(thing: Object, namespace: str) -> Object:
    thing = copy.deepcopy(thing)
    if thing["kind"] not in CLUSTER_WIDE:
        thing["metadata"]["namespace"] = namespace
    if thing["kind"] == "Namespace":
        thing["metadata"]["name"] = namespace
    for subject in thing.get("subjects", ()):
        subject["namespace"] = namespace
    return thing


def _set_image(value: Any, image: dict[str, str]) -> None:
    """Wherever a container says ``image``."""
    if isinstance(value, dict):
        if value.get("image") == image["name"]:
            value["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
        for each in value.values():
            _set_image(each, image)
    elif isinstance(value, list):
        for each in value:
            _set_image(each, image)
