"""Values for Airflow's chart, merged as helm merges them, and the worker's pod in them."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from tests.kubernetes.kustomize import ROOT

FOLDER = ROOT / "airflow"


@cache
def values_of(environment: str) -> dict[str, Any]:
    """`-f values-base.yaml -f values-<environment>.yaml`."""
    return _merged(*(yaml.safe_load((FOLDER / f"values-{name}.yaml").read_text()) for name in ("base", environment)))


def pod_template(values: dict[str, Any]) -> dict[str, Any]:
    """The pod that KubernetesExecutor starts, with the few places filled in that the chart fills."""
    image = values["images"]["airflow"]
    text = values["podTemplate"].replace("{{ .Release.Name }}", "airflow")
    text = text.replace("{{ .Values.images.airflow.repository }}", image["repository"])
    text = text.replace("{{ .Values.images.airflow.tag }}", image["tag"])
    assert "{{" not in text, f"podTemplate has a template that {__name__} does not know: {text}"
    return dict(yaml.safe_load(text))


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings key by key; anything else is replaced."""
    both = {
        k: _merged(below[k], v) if isinstance(v, dict) and isinstance(below.get(k), dict) else v
        for k, v in above.items()
    }
    return {**below, **both}
