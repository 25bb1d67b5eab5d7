"""The accuracy curve as a self-contained SVG: share of vertices within a distance, before and after, px and metres."""

from __future__ import annotations

from math import log2
from pathlib import Path
from typing import Any

from flows.svg import document, save, text_at
from pipeline.report.charts import GRID, INK, MUTED, number

WIDTH, HEIGHT = 760, 500
LEFT, RIGHT, TOP, BOTTOM = 72, 736, 108, 436
COLOURS = {"before": "#e8562a", "after": "#0f7682"}
DASHES = {"before": ' stroke-dasharray="7 4"', "after": ""}


def write_plot(path: Path, found: dict[str, Any]) -> None:
    """Write the curves of `evaluate_alignment.report` to `path`. Raises SettingsError where that cannot be."""
    save(path, accuracy_svg(found))


def accuracy_svg(found: dict[str, Any]) -> str:
    """The SVG of a report's accuracy curves: distance on a logarithmic axis, px below and metres above."""
    series = {name: found[name] for name in ("before", "after") if name in found}
    pixels = found["after"]["curve"]["threshold_px"]
    low, high = pixels[0], pixels[-1]

    def x(distance: float) -> float:
        return LEFT + log2(distance / low) / log2(high / low) * (RIGHT - LEFT)

    under = (
        f"{number(found['buildings'])} buildings, {number(found['vertices'])} vertices; 1 px = {found['gsd_m']:.4g} m"
    )
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text_at(LEFT, 30, "Accuracy of the alignment", INK, size=18, weight=600),
        text_at(LEFT, 52, under, MUTED, size=13),
        *_axes(x, low, high, found["gsd_m"]),
    ]
    for name, figures in series.items():
        parts += _curve(name, figures, x)
    parts += _legend(series)
    label = "; ".join(f"{name}: median {each['median_px']:.2f} px" for name, each in series.items())
    return document(parts, WIDTH, HEIGHT, f"Share of vertices within a distance of their true place; {label}")


def _axes(x: Any, low: float, high: float, gsd: float) -> list[str]:
    """Grid, frame, ticks in % and px, and in round metres along the top."""
    parts = []
    for percent in range(0, 101, 20):
        y = _y(percent / 100)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="{GRID}"/>')
        parts.append(text_at(LEFT - 10, y + 4, f"{percent} %", MUTED, "end"))
    distance = low
    while distance <= high:
        parts.append(f'<path d="M{x(distance):.1f} {TOP}V{BOTTOM}" stroke="{GRID}"/>')
        parts.append(f'<path d="M{x(distance):.1f} {BOTTOM}v5" stroke="{INK}"/>')
        parts.append(text_at(x(distance), BOTTOM + 20, f"{distance:g}", MUTED, "middle"))
        distance *= 2
    for metres in round_ticks(low * gsd, high * gsd):
        parts.append(f'<path d="M{x(metres / gsd):.1f} {TOP}v-5" stroke="{INK}"/>')
        parts.append(text_at(x(metres / gsd), TOP - 10, f"{metres:g}", MUTED, "middle"))
    parts.append(f'<path d="M{LEFT} {TOP}H{RIGHT}M{LEFT} {BOTTOM}H{RIGHT}" stroke="{INK}"/>')
    parts.append(text_at((LEFT + RIGHT) / 2, BOTTOM + 42, "distance, px (each step doubles it)", INK, "middle", 13))
    parts.append(text_at((LEFT + RIGHT) / 2, TOP - 30, "distance, m", INK, "middle", 13))
    middle = (TOP + BOTTOM) / 2
    turned = text_at(22, middle, "vertices within that distance", INK, "middle", 13)
    return [*parts, f'<g transform="rotate(-90 22 {middle:g})">{turned}</g>']


def round_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten from `low` to `high`, both above 0."""
    steps = (float(f"{digit}e{power}") for power in range(-9, 10) for digit in (1, 2, 5))
    return [step for step in steps if low <= step <= high]


def _curve(name: str, figures: dict[str, Any], x: Any) -> list[str]:
    """A line through the curve's points, and a dot at its median."""
    pixels, shares = figures["curve"]["threshold_px"], figures["curve"]["share"]
    points = " ".join(f"{x(at):.1f},{_y(share):.1f}" for at, share in zip(pixels, shares, strict=True))
    parts = [
        f'<polyline id="{name}" points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="2.5" '
        f'stroke-linejoin="round"{DASHES[name]}/>'
    ]
    median = figures["median_px"]
    if pixels[0] <= median <= pixels[-1]:
        parts.append(
            f'<circle cx="{x(median):.1f}" cy="{_y(0.5):.1f}" r="5" fill="{COLOURS[name]}" stroke="#ffffff" '
            f'stroke-width="2"><title>{name}: median {median:.2f} px</title></circle>'
        )
    return parts


def _legend(series: dict[str, Any]) -> list[str]:
    """Names and medians beside the title: within the axes there is no place that no curve ever crosses."""
    left, parts = RIGHT - 264, []
    for i, (name, figures) in enumerate(series.items()):
        y = 25 + 23 * i
        parts.append(
            f'<path d="M{left} {y}h34" stroke="{COLOURS[name]}" stroke-width="2.5" fill="none"{DASHES[name]}/>'
            f'<circle cx="{left + 17}" cy="{y}" r="4" fill="{COLOURS[name]}"/>'
        )
        median = f"{name}: median {figures['median_px']:.2f} px, {figures['median_m']:.2f} m"
        parts.append(text_at(left + 44, y + 4.5, median, INK, size=13))
    return parts


def _y(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)
