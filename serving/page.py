"""The pages on which a person asks the service."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from tasks.spec import Online

_HERE = Path(__file__).parent
_MODEL = Template((_HERE / "page.html").read_text(encoding="utf-8"))
_MODELS = Template((_HERE / "models.html").read_text(encoding="utf-8"))


def of_models(names: Sequence[str]) -> str:
    """The page that lists the models, as HTML."""
    items = "\n".join(
        f'  <li data-model="{name}"><a href="models/{name}/">{name}</a> <span>…</span></li>' for name in names
    )
    return _MODELS.substitute(items=items)


def of_model(name: str, online: Online) -> str:
    """A model's page as HTML: a field for each of the request's, filled in with the example."""
    form = online.form
    fields = "\n".join(f"  {_field(name, label, online)}" for name, label in form.labels.items())
    about = {"answer": online.answer, "verdict": form.verdict}
    return _MODEL.substitute(
        name=name, question=escape(form.question), fields=fields, about=json.dumps(about).replace("<", "\\u003c")
    )


def _field(name: str, label: str, online: Online) -> str:
    value = online.examples[0][name]
    kind = ' type="number"' if isinstance(value, int | float) else ""
    return f'<label>{escape(label)} <input name="{name}"{kind} value="{escape(str(value))}" required></label>'
