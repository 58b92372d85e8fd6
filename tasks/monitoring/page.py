"""The interval's summary page: one file that opens anywhere, read from top to bottom in a minute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from tasks import spec
from tasks.monitoring import charts

STYLE = """
:root{--ink:#1d2330;--soft:#5d6778;--paper:#fff;--ground:#f4f6f9;--rule:#dfe4ec;--blue:#2563a8;--amber:#b45309;--red:#b3261e;--green:#1b7a43}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#9aa5b5;--paper:#1b2029;--ground:#12161d;--rule:#323a47;--blue:#6ea8e8;--amber:#f0a04b;--red:#f2877f;--green:#63c58c}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:62rem;margin:0 auto;padding:1.5rem 1rem 3rem}h1{font-size:1.05rem;margin:0;color:var(--soft);font-weight:600}
h2{font-size:1.05rem;margin:0 0 .6rem}section,header{background:var(--paper);border:1px solid var(--rule);border-radius:10px;padding:1.1rem 1.3rem;margin:0 0 1rem}
header{border-left:6px solid var(--tone)}header p.verdict{font-size:1.55rem;line-height:1.25;margin:.25rem 0 .4rem;font-weight:650;color:var(--tone)}
header p{margin:.2rem 0}.retrain{--tone:var(--amber)}.keep{--tone:var(--green)}.wait{--tone:var(--blue)}.blind{--tone:var(--red)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th{color:var(--soft);font-weight:600;font-size:.85rem}
td,th{text-align:right;padding:.32rem .7rem;border-bottom:1px solid var(--rule)}td:first-child,th:first-child{text-align:left;padding-left:0}
tr:last-child td{border-bottom:0}.note,figcaption{color:var(--soft);font-size:.88rem}.bad{color:var(--red);font-weight:600}.good{color:var(--green)}
.pair{display:grid;grid-template-columns:7fr 3fr;gap:1rem 1.5rem}@media(max-width:720px){.pair{grid-template-columns:1fr}}figure{margin:0;min-width:0}svg{max-width:100%;height:auto;display:block}
.line{fill:none;stroke:var(--blue);stroke-width:2}.dot{fill:var(--amber);opacity:.8}.line.second{stroke:var(--soft);stroke-dasharray:5 3}.dot.second{fill:var(--soft)}
td .dot{fill:var(--blue);opacity:1}.grid{stroke:var(--rule)}.diagonal{stroke:var(--soft);stroke-dasharray:3 4}.tick{fill:var(--soft);font-size:11.5px}
.limit{stroke:var(--red);stroke-width:1.5;stroke-dasharray:4 3}.bar{fill:var(--blue)}.bar.over{fill:var(--red)}
code{background:var(--ground);border:1px solid var(--rule);border-radius:5px;padding:.1rem .4rem}a{color:var(--blue)}ul{margin:.3rem 0;padding-left:1.2rem}
details summary{cursor:pointer;color:var(--soft)}
"""

MEASURES = {"auc": ("AUC", "min_auc"), "log_loss": ("log loss", None), "ece": ("ECE", "max_ece")}
"""Measure to its name and the setting that limits it."""

TONE = {"retrain": "retrain", "keep": "keep", "not measured": "blind"}
"""Outcome to the headline's colour; all others wait."""

VERDICT = {
    "retrain": "Retrain", "keep": "Keep the model", "warming up": "Warming up", "cooling down": "No retrain: cooling down",
    "superseded": "No retrain: a newer model is live", "not measured": "Not measured",
}  # fmt: skip


def render(report: Mapping[str, Any], drift: str) -> str:
    """``report`` (monitor.json) as HTML; ``drift`` is empty, or says why Evidently's page is not there."""
    champion, shadow = report["champion"], report["shadow"]
    parts = [_headline(report)]
    if report["alarms"]:
        parts.append(
            _section(
                "Look at these", f"<ul>{''.join(f'<li class=bad>{escape(a)}</li>' for a in report['alarms'])}</ul>"
            )
        )
    if champion:
        parts += [_measures(report), _pictures(champion, shadow)]
    if report["audit"]:
        parts.append(_audit(report["audit"]))
    parts += [_stability(report), _drift(report, drift), _nulls(report["quality"]), _inputs(report)]
    title = f"Monitor {escape(report['interval'])}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _headline(report: Mapping[str, Any]) -> str:
    decision, champion = report["decision"], report["champion"]
    scored = f"scored by v{champion['version']}" if champion else "no model was live"
    words = spec.current().words
    rows = f"{report['rows']:,} {words.rows}, {report['labelled_share']:.1%} with a known outcome"
    judged = f" of the {champion['labelled']:,} judged" if report["inputs"]["judged_with"] else ""
    outcome = (
        f", {champion['positive_share']:.1%}{judged} {words.positive} where {champion['mean_score']:.1%} was predicted"
        if champion and champion["labelled"]
        else ""
    )
    reason = decision["reason"][0].upper() + decision["reason"][1:]
    return (
        f'<header class="{TONE.get(decision["outcome"], "wait")}"><h1>{escape(report["interval"])}, {scored}</h1>'
        f'<p class="verdict">{VERDICT[decision["outcome"]]}</p><p>{_sentence(reason)}</p><p class="note">{rows}{outcome}.</p></header>'
    )


def _measures(report: Mapping[str, Any]) -> str:
    champion, shadow = report["champion"], report["shadow"]
    limits = report["decision"]["limits"]
    if champion["why_not"]:
        return _section("How good the predictions were", f"<p>Not measured: {escape(champion['why_not'])}.</p>")
    rows = []
    for name, (title, setting) in MEASURES.items():
        limit = limits[setting] if setting else None
        for who, model in (("champion", champion), ("shadow", shadow)):
            if not model or not model[name]:
                continue
            got = model[name]
            breach = (
                limit is not None
                and who == "champion"
                and (got["value"] > limit if name == "ece" else got["value"] < limit)
            )
            asked = "" if limit is None else f"{'≤' if name == 'ece' else '≥'} {limit:g}"
            rows.append((
                f"{title}, v{model['version']}{' (shadow)' if who == 'shadow' else ''}",
                f'<span class="{"bad" if breach else ""}">{got["value"]:.4f}</span>', f"{got['lo']:.4f} – {got['hi']:.4f}",
                _whisker(got, limit, [m[name] for m in (champion, shadow) if m and m[name]]),
                asked if who == "champion" else "",
            ))  # fmt: skip
    share = f"{report['confidence']:.0%}"
    with_ = ", ".join(report["inputs"]["judged_with"])
    note = (
        f'<p class="note">The champion is judged on this interval together with {escape(with_)}; a shadow on this one alone.</p>'
        if with_
        else ""
    )
    note += (
        f'<p class="note">{share} intervals from drawing whole days again: {spec.current().words.rows} of one day share its luck, and '
        "rows drawn one by one would look five times surer than they are. A value near its limit is a coin flip.</p>"
    )
    return _section(
        "How good the predictions were", _table(("measure", "value", f"{share} interval", "", "limit"), rows) + note
    )


def _whisker(got: Mapping[str, float], limit: float | None, all_models: list[Mapping[str, float]]) -> str:
    ends = [end for m in all_models for end in (m["lo"], m["hi"])] + ([limit] if limit is not None else [])
    return charts.whisker(got["lo"], got["value"], got["hi"], limit, (min(ends), max(ends)))


def _pictures(champion: Mapping[str, Any], shadow: Mapping[str, Any] | None) -> str:
    if not champion["daily"]:
        return ""
    curves = {"champion": champion["reliability"]} | ({"shadow": shadow["reliability"]} if shadow else {})
    words = spec.current().words
    second = f"; grey: v{shadow['version']}, the shadow" if shadow else ""
    return _section(
        "Day by day, and by what was predicted",
        f'<div class="pair"><figure>{charts.daily(champion["daily"], words)}<figcaption>Line: mean prediction of the day. '
        f"Dots: share that was {words.positive}.</figcaption></figure>"
        f"<figure>{charts.reliability(curves, words)}<figcaption>Share that was {words.positive} over prediction; on the diagonal a "
        f"stated 30% is {words.positive} 30% of the time{second}.</figcaption></figure></div>",
    )


def _audit(audit: Mapping[str, Any]) -> str:
    loss, auc = audit["d_log_loss"], audit["d_auc"]
    tone = "bad" if audit["rollback"] else "good" if audit["sure"] else ""
    body = f'<p class="{tone}">{escape(audit["sentence"])}</p>'
    body += _table(("champion less shadow", "difference", "interval"), [
        ("log loss (below 0 is better)", f"{loss['mean']:+.4f}", f"{loss['lo']:+.4f} – {loss['hi']:+.4f}"),
        ("AUC (above 0 is better)", f"{auc['mean']:+.4f}", f"{auc['lo']:+.4f} – {auc['hi']:+.4f}"),
    ])  # fmt: skip
    if audit["rollback"]:
        body += (
            f"<p>Recommended, if v{audit['champion']} is still live: <code>{escape(audit['command'])}</code>. "
            "Nothing was done by itself.</p>"
        )
    return _section("Was the last promotion right?", body)


def _stability(report: Mapping[str, Any]) -> str:
    psi, limit = report["quality"]["psi"], report["quality_limits"]["max_psi"]
    words = spec.current().words
    title = f"The {words.planned} against the reference"
    if psi is None:
        return _section(title, "<p>There is no earlier reference interval to compare with.</p>")
    return _section(
        title,
        charts.bars(psi, limit)
        + f'<p class="note">Population stability index against {_intervals(report)}. {words.planned_by} plans these columns: a jump is a '
        "broken feed rather than a season, so it raises an alarm and never asks for a retrain.</p>",
    )


def _nulls(quality: Mapping[str, Any]) -> str:
    model = spec.current()
    rows = [
        (escape(name), f"{found['share']:.2%}", "–" if found["reference"] is None else f"{found['reference']:.2%}")
        for name, found in quality["nulls"].items()
        if found["share"] or found["reference"]
    ]
    return _section(
        "Unknown values",
        f"<p>{quality['blind_share']:.2%} of the {model.words.rows} have no {model.outage.name} at all.</p><details><summary>Null shares by feature"
        f"</summary>{_table(('feature', 'this interval', 'reference'), rows)}"
        '<p class="note">Features that are not listed have no nulls at all.</p></details>',
    )


def _drift(report: Mapping[str, Any], drift: str) -> str:
    if drift:
        return _section("Distributions", f"<p>Evidently's page is not there: {escape(drift)}.</p>")
    return _section(
        "Distributions",
        f'<p><a href="drift.html">Evidently\'s drift report</a>: every column, this interval against {_intervals(report)}.</p>'
        '<p class="note">To look at, not to decide by: its "dataset drift" share passes its default threshold with the seasons, '
        "even between intervals of the training data, so it says nothing about whether the model still works. Labels do.</p>",
    )


def _inputs(report: Mapping[str, Any]) -> str:
    inputs = report["inputs"]
    rows = [(name, inputs[name]) for name in ("features", "labels")]
    rows += [(f"reference {interval}", digest) for interval, digest in inputs["reference"].items()]
    rows += [(f"predictions {name}", digest) for name, digest in inputs["predictions"].items()]
    rows += [
        (f"{what} {interval}", digest)
        for interval, digests in inputs["judged_with"].items()
        for what, digest in zip(("features", "labels", "predictions"), digests, strict=True)
    ]
    table = _table(("input", "digest"), [(escape(name), f"<code>{escape(digest)}</code>") for name, digest in rows])
    return _section("", f"<details><summary>What these numbers were computed from</summary>{table}</details>")


def _intervals(report: Mapping[str, Any]) -> str:
    intervals = list(report["inputs"]["reference"])
    return (
        escape(intervals[0] if len(intervals) == 1 else f"{intervals[0]} to {intervals[-1]}")
        if intervals
        else "no reference"
    )


def _sentence(text: str) -> str:
    return escape(text).replace("&lt;=", "≤").replace("&gt;=", "≥") + "."


def _section(title: str, body: str) -> str:
    return f"<section>{f'<h2>{escape(title)}</h2>' if title else ''}{body}</section>"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are HTML already."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
