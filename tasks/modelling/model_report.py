"""The evaluation as one page for people: no scripts, no fonts from elsewhere, equal bytes for equal numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from tasks import spec

STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#1b1b1f}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}h2{margin-top:2rem}svg{border:1px solid #ddd}.note{color:#555}"""

NOTE = """<p class=note>Days that no model trained on. A challenger has seen their neighbours of the newest interval, the
champion has not: differences there flatter the challenger.</p>"""

MEASURES = ("n", "positives", "nan", "auc", "log_loss", "ece", "brier")


def render(report: Mapping[str, Any]) -> str:
    """``report`` (evaluation.json) as an HTML page."""
    candidate, champion = report["candidate"], report["champion"]
    models = {"candidate": candidate} | ({f"champion v{champion['version']}": champion} if "golden" in champion else {})
    parts = [
        f"<h1>Candidate {escape(candidate['model'][:12])}</h1>",
        f"<p>Trained through {escape(candidate['data_through'])}. {_rival(champion)} This page measures; the gate decides.</p>",
        f"<h2>Golden set, {report['golden']['rows']} rows</h2>",
        _metrics({name: m["golden"] for name, m in models.items()}),
        f"<h2>Is a stated 30% {spec.current().words.positive} 30% of the time?</h2>",
        _reliability({name: m["reliability"] for name, m in models.items()}),
        "<h2>Decision days, interval by interval</h2>",
        NOTE,
        *(f"<h3>{escape(name)}</h3>{_metrics(m['intervals'] | {'all': m['decision']})}" for name, m in models.items()),
        *(f"<h2>Golden rows by {escape(c)}</h2>{_metrics(values)}" for c, values in candidate["slices"].items()),
        "<h2>Behaviour</h2>",
        _table(
            ("change", "mean shift of the score", "rows not falling"),
            ((n, b["shift"], b["share_up"]) for n, b in candidate["behaviour"].items()),
        ),
        f"<p>Largest difference between ONNX and native scores: {_cell(candidate['parity_gap'])}.</p>",
        *_export(candidate),
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Evaluation</title><style>{STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</html>\n"
    )


def _export(candidate: Mapping[str, Any]) -> Iterable[str]:
    """What became of the quantised model, where one was asked for."""
    export = candidate["training"].get("export")
    if export is None:
        return
    yield f"<h2>INT8</h2><p>Asked for: {escape(export['asked'])}. What ships: {escape(export['shipped'])}.</p>"
    yield (
        "<ul>" + "".join(f"<li>{escape(reason)}</li>" for reason in export["reasons"]) + "</ul>"
        if export["reasons"]
        else ""
    )
    if "quality" in export:
        quality = export["quality"]
        rows = [(name, *(quality[name][k] for k in ("mean", "lo", "hi"))) for name in ("d_log_loss", "d_auc")]
        yield _table((f"INT8 less plain, {quality['days']} validation days", "mean", "from", "to"), rows)
        rows = [("bytes, plain", export["bytes"]["plain"]), ("bytes, INT8", export["bytes"]["int8"])]
        rows += [("score, INT8 less plain", export["gap"]), ("score, alone less in a batch", export["batch_gap"])]
        yield _table(("on validation rows", "at most"), rows)
    if candidate.get("quantised"):
        found = candidate["quantised"]
        rows = [("score, INT8 less plain", found["gap"]), ("score, alone less in a batch", found["batch_gap"])]
        yield _table(("on golden rows", "at most"), rows) + "<p>The parity above is that of the plain model.</p>"


def _rival(champion: Mapping[str, Any]) -> str:
    if champion.get("error"):
        return f"The champion could not be read: {escape(champion['error'])}."
    if champion["version"] is None:
        return "There is no champion yet."
    return f"The champion is v{champion['version']}, trained through {escape(champion['data_through'])}."


def _metrics(rows: Mapping[str, Mapping[str, Any]]) -> str:
    return _table(("", *MEASURES), ((name, *(m[k] for k in MEASURES)) for name, m in rows.items()))


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    top = "".join(f"<th>{escape(str(h))}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{top}</tr>\n{body}</table>"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _reliability(curves: Mapping[str, list[Mapping[str, float]]], size: int = 320) -> str:
    """Observed share over mean score, a dot a bin, its area the bin's rows; the diagonal is perfect."""
    marks = [f'<line x1="0" y1="{size}" x2="{size}" y2="0" stroke="#999" stroke-dasharray="4"/>']
    for line_number, (name, bins) in enumerate(curves.items(), start=1):
        colour = "#0b62a4" if line_number == 1 else "#c4591b"
        total = sum(b["n"] for b in bins) or 1
        points = [(b["predicted"] * size, (1 - b["observed"]) * size, 2 + 14 * (b["n"] / total) ** 0.5) for b in bins]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        marks.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        marks += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{colour}" opacity=".6"/>' for x, y, r in points]
        marks.append(f'<text x="8" y="{18 * line_number}" fill="{colour}">{escape(name)}</text>')
    return (
        f'<svg width="{size}" height="{size}" role="img" aria-label="observed share over mean score">'
        + "".join(marks)
        + "</svg>"
    )
