"""Corners from lines: walls that run on past a junction share a line, and corners are where lines meet."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.kernels.jit import kernel

STEEP = 0.35
"""Sine of the least angle between two walls for a junction to stand where they meet."""

WEAK = 4.0
"""px: an arc of one side that is shorter has no line."""

GRID = 1024.0
"""New coordinates are whole multiples of 1 / GRID px: moving them by whole pixels loses nothing."""


@kernel
def _end_side(sides: Any, end: int) -> Any:
    """The side at an arc's end: 2 · arc its first, 2 · arc + 1 its last."""
    arc = end >> 1
    return sides.offsets[arc] + (sides.used[arc] - 1 if end & 1 else 0)


@kernel
def _weak(arcs: Any, sides: Any, end: int) -> Any:
    """Whether an arc is too short to say where its wall runs: it then goes straight from junction to junction."""
    arc = end >> 1
    p, q = arcs.points[arcs.offsets[arc]], arcs.points[arcs.offsets[arc + 1] - 1]
    dx, dy = arcs.x[q] - arcs.x[p], arcs.y[q] - arcs.y[p]
    return sides.used[arc] == 1 and dx * dx + dy * dy < WEAK * WEAK and not arcs.closed[arc]


@kernel
def _line_at(arcs: Any, sides: Any, s: int, arc: int, p: int) -> Any:
    """Distance of a side's line to the left of the point `p`."""
    o = arcs.points[arcs.offsets[arc]]
    dx, dy = arcs.x[o] - arcs.x[p], arcs.y[o] - arcs.y[p]
    return sides.line[s, 2] + (sides.line[s, 0] * dy - sides.line[s, 1] * dx)


@kernel
def link(arcs: Any, sides: Any, jog: float) -> None:
    """One line for walls that run on past junctions: the mean of theirs by length, unless it strays from one."""
    root = np.arange(sides.kind.size)
    arc_of = np.zeros(sides.kind.size, np.int64)
    for arc in range(arcs.closed.size):
        arc_of[sides.offsets[arc] : sides.offsets[arc + 1]] = arc
    for p in range(arcs.x.size):
        for i in range(arcs.end_offsets[p], arcs.end_offsets[p + 1]):
            e = arcs.ends[i]
            s = _end_side(sides, e)
            for j in range(arcs.end_offsets[p], i):
                f = arcs.ends[j]
                t = _end_side(sides, f)
                if sides.kind[s] < 0 or sides.kind[s] != sides.kind[t]:
                    continue
                along = sides.line[s, 0] * sides.line[t, 0] + sides.line[s, 1] * sides.line[t, 1]
                same = along > 0.0
                # They run on where one arrives and the other leaves the same way, or both leave opposite ways.
                if same == ((e & 1) == (f & 1)):
                    continue
                d, g = _line_at(arcs, sides, s, e >> 1, p), _line_at(arcs, sides, t, f >> 1, p)
                if abs(d - (g if same else -g)) > jog:
                    continue
                while root[s] != s:
                    s = root[s]
                while root[t] != t:
                    t = root[t]
                if s != t:
                    root[max(s, t)] = min(s, t)
                s = _end_side(sides, e)
    weight, total = np.zeros(root.size, np.float64), np.zeros(root.size, np.float64)
    for s in range(root.size):
        r = s
        while root[r] != r:
            r = root[r]
        root[s] = r
    for step in range(2):
        for arc in range(arcs.closed.size):
            for s in range(sides.offsets[arc], sides.offsets[arc] + sides.used[arc]):
                r = root[s]
                if sides.kind[s] < 0:
                    continue
                o = arcs.points[arcs.offsets[arc_of[r]]]
                sign = 1.0 if sides.line[s, 0] * sides.line[r, 0] + sides.line[s, 1] * sides.line[r, 1] > 0.0 else -1.0
                here = _line_at(arcs, sides, s, arc, o)
                if step == 0:
                    weight[r] += sides.moments[s, 0]
                    total[r] += sides.moments[s, 0] * sign * here
                else:
                    shift = sign * total[r] / weight[r] - here
                    if weight[r] > sides.moments[s, 0] and abs(shift) <= jog:
                        sides.line[s, 2] += shift


@kernel
def _snapped(value: float) -> Any:
    return np.floor(value * GRID + 0.5) / GRID


@kernel
def _meet_at(ax: float, ay: float, ad: float, bx: float, by: float, bd: float) -> Any:
    """Where two lines meet, and the sine of the angle between them; each a unit vector and its distance."""
    sine = ax * by - ay * bx
    if abs(sine) < 1e-6:
        return 0.0, 0.0, 0.0
    return (ad * bx - bd * ax) / sine, (ad * by - bd * ay) / sine, sine


@kernel
def _crossing(arcs: Any, sides: Any, e: int, f: int, p: int) -> Any:
    """Where the lines of two ends at the point `p` meet, from there; a rank, the higher the longer; and the sine."""
    s, t = _end_side(sides, e), _end_side(sides, f)
    d, g = _line_at(arcs, sides, s, e >> 1, p), _line_at(arcs, sides, t, f >> 1, p)
    x, y, sine = _meet_at(sides.line[s, 0], sides.line[s, 1], d, sides.line[t, 0], sides.line[t, 1], g)
    rank = min(sides.moments[s, 0], sides.moments[t, 0])
    if _weak(arcs, sides, e) or _weak(arcs, sides, f):
        return 0.0, 0.0, 0.0, 0.0
    if sides.kind[s] >= 0 and sides.kind[t] >= 0:
        rank += 1e6
    return x, y, rank, abs(sine)


@kernel
def _between(arcs: Any, sides: Any, p: int) -> Any:
    """The one of three ends at a junction that stands across the two others, which are bound to one axis; or -1."""
    begin = arcs.end_offsets[p]
    for i in range(3):
        e, f, g = arcs.ends[begin + i], arcs.ends[begin + (i + 1) % 3], arcs.ends[begin + (i + 2) % 3]
        k = sides.kind[_end_side(sides, f)]
        if k >= 0 and k == sides.kind[_end_side(sides, g)] and sides.kind[_end_side(sides, e)] == k ^ 1:
            return i
    return -1


@kernel
def place_junctions(arcs: Any, sides: Any, regular: Any, pinned: Any, reach: float, x: Any, y: Any) -> None:
    """New places `x`, `y` (n,) of the junctions: where the lines of the longest walls meet, else where they were.

    `pinned` (n,) ones stay. A wall between two that run on with a step ends at the nearer of them; the other gets
    a corner of its own.
    """
    for p in range(arcs.x.size):
        x[p], y[p] = arcs.x[p], arcs.y[p]
        begin, end = arcs.end_offsets[p], arcs.end_offsets[p + 1]
        free = end > begin and not pinned[p]
        for i in range(begin, end):
            free &= regular[arcs.ends[i] >> 1]
        if not free:
            continue
        best, bx, by = -np.inf, 0.0, 0.0
        wall = _between(arcs, sides, p) if end - begin == 3 else -1
        ux, uy = 0.0, 0.0
        if wall >= 0:
            e = arcs.ends[begin + wall]
            s = _end_side(sides, e)
            sign = -1.0 if e & 1 else 1.0
            ux, uy = sign * sides.line[s, 0], sign * sides.line[s, 1]
            if _weak(arcs, sides, e):
                wall = -1
        for i in range(begin, end):
            for j in range(begin, i):
                if wall >= 0 and i != begin + wall and j != begin + wall:
                    continue
                qx, qy, rank, sine = _crossing(arcs, sides, arcs.ends[i], arcs.ends[j], p)
                if sine < STEEP or qx * qx + qy * qy > reach * reach:
                    continue
                if wall >= 0:
                    rank = qx * ux + qy * uy
                if rank > best:
                    best, bx, by = rank, qx, qy
        if best == -np.inf:  # one wall runs through
            for i in range(begin, end):
                e = arcs.ends[i]
                s = _end_side(sides, e)
                d = _line_at(arcs, sides, s, e >> 1, p)
                if not _weak(arcs, sides, e) and sides.moments[s, 0] > best and abs(d) <= reach:
                    best, bx, by = sides.moments[s, 0], -sides.line[s, 1] * d, sides.line[s, 0] * d
        x[p], y[p] = arcs.x[p] + _snapped(bx), arcs.y[p] + _snapped(by)


@kernel
def _put(out_x: Any, out_y: Any, n: int, first: int, x: float, y: float) -> Any:
    """Append a vertex unless it is where the last one is; the new count."""
    if n > first and out_x[n - 1] == x and out_y[n - 1] == y:
        return n
    out_x[n], out_y[n] = x, y
    return n + 1


@kernel
def _foot(arcs: Any, sides: Any, arc: int, s: int, x: float, y: float) -> Any:
    """The point of a side's line nearest to (x, y), and how far it is."""
    o = arcs.points[arcs.offsets[arc]]
    ux, uy = sides.line[s, 0], sides.line[s, 1]
    d = sides.line[s, 2] - (ux * (y - arcs.y[o]) - uy * (x - arcs.x[o]))
    return x + _snapped(-uy * d), y + _snapped(ux * d), abs(d)


@kernel
def _turn_at(
    arcs: Any, sides: Any, arc: int, s: int, t: int, reach: float, out_x: Any, out_y: Any, n: int, first: int
) -> Any:
    """The corner between a side and the next: where their lines meet, or a step if that is far; the new count."""
    o, p, q = arcs.points[arcs.offsets[arc]], arcs.points[sides.last[s]], arcs.points[sides.first[t]]
    mx, my = (arcs.x[p] + arcs.x[q]) / 2, (arcs.y[p] + arcs.y[q]) / 2
    gap = np.sqrt((arcs.x[p] - arcs.x[q]) ** 2 + (arcs.y[p] - arcs.y[q]) ** 2)
    cx, cy, sine = _meet_at(
        sides.line[s, 0], sides.line[s, 1], sides.line[s, 2], sides.line[t, 0], sides.line[t, 1], sides.line[t, 2]
    )
    cx, cy = arcs.x[o] + _snapped(cx), arcs.y[o] + _snapped(cy)
    if abs(sine) > 0.1 and (cx - mx) ** 2 + (cy - my) ** 2 <= (reach + gap) ** 2:
        return _put(out_x, out_y, n, first, cx, cy)
    # A step stands on the middle of what lies between.
    ax, ay, _ = _foot(arcs, sides, arc, s, mx, my)
    bx, by, _ = _foot(arcs, sides, arc, t, mx, my)
    n = _put(out_x, out_y, n, first, ax, ay)
    return _put(out_x, out_y, n, first, bx, by)


@kernel
def outline(
    arcs: Any, sides: Any, regular: Any, pinned: Any, keep: Any, x: Any, y: Any, reach: float, bend: float, bad: Any
) -> Any:
    """Vertices of every arc with both ends, and offsets; a regular arc's from its lines, another's those to `keep`.

    An end that lies more than `bend` off its line gets a corner on the line. `bad` is set for arcs whose sides
    come out the other way round.
    """
    room = 2 * np.int64(sides.used.sum()) + arcs.points.size + 4 * arcs.closed.size
    out_x, out_y = np.empty(room, np.float64), np.empty(room, np.float64)
    offsets = np.zeros(arcs.offsets.size, np.int64)
    n = 0
    for arc in range(arcs.closed.size):
        begin, end = arcs.offsets[arc], arcs.offsets[arc + 1] - 1
        p, q = arcs.points[begin], arcs.points[end]
        first = n
        if not regular[arc]:
            for k in range(begin, end + 1):
                point = arcs.points[k]
                if keep[point] or k in (begin, end):
                    out_x[n], out_y[n] = x[point], y[point]
                    n += 1
            offsets[arc + 1] = n
            continue
        base, count = sides.offsets[arc], sides.used[arc]
        if arcs.closed[arc]:
            for i in range(count):
                n = _turn_at(arcs, sides, arc, base + i, base + (i + 1) % count, reach, out_x, out_y, n, first)
            n = _put(out_x, out_y, n, first, out_x[first], out_y[first])
            bad[arc] |= n - first < 4
        else:
            n = _put(out_x, out_y, n, first, x[p], y[p])
            weak = _weak(arcs, sides, 2 * arc)
            fx, fy, off = _foot(arcs, sides, arc, base, x[p], y[p])
            if off > (2 * bend if pinned[p] else bend) and not weak:
                n = _put(out_x, out_y, n, first, fx, fy)
            for i in range(count - 1):
                n = _turn_at(arcs, sides, arc, base + i, base + i + 1, reach, out_x, out_y, n, first)
            fx, fy, off = _foot(arcs, sides, arc, base + count - 1, x[q], y[q])
            if off > (2 * bend if pinned[q] else bend) and not weak:
                n = _put(out_x, out_y, n, first, fx, fy)
            n = _put(out_x, out_y, n, first, x[q], y[q])
            bad[arc] |= n - first < 2
        offsets[arc + 1] = n
    return out_x[:n], out_y[:n], offsets
