"""Label raster to polygons: the outline of every 4-connected piece, holes kept, every ring simple.

Nothing is followed pixel by pixel. A run (a span of one label in a row) has a left edge that goes down and
a right edge that goes up; along the line between two rows, each edge that arrives is tied to the one that
leaves, so that a ring is a linked list of run edges with the piece always on its left as seen on screen:

        . . . . . .        left edge of run r   2r
        . ↓ # # ↑ .        right edge of run r  2r + 1
        . ↓ # # ↑ .

Shells are counter-clockwise on screen (y down), hence in a north-up map too; holes are clockwise.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.components import find, grown, join
from pipeline.kernels.instances import Runs
from pipeline.kernels.instances import runs as runs_of
from pipeline.kernels.jit import kernel

Traced: TypeAlias = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]

_FAR = 1 << 40


@kernel
def _joined(begin: Any, end: Any, value: Any, rows: Any) -> Any:
    """Parents of runs, joined to 4-connected pieces."""
    parent = np.empty(begin.size, np.int32)
    over = np.int64(0)
    for y in range(rows.size - 1):
        first = rows[y]
        for run in range(first, rows[y + 1]):
            parent[run] = run
            while over < first and end[over] <= begin[run]:
                over += 1
            k = over
            while k < first and begin[k] < end[run]:
                if value[k] == value[run]:
                    join(parent, k, run)
                k += 1
        over = first
    return parent


@kernel
def _tie(begin: Any, end: Any, value: Any, rows: Any, parent: Any) -> Any:
    """For every edge, the edge that its ring goes on with.

    A sweep along each line between two rows stops where a run begins or ends, above or below. Around that
    vertex lie up to four runs (-1: none), and each may have a side that arrives and one that leaves:

            a | c       a: arrives along its bottom, leaves up      c: arrives from above, leaves to the right
            --+--
            b | d       b: arrives from below, leaves to the left   d: arrives along its top, leaves down

    What arrives with its pixel on the left turns left around that pixel if it can, else goes straight on,
    else turns right. Only where two diagonal pixels are of one piece does it cross over to the other: they
    are connected elsewhere, so the two remaining pixels lie in different rings, and each ring stays simple.
    `below_a` is the edge whose ring arrives along the bottom of a; `above_b` the one that the ring along
    the top of b ends in.
    """
    next_edge = np.empty(2 * begin.size, np.int64)
    height = rows.size - 1
    for y in range(height + 1):
        up, up_stop = (rows[y - 1], rows[y]) if y > 0 else (rows[0], rows[0])
        low, low_stop = (rows[y], rows[y + 1]) if y < height else (rows[0], rows[0])
        a, b, below_a, above_b = -1, -1, -1, -1
        while up < up_stop or low < low_stop:
            x = _FAR
            if up < up_stop:
                x = end[up] if a == up else begin[up]
            if low < low_stop:
                x = min(x, end[low] if b == low else begin[low])
            c, d = a, b
            if up < up_stop and a == up and end[up] == x:
                up += 1
                c = -1
            if up < up_stop and begin[up] == x:
                c = up
            if low < low_stop and b == low and end[low] == x:
                low += 1
                d = -1
            if low < low_stop and begin[low] == x:
                d = low
            va, vb = value[a] if a >= 0 else 0, value[b] if b >= 0 else 0
            vc, vd = value[c] if c >= 0 else 0, value[d] if d >= 0 else 0
            left, right, top, bottom = va != vb, vc != vd, a != c, b != d
            cross_ad = va == vd and va != 0 and left and top and find(parent, a) == find(parent, d)
            cross_bc = vb == vc and vb != 0 and left and top and find(parent, b) == find(parent, c)
            below_c, above_d = -1, -1
            if a >= 0 and left:
                if top and not cross_ad:
                    next_edge[below_a] = 2 * a + 1
                elif right and not cross_ad:
                    below_c = below_a
                else:
                    next_edge[below_a] = 2 * d
            if c >= 0 and top:
                if right and not cross_bc:
                    below_c = 2 * c
                elif bottom and not cross_bc:
                    next_edge[2 * c] = 2 * d
                else:
                    next_edge[2 * c] = above_b
            if b >= 0 and bottom:
                if left and not cross_bc:
                    next_edge[2 * b + 1] = above_b
                elif top and not cross_bc:
                    next_edge[2 * b + 1] = 2 * a + 1
                else:
                    below_c = 2 * b + 1
            if d >= 0 and right:
                if bottom and not cross_ad:
                    above_d = 2 * d
                elif left and not cross_ad:
                    above_d = above_b
                else:
                    above_d = 2 * a + 1
            a, b, below_a, above_b = c, d, below_c, above_d
    return next_edge


@kernel
def _follow(begin: Any, end: Any, rows: Any, parent: Any, next_edge: Any) -> Any:
    """Rings in the row-major order of their first left edge: points, offsets, the first run of the piece."""
    runs = begin.size
    line = np.empty(runs, np.int32)
    for y in range(rows.size - 1):
        for run in range(rows[y], rows[y + 1]):
            line[run] = y
    points, room = np.empty((5 * runs, 2), np.int32), 64
    offsets, root = np.zeros(room, np.int64), np.empty(room, np.int64)
    rings, n = 0, 0
    for run in range(runs):
        if next_edge[2 * run] < 0:
            continue
        if rings + 2 > room:
            room *= 2
            offsets, root = grown(offsets, room), grown(root, room)
        points[n, 0], points[n, 1] = begin[run], line[run]
        n += 1
        edge = 2 * run
        while next_edge[edge] >= 0:
            after = next_edge[edge]
            next_edge[edge] = -1
            here, there = edge >> 1, after >> 1
            x = end[here] if edge & 1 else begin[here]
            to = end[there] if after & 1 else begin[there]
            if x != to:
                y = line[here] + (1 - (edge & 1))
                points[n, 0], points[n, 1], points[n + 1, 0], points[n + 1, 1] = x, y, to, y
                n += 2
            edge = after
        rings += 1
        offsets[rings] = n
        root[rings - 1] = find(parent, run)
    return points[:n], offsets[: rings + 1], root[:rings]


@kernel
def _gather(points: Any, offsets: Any, root: Any, value: Any, x0: int, y0: int) -> Any:
    """Group rings by piece: the shell, which comes first, then its holes in the order found."""
    rings = root.size
    piece_of = np.full(value.size, -1, np.int64)
    pieces = 0
    for ring in range(rings):
        if piece_of[root[ring]] < 0:
            piece_of[root[ring]] = pieces
            pieces += 1
    polygon_offsets, label = np.zeros(pieces + 1, np.int64), np.empty(pieces, np.int32)
    for ring in range(rings):
        polygon_offsets[piece_of[root[ring]] + 1] += 1
        label[piece_of[root[ring]]] = value[root[ring]]
    for piece in range(pieces):
        polygon_offsets[piece + 1] += polygon_offsets[piece]
    slot, order = polygon_offsets.copy(), np.empty(rings, np.int64)
    for ring in range(rings):
        piece = piece_of[root[ring]]
        order[slot[piece]] = ring
        slot[piece] += 1
    coords, ring_offsets = np.empty(points.shape, np.float64), np.zeros(rings + 1, np.int64)
    n = 0
    for k in range(rings):
        for i in range(offsets[order[k]], offsets[order[k] + 1]):
            coords[n, 0], coords[n, 1] = x0 + points[i, 0], y0 + points[i, 1]
            n += 1
        ring_offsets[k + 1] = n
    return coords, ring_offsets, polygon_offsets, label


@kernel
def _trace(runs: Any, x0: int, y0: int) -> Any:
    begin, end, value, rows = runs
    parent = _joined(begin, end, value, rows)
    next_edge = _tie(begin, end, value, rows, parent)
    points, offsets, root = _follow(begin, end, rows, parent, next_edge)
    return _gather(points, offsets, root, value, x0, y0)


def trace_runs(runs: Runs, origin: tuple[int, int] = (0, 0)) -> Traced:
    """As `trace`, of the raster that the runs are of; its corner is x, y `origin`."""
    coords, ring_offsets, polygon_offsets, label = _trace(runs, *origin)
    return coords, ring_offsets, polygon_offsets, label


def trace(labels: NDArray[np.int32]) -> Traced:
    """Polygons of a (height, width) label raster, 0 left out: one for every 4-connected piece of one label.

    Returns `coords` (n, 2) float64 in pixels of the raster (corner origin), `ring_offsets`,
    `polygon_offsets` and the int32 `label` of each polygon. Polygons come in the row-major order of their
    first pixel; shells first, then holes; rings closed, without collinear vertices. Every polygon is valid:
    pieces that touch at a corner only are separate, and a piece that touches itself there has rings that
    meet in a point. Equal to `rasterio.features.shapes(connectivity=4)` up to the order of rings and vertices.
    """
    return trace_runs(runs_of(labels))
