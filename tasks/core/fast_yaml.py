"""YAML by libyaml, ten times as fast as PyYAML's own parser and emitter, where PyYAML was built with it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import yaml
from yaml.representer import SafeRepresenter

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc] # mypy takes no base that is chosen at run time: libyaml's, where PyYAML was built with it
    """A safe one, which takes DVC's ordered dictionaries too."""


_Dumper.add_representer(OrderedDict, SafeRepresenter.represent_dict)


def load(text: str | bytes) -> Any:
    """Parse one document, as ``yaml.safe_load`` does."""
    return yaml.load(text, _LOADER)  # noqa: S506 - both loaders are safe ones


def dump(value: Any) -> str:
    """``value`` as one document, as ``yaml.safe_dump`` writes it, with keys in their own order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False))
