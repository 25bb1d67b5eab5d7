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


def line(name: str, rows: Sequence[Row], scenes: int, fields: int) -> str:
    """One method's line: figures as means over scenes, seconds as the median over runs (the first compiles)."""
    done, seeds = len({row["scene"] for row in rows}), len({row["seed"] for row in rows})
    few = "" if seeds == fields and done == scenes else f" ({done} of {scenes} scenes, {seeds} of {fields} fields)"
    shares = " | ".join(f"{100 * mean_of(rows, key):.0f} %" for key in ("within_1", "within_2", "within_4"))
    distances = " | ".join(f"{mean_of(rows, key):.2f}" for key in ("mean", "median", "iou"))
    return f"| {name}{few} | {shares} | {distances} | {np.median([row['s_per_mpx'] for row in rows]):.2g} |"


def table(rows: Sequence[Row]) -> str:
    """Markdown: all scenes together, then scene by scene, for each largest displacement. A method with fewer
    fields or scenes than the fullest one says so in its name, and is not comparable to the last point."""
    parts = []
    head = "| method | ≤ 1 px | ≤ 2 px | ≤ 4 px | mean px | median px | IoU | s/Mpx |\n|" + 8 * "---|"
    for largest in sorted({row["largest"] for row in rows}, reverse=True):
        mine = [row for row in rows if row["largest"] == largest]
        scenes = sorted({row["scene"] for row in mine})
        for scene in [None, *scenes]:
            chosen = [row for row in mine if scene in (None, row["scene"])]
            fields = len({row["seed"] for row in chosen})
            where = "mean over the areas" if scene is None else f"{scene}, {chosen[0]['polygons']} polygons scored"
            parts += ["", f"**{largest:g} px, {where}**, {fields} fields", "", head]
            for name in dict.fromkeys(row["method"] for row in chosen):
                of = [row for row in chosen if row["method"] == name]
                parts.append(line(name, of, len(scenes) if scene is None else 1, fields))
    return "\n".join(parts[1:]) + "\n"


def curves(rows: Sequence[Row], path: Path) -> None:
    """Share of vertices within each distance, one panel a scene and largest displacement, as SVG."""
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
                of = [r["curve"] for r in rows if (r["scene"], r["largest"], r["method"]) == (scene, largest, name)]
                if of:
                    points = " ".join(
                        f"{x0 + wide * px / 16:.1f},{y0 + high * (1 - share):.1f}"
                        for px, share in zip(THRESHOLDS, np.mean(of, axis=0), strict=True)
                    )
                    out.append(f'<polyline points="{points}" fill="none" stroke="{colour[name]}" stroke-width="1.5"/>')
    for k, name in enumerate(methods):
        x, y = gap + (k % 4) * 300, gap + len(sizes) * (high + gap) + 18 * (k // 4) + 10
        out.append(f'<line x1="{x}" x2="{x + 20}" y1="{y - 4}" y2="{y - 4}" stroke="{colour[name]}" stroke-width="2"/>')
        out.append(f'<text x="{x + 26}" y="{y}">{name}</text>')
    path.write_text("\n".join([*out, "</svg>"]) + "\n", encoding="utf-8")
