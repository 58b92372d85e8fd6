"""A study as one page for people: its history, what mattered, and which settings went together. Needs no network to be read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from html import escape
from typing import Any

import optuna
from optuna.trial import TrialState

STYLE = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1b1b1f}"
LOSS = "log loss"


def render(study: optuna.Study, said: list[str]) -> str:
    """The page, with the sentences ``said`` above the plots.

    A plot that needs more trials than there are is left out, and the page says so.
    """
    from optuna import visualization as plots

    drawings: dict[str, Callable[[], Any]] = {
        "History": lambda: plots.plot_optimization_history(study, target_name=LOSS),
        "What mattered": lambda: plots.plot_param_importances(study, evaluator=_evaluator(), target_name=LOSS),
        "Settings together": lambda: plots.plot_parallel_coordinate(study, target_name=LOSS),
    }
    parts = [f"<h1>{escape(study.study_name)}</h1>", *(f"<p>{escape(sentence)}</p>" for sentence in said)]
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    script = True  # plotly's own, once
    for title, draw in drawings.items():
        parts.append(f"<h2>{title}</h2>")
        if len(complete) < 2 or len({t.value for t in complete}) < 2:
            parts.append("<p>Too few trials.</p>")
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            parts.append(draw().to_html(full_html=False, include_plotlyjs=script, div_id=title.replace(" ", "-")))
        script = False
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Search</title><style>{STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</html>\n"
    )


def _evaluator() -> Any:
    # The default one needs scikit-learn, which the image `train` does without.
    return optuna.importance.PedAnovaImportanceEvaluator()
