"""Arcs as walls: pieces of an outline, the lines through them, the directions that a house has, and what is tidied.

A side is a run of an arc's edges and its moments about the arc's first point: half the work of a fit is done by
then, and two sides that become one add up. Its `kind` says what its line is bound to: 2 · frame or 2 · frame + 1
for the two axes of a frame, -1 for a line of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pipeline.kernels.arcs import Floats, Ints
from pipeline.kernels.jit import kernel
from pipeline.kernels.simplify import thin


class Sides(NamedTuple):
    """Sides of all arcs, arc by arc; the last of an arc's room may be free."""

    offsets: Ints  # (a + 1,) room of each arc
    used: Ints  # (a,) sides of each arc
    first: Ints  # (s,) place of its first point within `Arcs.points`
    last: Ints  # (s,)
    moments: Floats  # (s, 6) of its edges about the arc's first point: length, x, y, xx, xy, yy
    kind: Ints  # (s,)
    line: Floats  # (s, 3) unit vector along it as the arc goes, and its distance to the left of the arc's first point


@kernel
def cut(arcs: Any, tolerance: float) -> Any:
    """Douglas-Peucker's pieces of every arc: offsets (a + 1,), first and last place, moments."""
    keep = np.zeros(arcs.x.size, np.bool_)
    stack, x, y = np.empty(arcs.points.size + 2, np.int64), arcs.x[arcs.points], arcs.y[arcs.points]
    first, last = np.empty(arcs.points.size, np.int64), np.empty(arcs.points.size, np.int64)
    moments = np.zeros((arcs.points.size, 6), np.float64)
    offsets = np.zeros(arcs.offsets.size, np.int64)
    n = 0
    for arc in range(arcs.offsets.size - 1):
        begin, end = arcs.offsets[arc], arcs.offsets[arc + 1] - 1
        thin(x, y, arcs.points, begin, end, tolerance, stack, keep)
        x0, y0 = arcs.x[arcs.points[begin]], arcs.y[arcs.points[begin]]
        i = begin
        for j in range(begin + 1, end + 1):
            if not keep[arcs.points[j]]:
                continue
            first[n], last[n] = i, j
            for k in range(i, j):
                p, q = arcs.points[k], arcs.points[k + 1]
                dx, dy = arcs.x[q] - arcs.x[p], arcs.y[q] - arcs.y[p]
                mx, my = (arcs.x[p] - x0) + dx / 2, (arcs.y[p] - y0) + dy / 2
                w = np.sqrt(dx * dx + dy * dy)
                moments[n, 0] += w
                moments[n, 1] += w * mx
                moments[n, 2] += w * my
                moments[n, 3] += w * (mx * mx + dx * dx / 12)
                moments[n, 4] += w * (mx * my + dx * dy / 12)
                moments[n, 5] += w * (my * my + dy * dy / 12)
            n += 1
            i = j
        offsets[arc + 1] = n
    return offsets, first[:n], last[:n], moments[:n]


@kernel
def along(moments: Any) -> Any:
    """Cosine and sine of twice the angle of the line that fits best; 0, 0 where every line does."""
    w = moments[0]
    xx = moments[3] - moments[1] * moments[1] / w
    xy = moments[4] - moments[1] * moments[2] / w
    yy = moments[5] - moments[2] * moments[2] / w
    c, s = xx - yy, 2 * xy
    h = np.sqrt(c * c + s * s)
    return (c / h, s / h) if h > 0.0 else (0.0, 0.0)


@kernel
def directions(arcs: Any, offsets: Any, first: Any, last: Any, moments: Any, polygons: int) -> Any:
    """Of each polygon the sum over its sides of length² · exp(4i · angle), (k, 2), and how far they agree, 0 to 1.

    Twice: the second sum leaves out what does not fit the first.
    """
    total = np.zeros((polygons, 2), np.float64)
    before = np.zeros((polygons, 2), np.float64)
    agree = np.zeros(polygons, np.float64)
    for turn in range(2):
        weight = np.zeros(polygons, np.float64)
        total[:] = 0.0
        for arc in range(arcs.offsets.size - 1):
            for s in range(offsets[arc], offsets[arc + 1]):
                p, q = arcs.points[first[s]], arcs.points[last[s]]
                w = (arcs.x[q] - arcs.x[p]) ** 2 + (arcs.y[q] - arcs.y[p]) ** 2
                c2, s2 = along(moments[s])
                c4, s4 = c2 * c2 - s2 * s2, 2 * c2 * s2
                for side in range(2):
                    polygon = arcs.face[arc, side]
                    if polygon >= 0:
                        fit = 1.0
                        if turn > 0:
                            fit = max(c4 * before[polygon, 0] + s4 * before[polygon, 1], 0.0)
                            fit *= fit
                        weight[polygon] += w
                        total[polygon, 0] += w * fit * c4
                        total[polygon, 1] += w * fit * s4
        for polygon in range(polygons):
            size = np.sqrt(total[polygon, 0] ** 2 + total[polygon, 1] ** 2)
            if turn == 0 and weight[polygon] > 0.0:
                agree[polygon] = size / weight[polygon]
            if size > 0.0:
                before[polygon, 0], before[polygon, 1] = total[polygon, 0] / size, total[polygon, 1] / size
    return total, agree


@kernel
def _apart(sums: Any, a: int, b: int) -> Any:
    """Angle between two directions of which each stands for four, 0 to π/4."""
    c = sums[a, 0] * sums[b, 0] + sums[a, 1] * sums[b, 1]
    s = sums[a, 1] * sums[b, 0] - sums[a, 0] * sums[b, 1]
    return abs(np.arctan2(s, c)) / 4


@kernel
def apart(arcs: Any, total: Any, agree: Any, least: float) -> Any:
    """Angle between the directions of the polygons on both sides of each arc, radians; infinite where there is none."""
    out = np.full(arcs.closed.size, np.inf)
    for arc in range(arcs.closed.size):
        a, b = arcs.face[arc, 0], arcs.face[arc, 1]
        if a >= 0 and b >= 0 and a != b and agree[a] >= least and agree[b] >= least:
            out[arc] = _apart(total, a, b)
    return out


@kernel
def frames(arcs: Any, total: Any, agree: Any, order: Any, least: float, near: float) -> Any:
    """Frame of each polygon (k,), -1 for none, and the angle of each frame (k,), radians.

    Polygons that share an arc have one frame where their directions differ by less than `near`; the frame's is
    that of all of them together. Arcs come in `order`, the closest directions first, and a frame that has grown
    counts as one.
    """
    root = np.arange(agree.size)
    sums = total.copy()
    for arc in order:
        a, b = arcs.face[arc, 0], arcs.face[arc, 1]
        while root[a] != a:
            a = root[a]
        while root[b] != b:
            b = root[b]
        if a != b and _apart(sums, a, b) <= near:
            a, b = min(a, b), max(a, b)
            root[b] = a
            sums[a, 0] += sums[b, 0]
            sums[a, 1] += sums[b, 1]
    angle = np.zeros(agree.size, np.float64)
    for polygon in range(agree.size):
        a = polygon
        while root[a] != a:
            a = root[a]
        root[polygon] = a
        angle[polygon] = np.arctan2(sums[polygon, 1], sums[polygon, 0]) / 4
    for polygon in range(agree.size):
        if agree[polygon] < least:
            root[polygon] = -1
    return root, angle


@kernel
def settle(sides: Any, s: int) -> None:
    """The line's place from the moments: through the middle of its edges."""
    m = sides.moments[s]
    sides.line[s, 2] = (sides.line[s, 0] * m[2] - sides.line[s, 1] * m[1]) / m[0]


@kernel
def turn(arcs: Any, sides: Any, s: int, ux: float, uy: float, kind: int) -> None:
    """Bind a side to the line along (ux, uy) or back, as the arc goes."""
    p, q = arcs.points[sides.first[s]], arcs.points[sides.last[s]]
    if ux * (arcs.x[q] - arcs.x[p]) + uy * (arcs.y[q] - arcs.y[p]) < 0.0:
        ux, uy = -ux, -uy
    sides.line[s, 0], sides.line[s, 1] = ux, uy
    sides.kind[s] = kind
    settle(sides, s)


@kernel
def bind(arcs: Any, sides: Any, frame: Any, angle: Any, snap: float, short: float) -> None:
    """Give every side its line: along an axis of a frame beside it where it is near one, else its own.

    Near is `snap` (radians), or more for a side shorter than `short`, whose direction says less.
    """
    for arc in range(arcs.offsets.size - 1):
        for s in range(sides.offsets[arc], sides.offsets[arc + 1]):
            p, q = arcs.points[sides.first[s]], arcs.points[sides.last[s]]
            dx, dy = arcs.x[q] - arcs.x[p], arcs.y[q] - arcs.y[p]
            length = np.sqrt(dx * dx + dy * dy)
            c2, s2 = along(sides.moments[s])
            own = np.arctan2(s2, c2) / 2
            best, kind, turned = np.inf, -1, own
            for side in range(2):
                face = arcs.face[arc, side]
                if face < 0 or frame[face] < 0:
                    continue
                steps = np.floor((own - angle[frame[face]]) / (np.pi / 2) + 0.5)
                off = abs(own - angle[frame[face]] - steps * (np.pi / 2))
                if off < best:
                    best = off
                    kind = 2 * frame[face] + (int(steps) & 1)
                    turned = angle[frame[face]] + (int(steps) & 1) * (np.pi / 2)
            if best > (snap if length >= short else min(snap * short / max(length, 1.0), 0.6)):
                kind, turned = -1, own
            turn(arcs, sides, s, np.cos(turned), np.sin(turned), kind)
