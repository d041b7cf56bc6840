"""A small drawing of bars as SVG: panels on a logarithmic scale, and gauges against their bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 860
LABEL = 330
PLOT = 400
LINE = 24
INK, FAINT, OURS, OTHERS, BAD = "#1d2733", "#c9d1da", "#0b7a75", "#8796a5", "#b3261e"
OUR_NAME = "headgate"


@dataclass(frozen=True)
class Panel:
    """Show one measure over the subjects; less is better, the scale is logarithmic."""

    title: str
    unit: str
    bars: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Gauge:
    """Show one figure against its bar and its goal."""

    name: str
    unit: str
    value: float
    must: float
    ambitious: float
    low: bool

    @property
    def passes(self) -> bool:
        return self.value <= self.must if self.low else self.value >= self.must


def draw(panels: Sequence[Panel], gauges: Sequence[Gauge]) -> str:
    """Return the whole drawing as SVG; empty panels are left out."""
    parts: list[str] = []
    top = 16
    for panel in panels:
        if panel.bars:
            parts += _draw_panel(panel, top)
            top += LINE * (len(panel.bars) + 2)
    if gauges:
        parts += _draw_gauges(gauges, top)
        top += LINE * (len(gauges) + 2)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" '
        f'viewBox="0 0 {WIDTH} {top}" font-family="system-ui, sans-serif" font-size="13">'
    )
    return "\n".join(
        [head, f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>', *parts, "</svg>\n"]
    )


def _draw_panel(panel: Panel, top: int) -> list[str]:
    values = [value for _, value in panel.bars if value > 0]
    least = min(values, default=1) / 2
    span = math.log10(max(values, default=1) / least) or 1
    parts = [
        _text(16, top + 16, f"{panel.title} ({panel.unit}, log scale, less is better)", bold=True)
    ]
    for index, (name, value) in enumerate(panel.bars, 1):
        y = top + LINE * index
        length = PLOT * math.log10(value / least) / span if value > least else 1
        parts.append(_text(LABEL - 8, y + 16, name, anchor="end"))
        parts.append(_bar(y, length, OURS if name == OUR_NAME else OTHERS))
        parts.append(_text(LABEL + length + 8, y + 16, f"{_short(value)} {panel.unit}"))
    return parts


def _draw_gauges(gauges: Sequence[Gauge], top: int) -> list[str]:
    title = (
        "Figures to reach (line: must, dashed: ambitious; a bar that has to stay short is hollow)"
    )
    parts = [_text(16, top + 16, title, bold=True)]
    for index, gauge in enumerate(gauges, 1):
        y = top + LINE * index
        scale = PLOT / (1.15 * max(gauge.value, gauge.must, gauge.ambitious))
        length = max(gauge.value * scale, 1)
        colour = OURS if gauge.passes else BAD
        parts.append(_text(LABEL - 8, y + 16, gauge.name, anchor="end"))
        parts.append(_bar(y, length, colour, hollow=gauge.low))
        parts.append(_mark(y, gauge.must * scale, dashed=False))
        parts.append(_mark(y, gauge.ambitious * scale, dashed=True))
        parts.append(
            _text(LABEL + PLOT + 8, y + 16, f"{_short(gauge.value)} {gauge.unit}", colour=colour)
        )
    return parts


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False, colour: str = INK
) -> str:
    weight = ' font-weight="600"' if bold else ""
    place = f'x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}"{weight}>{escape(text)}</text>'


def _bar(y: float, length: float, colour: str, *, hollow: bool = False) -> str:
    fill = (
        f'fill="{colour}" fill-opacity="0.15" stroke="{colour}"' if hollow else f'fill="{colour}"'
    )
    return f'<rect x="{LABEL}" y="{y + 4:.0f}" width="{length:.1f}" height="15" rx="2" {fill}/>'


def _mark(y: float, at: float, *, dashed: bool) -> str:
    dash = ' stroke-dasharray="3 2"' if dashed else ""
    x = LABEL + at
    return f'<path d="M{x:.1f} {y + 1:.0f}v21" stroke="{INK}" stroke-width="1.5"{dash}/>'
