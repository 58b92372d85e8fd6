"""Small charts as inline SVG: no script, nothing loaded, equal bytes for equal numbers. Colours are the page's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tasks.spec import Words

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 260, 46, 12, 14, 34


def daily(days: Sequence[Mapping[str, Any]], words: Words) -> str:
    """Share of positive outcomes (dots) and mean score (line) of each day; a dot's area is the day's rows."""
    if not days:
        return ""
    highest = max(max(d["positive_share"], d["mean_score"]) for d in days)
    top = 4 * next(step for step in (0.05, 0.1, 0.15, 0.2, 0.25) if highest <= 4 * step)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(days) - 1) if len(days) > 1 else 0

    def x(i: int) -> float:
        return LEFT + i * step

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share / top)

    most = max(d["n"] for d in days)
    line = " ".join(f"{x(i):.1f},{y(d['mean_score']):.1f}" for i, d in enumerate(days))
    parts = [_shares_axis(top, y), f'<polyline points="{line}" class="line"/>']
    for i, d in enumerate(days):
        tip = f"{d['date']}: {d['positive_share']:.1%} {words.positive}, {d['mean_score']:.1%} predicted, {d['n']} {words.rows}"
        parts.append(
            f'<circle cx="{x(i):.1f}" cy="{y(d["positive_share"]):.1f}" r="{2 + 3 * (d["n"] / most) ** 0.5:.1f}" class="dot">'
            f"<title>{escape(tip)}</title></circle>"
        )
        if i % 5 == 0:
            parts.append(
                f'<text x="{x(i):.1f}" y="{HEIGHT - 12}" class="tick" text-anchor="middle">{escape(d["date"][8:])}</text>'
            )
    return _svg(WIDTH, HEIGHT, f"{words.positive} share and mean prediction by day", parts)


def reliability(curves: Mapping[str, Sequence[Mapping[str, float]]], words: Words, size: int = 260) -> str:
    """Share of positive outcomes over mean score of each bin, a curve a model; a dot's area is the bin's rows.

    The diagonal is perfect.
    """
    inner = size - TOP - BOTTOM

    def x(share: float) -> float:
        return LEFT + inner * share

    def y(share: float) -> float:
        return TOP + inner * (1 - share)

    parts = [_shares_axis(1.0, y, x(1)), f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}" class="diagonal"/>']
    parts += [
        f'<text x="{x(s):.1f}" y="{size - 12}" class="tick" text-anchor="{anchor}">{s:.0%}</text>'
        for s, anchor in ((0.0, "middle"), (0.5, "middle"), (1.0, "end"))
    ]
    for kind, bins in zip(("", " second"), curves.values(), strict=False):
        total = sum(b["n"] for b in bins) or 1
        points = " ".join(f"{x(b['predicted']):.1f},{y(b['observed']):.1f}" for b in bins)
        parts.append(f'<polyline points="{points}" class="line{kind}"/>')
        parts += [
            f'<circle cx="{x(b["predicted"]):.1f}" cy="{y(b["observed"]):.1f}" r="{2 + 9 * (b["n"] / total) ** 0.5:.1f}" '
            f'class="dot{kind}"><title>{b["predicted"]:.1%} predicted, {b["observed"]:.1%} {words.positive}, {b["n"]} {words.rows}</title></circle>'
            for b in bins
        ]
    return _svg(LEFT + inner + RIGHT, size, f"{words.positive} share over predicted probability", parts)


def bars(values: Mapping[str, float], limit: float) -> str:
    """Horizontal bars with the limit as a line; a bar beyond it is in the alarm colour."""
    label, row = 120, 26
    top = max(limit * 1.2, *values.values())
    scale = (WIDTH - label - 60) / top
    height = row * len(values) + 26
    parts = []
    for i, (name, value) in enumerate(values.items()):
        kind = "bar over" if value > limit else "bar"
        parts += [
            f'<text x="{label - 8}" y="{i * row + 18}" class="tick" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{label}" y="{i * row + 6}" width="{max(1.0, value * scale):.1f}" height="{row - 10}" class="{kind}"/>',
            f'<text x="{label + value * scale + 6:.1f}" y="{i * row + 18}" class="tick">{value:.3f}</text>',
        ]
    at = label + limit * scale
    parts.append(f'<line x1="{at:.1f}" y1="0" x2="{at:.1f}" y2="{height - 20}" class="limit"/>')
    parts.append(f'<text x="{at:.1f}" y="{height - 6}" class="tick" text-anchor="middle">alarm above {limit:g}</text>')
    return _svg(WIDTH, height, "population stability index by feature", parts)


def whisker(lo: float, value: float, hi: float, limit: float | None, bounds: tuple[float, float]) -> str:
    """An interval with its estimate, and the limit as a line, on the scale ``bounds``."""
    width, height = 180, 22
    span = (bounds[1] - bounds[0]) or 1.0

    def x(v: float) -> float:
        return 6 + (width - 12) * (v - bounds[0]) / span

    parts = [
        f'<line x1="{x(lo):.1f}" y1="11" x2="{x(hi):.1f}" y2="11" class="line"/>',
        f'<circle cx="{x(value):.1f}" cy="11" r="4.5" class="dot"/>',
    ]
    if limit is not None:
        parts.append(f'<line x1="{x(limit):.1f}" y1="2" x2="{x(limit):.1f}" y2="20" class="limit"/>')
    return _svg(width, height, f"{value:.4f}, interval {lo:.4f} to {hi:.4f}", parts)


def _shares_axis(top: float, y: Any, right: float = WIDTH - RIGHT) -> str:
    marks = [top * i / 4 for i in range(5)]
    return "".join(
        f'<line x1="{LEFT}" y1="{y(m):.1f}" x2="{right:.1f}" y2="{y(m):.1f}" class="grid"/>'
        f'<text x="{LEFT - 6}" y="{y(m) + 4:.1f}" class="tick" text-anchor="end">{m:.0%}</text>'
        for m in marks
    )


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" aria-label="{escape(label)}">'
        + "".join(parts) + "</svg>"
    )  # fmt: skip
