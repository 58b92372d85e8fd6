"""params.yaml as a file that people keep: single settings are replaced in it, and every other byte stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tasks.common.artefacts import write_atomic
from tasks.common.errors import ConfigError


def put(path: Path, values: Mapping[str, Any]) -> list[str]:
    """Set each dotted setting of the file at ``path``; returns those that changed, as ``name: old -> new``.

    ConfigError when the file has no such setting.
    """
    text = path.read_text()
    changes, cuts = [], []
    for name, value in values.items():
        node = _find(yaml.compose(text), name.split("."))
        if not isinstance(node, yaml.ScalarNode):
            raise ConfigError(f"{path} has no setting {name}; write it there, with any value.")
        old, new = text[node.start_mark.index : node.end_mark.index], scalar(value)
        if old != new:
            changes.append(f"{name}: {old} -> {new}")
            cuts.append((node.start_mark.index, node.end_mark.index, new))
    for start, end, new in sorted(cuts, reverse=True):
        text = text[:start] + new + text[end:]
    if cuts:
        write_atomic(path, text.encode())
    return changes


def scalar(value: Any) -> str:
    """``value`` as YAML writes it."""
    return str(yaml.safe_dump(value, default_flow_style=True, width=2**16)).removesuffix("...\n").strip()


def _find(node: Any, path: list[str]) -> Any:
    for part in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for key, value in node.value if key.value == part), None)
    return node
