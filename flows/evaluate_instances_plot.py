"""F1 by IoU as a self-contained SVG: a line a city, or precision and recall beside it where there is only one."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from flows.svg import document, save, text_at
from pipeline.report.charts import GRID, INK, MUTED

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 72, 560, 72, 396
LOW, HIGH = 0.5, 0.95
COLOURS = ("#0f7682", "#e8562a", "#6b4fa0", "#b8860b", "#3f7d3a", "#a23b72", "#4f6d8f", "#7a5c3e")
MOST = len(COLOURS)
"""Cities that are told apart by colour; more than that, and only the mean is drawn."""


def write_plot(path: Path, found: dict[str, Any]) -> None:
    """Write the curves of `evaluate_instances.report` to `path`. Raises SettingsError where that cannot be."""
    save(path, iou_svg(found))


def iou_svg(found: dict[str, Any]) -> str:
    """The SVG of a report: the share on one axis, the IoU at which a building counts as found on the other."""
    cities = found["cities"]
    if len(cities) == 1:
        [(name, only)] = cities.items()
        curves = [(title, only["by_iou"][key]) for title, key in
                  (("F1", "f1"), ("precision", "precision"), ("recall", "recall"))]  # fmt: skip
        title, under = "Buildings by IoU", f"{name}: {only['truths']} buildings, {only['predictions']} predictions"
    else:
        title, under = "F1 by IoU", f"{len(cities)} cities; mean F1 at IoU 0.5: {found['mean']['f1']:.3f}"
        curves = [("mean of cities", found["mean"]["by_iou"]["f1"])]
        if len(cities) < MOST:
            curves += [(name, each["by_iou"]["f1"]) for name, each in cities.items()]
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text_at(LEFT, 30, title, INK, size=18, weight=600), text_at(LEFT, 52, under, MUTED, size=13), *_axes(),
    ]  # fmt: skip
    for i, (name, shares) in enumerate(curves):
        points = " ".join(f"{_x(at):.1f},{_y(share):.1f}" for at, share in zip(found["mean"]["by_iou"]["iou"], shares,
                                                                               strict=True))  # fmt: skip
        wide, y = (3 if i == 0 else 1.8), TOP + 10 + 24 * i
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{COLOURS[i]}" stroke-width="{wide}" '
            f'stroke-linejoin="round"><title>{escape(name)}</title></polyline>',
            f'<path d="M{RIGHT + 16} {y}h24" stroke="{COLOURS[i]}" stroke-width="{wide}" fill="none"/>',
            text_at(RIGHT + 48, y + 4.5, f"{name[:14]} {shares[0]:.3f}", INK, size=13),
        ]
    return document(parts, WIDTH, HEIGHT, f"{title}; {under}")


def _axes() -> list[str]:
    """Grid, frame and ticks."""
    parts = []
    for percent in range(0, 101, 20):
        y = _y(percent / 100)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="{GRID}"/>')
        parts.append(text_at(LEFT - 10, y + 4, f"{percent / 100:g}", MUTED, "end"))
    for percent in range(50, 96, 5):
        x = _x(percent / 100)
        parts.append(f'<path d="M{x:.1f} {TOP}V{BOTTOM}" stroke="{GRID}"/>')
        parts.append(text_at(x, BOTTOM + 20, f"{percent / 100:g}", MUTED, "middle"))
    parts.append(f'<path d="M{LEFT} {TOP}H{RIGHT}M{LEFT} {BOTTOM}H{RIGHT}" stroke="{INK}"/>')
    under = "IoU from which a building counts as found"
    return [*parts, text_at((LEFT + RIGHT) / 2, BOTTOM + 44, under, INK, "middle", 13)]


def _x(iou: float) -> float:
    return LEFT + (iou - LOW) / (HIGH - LOW) * (RIGHT - LEFT)


def _y(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)
