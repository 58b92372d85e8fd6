"""Two kinds of settings: what a run proposes, and the policy that it is judged by (docs/adr/0070).

Whoever triggers a run may change a proposal for it. The policy is what a commit says, and no run that may register has another.
A setting is policy unless it is named here, so a new one is policy until somebody decides otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.errors import ConfigError, DataError
from tasks.settings import settings_files
from tasks.storage.artefacts import sha256, to_json

PROPOSAL = ("train", "export.quantize")
"""Settings, or sections of them, that a run may propose."""
QUANTIZE, UNMEASURED = "export.quantize", "int8"
"""What a rebuild pins once a measurement has chosen it."""
SECTIONS = ("evaluate", "export", "features", "golden", "gate", "holdout", "monitor", "validate")
"""Sections of the settings that decide which model may go live, the proposals in them aside."""
DECLARED = ("entity", "features", "golden", "target")
"""Sections of the model's declaration that do."""


def is_proposal(setting: str) -> bool:
    """Whether the dotted ``setting`` may be changed for one run."""
    return any(setting == name or setting.startswith(f"{name}.") for name in PROPOSAL)


def require_proposals(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError that names each dotted setting which is policy, or that would ship a model without its measurement."""
    if refused := sorted(name for name in settings if not is_proposal(name)):
        raise ConfigError(
            f"{', '.join(refused)}: not for one run to change, since it belongs to what a model is judged by; {' and '.join(PROPOSAL)} "
            "may be. Change it by a commit, or ask for an exploratory run, which may change it and registers nothing."
        )

    if settings.get(QUANTIZE) == UNMEASURED:
        raise ConfigError(
            f"{QUANTIZE}={UNMEASURED!r}: not for one run to ask for, since it ships the quantised model without the measurement that the "
            "limits of `export` are for. Ask for `dynamic`, which measures, or write it into the model's params.yaml by a commit."
        )


def digest(root: Path, model: str) -> str:
    """Digest of the policy that a checkout or workspace has for ``model``.

    Raises:
        ConfigError: a file of settings is missing.
    """
    sections = settings_files.read(root, model)
    declared = json.loads((root / settings_files.spec_of(model)).read_bytes())["digests"]
    chosen = {name: _without_proposals(name, sections[name]) for name in SECTIONS}
    return sha256(to_json({"settings": chosen, "spec": {name: declared[name] for name in DECLARED}}))


def require(judged_by: object, root: Path, model: str) -> None:
    """Raise DataError unless a verdict was reached by the policy of the checkout at ``root``.

    Args:
        judged_by: the digest in the verdict; None in one of an older version.
        root: the checkout whose policy counts: the one of the image or of the commit, never a run's workspace.
        model: whose policy it is.
    """
    if judged_by != (wanted := digest(root, model)):
        raise DataError(
            f"The gate judged {model} by another policy ({str(judged_by)[:12]}) than the one in force ({wanted[:12]}): settings "
            f"of {', '.join(SECTIONS)} or the model's declaration have changed since. Its approval is void; run the train DAG again."
        )


def _without_proposals(section: str, content: Any) -> Any:
    if not isinstance(content, Mapping):
        return content
    return {name: value for name, value in content.items() if not is_proposal(f"{section}.{name}")}
