"""Douglas-Peucker on a whole layer at once: a wall that two polygons share stays one wall.

Rings are cut into chains at junctions, the points where more than two different edges meet. A point inside
a chain lies on no other chain, so that "is it kept?" has one answer for all rings through it. Before that,
straight horizontal and vertical edges get the vertices of others that lie on them (a tracer merges collinear
ones, so three houses in a row meet the street's long edge in the middle of it).

A chain whose simplification would cross or touch anything, or pass over a vertex of something else, or make
a ring collapse, tries again with less, and in the end stays as it was; so valid polygons stay valid, and
disjoint ones disjoint.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.arcs import junctions, pieces
from pipeline.kernels.conflicts import conflicts
from pipeline.kernels.jit import inlined, kernel, plain
from pipeline.kernels.nodes import noded

_TRIES = 5


@kernel
def _chains(points: Any, offsets: Any, junction: Any) -> Any:
    """Every chain once, as `arcs.pieces` cuts them: its points with both ends, offsets, and the chain of each point
    inside one."""
    place, edges, forward, _, piece_offsets = pieces(points, offsets, junction)
    chain_of = np.full(junction.size, -1, np.int64)
    out, out_offsets = np.empty(2 * points.size + 1, np.int64), np.zeros(points.size + 1, np.int64)
    n, chains = 0, 0
    for ring in range(offsets.size - 1):
        base, size = offsets[ring], offsets[ring + 1] - offsets[ring]
        for piece in range(piece_offsets[ring], piece_offsets[ring + 1]):
            i, count = place[piece], edges[piece]
            if count > 1 and chain_of[points[base + (i + 1) % size]] >= 0:
                continue
            for k in range(count + 1):
                out[n + k] = points[base + (i + (k if forward[piece] else count - k)) % size]
            for k in range(1, count):
                chain_of[out[n + k]] = chains
            n += count + 1
            chains += 1
            out_offsets[chains] = n
    return out[:n], out_offsets[: chains + 1], chain_of


@inlined
def _farthest(x: Any, y: Any, chain: Any, i: int, j: int) -> Any:
    """The place between `i` and `j` that is farthest from the segment between them, and its squared distance."""
    ax, ay = x[i], y[i]
    dx, dy = x[j] - ax, y[j] - ay
    length = dx * dx + dy * dy
    far, best = i, -1.0
    for k in range(i + 1, j):
        px, py = x[k] - ax, y[k] - ay
        t = 0.0
        if length > 0.0:
            t = min(max((px * dx + py * dy) / length, 0.0), 1.0)
        px, py = px - t * dx, py - t * dy
        distance = px * px + py * py
        if distance > best or (distance == best and length == 0.0 and chain[k] < chain[far]):
            far, best = k, distance
    return far, best


@kernel
def thin(x: Any, y: Any, chains: Any, first: int, last: int, tolerance: float, stack: Any, keep: Any) -> None:
    """Mark what Douglas-Peucker keeps of the chain at places `first` to `last`; all of it if tolerance < 0.

    `x` and `y` are by place, as `chains` is; `keep` is by point.
    """
    for k in range(first + 1, last):
        keep[chains[k]] = tolerance < 0
    keep[chains[first]] = keep[chains[last]] = True
    if tolerance < 0:
        return
    depth, i, j = 0, first, last
    while True:
        far, distance = _farthest(x, y, chains, i, j)
        # A chain that ends where it began needs a second anchor, however small it is.
        if far > i and (distance > tolerance * tolerance or chains[i] == chains[j]):
            keep[chains[far]] = True
            stack[depth] = j
            depth += 1
            j = far
        elif depth > 0:
            i = j
            depth -= 1
            j = stack[depth]
        else:
            return


@kernel
def kept(x: Any, y: Any, points: Any, offsets: Any, tolerance: float) -> Any:
    """Which points stay. Chains in conflict try again with half their tolerance, then stay as they were."""
    junction = junctions(points, offsets, x.size)
    chains, chain_offsets, chain_of = _chains(points, offsets, junction)
    count = chain_offsets.size - 1
    keep, again, tries = np.zeros(x.size, np.bool_), np.ones(count, np.bool_), np.zeros(count, np.int64)
    stack, place_x, place_y = np.empty(chains.size + 2, np.int64), x[chains], y[chains]
    changed = np.empty(count, np.bool_)
    found = True
    while found:
        for chain in range(count):
            changed[chain] = again[chain]
            if again[chain]:
                limit = tolerance / 2.0 ** tries[chain] if tries[chain] < _TRIES else -1.0
                thin(place_x, place_y, chains, chain_offsets[chain], chain_offsets[chain + 1] - 1, limit, stack, keep)
                again[chain] = False
                tries[chain] += 1
        found = conflicts(x, y, chains, chain_offsets, keep, changed, again)
        for ring in range(offsets.size - 1):
            kept = 0
            for i in range(offsets[ring], offsets[ring + 1]):
                kept += keep[points[i]]
            if kept < 3:
                for i in range(offsets[ring], offsets[ring + 1]):
                    if not keep[points[i]]:
                        again[chain_of[points[i]]] = found = True
    return keep


@kernel
def _emit(x: Any, y: Any, points: Any, offsets: Any, keep: Any) -> Any:
    coords = np.empty((points.size + offsets.size, 2), np.float64)
    ring_offsets = np.zeros(offsets.size, np.int64)
    n = 0
    for ring in range(offsets.size - 1):
        first = n
        for i in range(offsets[ring], offsets[ring + 1]):
            if keep[points[i]]:
                coords[n, 0], coords[n, 1] = x[points[i]], y[points[i]]
                n += 1
        if n > first:
            coords[n, 0], coords[n, 1] = coords[first, 0], coords[first, 1]
            n += 1
        ring_offsets[ring + 1] = n
    return coords[:n], ring_offsets


def simplify(
    coords: NDArray[np.float64],
    ring_offsets: NDArray[np.int64],
    polygon_offsets: NDArray[np.int64],
    tolerance: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The same polygons with fewer vertices, none of the old ones farther than `tolerance` from the new line.

    All rings are simplified together, in the units of `coords`: an edge or chain that two rings share comes
    out the same in both, junctions stay, and corners of neighbours that lie on a straight horizontal or
    vertical edge become vertices of it. Every polygon and ring comes back, in order. Valid in, valid out,
    and no new overlaps: where that could break, a chain keeps more of its
    vertices, if need be all. `tolerance` 0 only removes
    vertices on straight lines. The result for a group of touching polygons depends on nothing but the
    group and what comes within the tolerance of it.
    """
    if not tolerance >= 0:
        raise ValueError("polygons to simplify need a tolerance of 0 or more")
    x, y, points, offsets = noded(coords, ring_offsets)
    keep = kept(x, y, points, offsets, float(tolerance))
    fewer, fewer_offsets = _emit(x, y, points, offsets, keep)
    return fewer, fewer_offsets, plain(polygon_offsets, np.int64).copy()
