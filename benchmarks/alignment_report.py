"""Rows of the alignment benchmark as a table (Markdown) and as accuracy curves (SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

THRESHOLDS = tuple(np.arange(0.5, 16.01, 0.5).tolist())
"""Distances, px, of the curves."""

COLOURS = (
    "#222222", "#8c8c8c", "#1f77b4", "#17becf", "#9467bd", "#e377c2", "#bcbd22", "#8c564b", "#ff7f0e", "#2ca02c",
    "#d62728", "#7f0000",
)  # fmt: skip

Row = dict[str, Any]


def mean_of(rows: Sequence[Row], key: str) -> float:
    """Mean over scenes of the mean over fields: a scene with more fields counts no more."""
    scenes = sorted({row["scene"] for row in rows})
    return float(np.mean([np.mean([row[key] for row in rows if row["scene"] == scene]) for scene in scenes]))


def of_method(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows of one method."""
    return [row for row in rows if row["method"] == name]


def line(name: str, rows: Sequence[Row], scenes: int, fields: int, against: str = "") -> str:
    """One method's line: figures as means over scenes, seconds as the median over runs (the first compiles).
    `against` "_placed" takes the distances to the polygons placed by eye, without IoU and seconds."""
    done, seeds = len({row["scene"] for row in rows}), len({row["seed"] for row in rows})
    few = "" if seeds == fields and done == scenes else f" ({done} of {scenes} scenes, {seeds} of {fields} fields)"
    cells = [f"{mean_of(rows, key + against):.2f}" for key in ("median", "mean")]
    cells += [f"{100 * mean_of(rows, f'within_{px}{against}'):.0f} %" for px in (1, 2, 4, 8)]
    if not against:
        seconds = np.median([row["s_per_mpx"] for row in rows])
        cells += [f"{mean_of(rows, 'iou'):.2f}", f"{seconds:.2g}"]
    return f"| {name}{few} | {' | '.join(cells)} |"


def blocks(rows: Sequence[Row], against: str = "") -> list[str]:
    """For each largest displacement a table a scene, then the mean over scenes. A method with fewer fields or scenes
    than the fullest one says so in its name, and is not comparable to the last point."""
    head = "| method | median px | mean px | ≤ 1 px | ≤ 2 px | ≤ 4 px | ≤ 8 px |"
    head += "" if against else " IoU | s/Mpx |"
    head += "\n|" + (head.count("|") - 1) * "---|"
    parts = []
    for largest in sorted({row["largest"] for row in rows} - {0.0}, reverse=True):
        mine = [row for row in rows if row["largest"] == largest]
        scenes = sorted({row["scene"] for row in mine})
        for scene in [*scenes, None] if len(scenes) > 1 else scenes:
            chosen = [row for row in mine if scene in (None, row["scene"])]
            fields = len({row["seed"] for row in chosen})
            where = "mean over the areas" if scene is None else f"{scene}, {chosen[0]['polygons']} polygons scored"
            parts += ["", f"**{largest:g} px, {where}**, {fields} field{'s' * (fields > 1)}", "", head]
            for name in dict.fromkeys(row["method"] for row in chosen):
                of = of_method(chosen, name)
                parts.append(line(name, of, len(scenes) if scene is None else 1, fields, against))
    return parts


def reference(rows: Sequence[Row]) -> list[str]:
    """What each method does to a right cadaster: median shift and mean shift (x right, y down) a scene, px."""
    still = [row for row in rows if row["largest"] == 0]
    scenes = {row["scene"]: row for row in still}
    parts = ["", f"| method | {' | '.join(scenes)} |", "|" + (len(scenes) + 1) * "---|"]
    for name in dict.fromkeys(row["method"] for row in still):
        of = {row["scene"]: row for row in of_method(still, name)}
        cells = [f"{of[s]['median']:.2f} ({of[s]['dx']:+.1f}, {of[s]['dy']:+.1f})" if s in of else "" for s in scenes]
        parts.append(f"| {name} | {' | '.join(cells)} |")
    return parts


def apart(rows: Sequence[Row]) -> list[str]:
    """How far apart each method puts one vertex from fields that differ: median / mean px a scene."""
    parts = []
    for largest in sorted({row["largest"] for row in rows} - {0.0}, reverse=True):
        mine = [row for row in rows if row["largest"] == largest]
        scenes = list(dict.fromkeys(row["scene"] for row in mine))
        parts += ["", f"| {largest:g} px | {' | '.join(scenes)} |", "|" + (len(scenes) + 1) * "---|"]
        for name in dict.fromkeys(row["method"] for row in mine):
            of = {row["scene"]: row for row in of_method(mine, name)}
            if max(row["seed"] for row in of.values()):  # one field alone is apart from nothing
                cells = [[of[s][key] for key in ("spread_median", "spread_mean")] for s in scenes if s in of]
                parts.append(f"| {name} | {' | '.join(f'{a:.2f} / {b:.2f}' for a, b in cells)} |")
    return parts


def table(rows: Sequence[Row]) -> str:
    """Markdown: scores against the labels and the polygons placed by eye, and what is done to right cadasters."""
    placed = [row for row in rows if "median_placed" in row]
    parts = ["## Against the labels", *blocks(rows)]
    if placed:
        parts += ["", "## Against the polygons placed by eye", *blocks(placed, "_placed")]
    parts += [
        "",
        "## Right cadasters, given as they are",
        "",
        "Median shift of vertices, px, and in brackets the mean shift (x right, y down): of the labels as they are,",
        "where a shift that unlike methods share is the labels' own offset from the image, and of the polygons placed",
        "by eye alone.",
        *reference(rows),
        "",
        "## The error without labels",
        "",
        "Distance of one vertex' places, from fields that differ, from their middle, median / mean px: what is the",
        "method's own. It says nothing of right or wrong.",
        *apart(rows),
    ]
    return "\n".join(parts) + "\n"


def curves(rows: Sequence[Row], path: Path, of: str = "curve") -> None:
    """Share of vertices within each distance of the labels (`of` "curve") or of the polygons placed by eye
    ("curve_placed"), one panel a scene and largest displacement, as SVG."""
    rows = [row for row in rows if row["largest"] and of in row]
    scenes = sorted({row["scene"] for row in rows})
    sizes = sorted({row["largest"] for row in rows}, reverse=True)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(methods)}
    wide, high, gap = 260, 180, 44
    legend = 18 * (-(-len(methods) // 4)) + 10
    width, height = max(len(scenes) * (wide + gap), 1200) + gap, len(sizes) * (high + gap) + gap + legend
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for j, largest in enumerate(sizes):
        for i, scene in enumerate(scenes):
            x0, y0 = gap + i * (wide + gap), gap + j * (high + gap)
            out.append(f'<text x="{x0}" y="{y0 - 8}">{scene}, {largest:g} px</text>')
            out.append(f'<rect x="{x0}" y="{y0}" width="{wide}" height="{high}" fill="none" stroke="#bbb"/>')
            for share in (0.25, 0.5, 0.75):
                y = y0 + high * (1 - share)
                out.append(f'<line x1="{x0}" x2="{x0 + wide}" y1="{y}" y2="{y}" stroke="#eee"/>')
            for share in (0, 0.5, 1):
                at = y0 + high * (1 - share) + 4
                out.append(f'<text x="{x0 - 4}" y="{at}" text-anchor="end">{100 * share:.0f}%</text>')
            for px in (2, 4, 8, 16):
                at = x0 + wide * px / 16
                out.append(f'<text x="{at}" y="{y0 + high + 13}" text-anchor="middle">{px}</text>')
            for name in methods:
                mine = [r[of] for r in rows if (r["scene"], r["largest"], r["method"]) == (scene, largest, name)]
                if mine:
                    points = " ".join(
                        f"{x0 + wide * px / 16:.1f},{y0 + high * (1 - share):.1f}"
                        for px, share in zip(THRESHOLDS, np.mean(mine, axis=0), strict=True)
                    )
                    out.append(f'<polyline points="{points}" fill="none" stroke="{colour[name]}" stroke-width="1.5"/>')
    for k, name in enumerate(methods):
        x, y = gap + (k % 4) * 300, gap + len(sizes) * (high + gap) + 18 * (k // 4) + 10
        out.append(f'<line x1="{x}" x2="{x + 20}" y1="{y - 4}" y2="{y - 4}" stroke="{colour[name]}" stroke-width="2"/>')
        out.append(f'<text x="{x + 26}" y="{y}">{name}</text>')
    path.write_text("\n".join([*out, "</svg>"]) + "\n", encoding="utf-8")
