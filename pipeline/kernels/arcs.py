"""Rings as a planar graph: arcs between junctions, each once, and the rings as walks along them.

An arc runs from junction to junction, or around a ring that has none. It lies between two faces: the polygon
that walks along it forwards has it on the one side, the one that walks back on the other; -1 is the ground.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.jit import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Arcs(NamedTuple):
    """The graph of n points, a arcs, r rings; a tuple, so that kernels take it as it is.

    Junctions' ends are ragged: end 2 · arc is where the arc begins, 2 · arc + 1 where it ends.
    """

    x: Floats  # (n,)
    y: Floats  # (n,)
    points: Ints  # points of every arc, both ends included; a ring without junctions ends where it began
    offsets: Ints  # (a + 1,)
    closed: Flags  # (a,) rings without junctions
    face: Ints  # (a, 2) polygon that walks it forwards, backwards; -1: none
    walk: Ints  # arcs of every ring in turn, as end to start from: 2 · arc forwards, 2 · arc + 1 backwards
    walk_offsets: Ints  # (r + 1,)
    polygon_offsets: Ints  # (k + 1,) into rings
    ends: Ints  # ends at every junction
    end_offsets: Ints  # (n + 1,) by point; empty for points that are no junction


@kernel
def junctions(points: Any, offsets: Any, count: int) -> Any:
    """Whether a point has other than two different neighbours over all rings."""
    first, second = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    junction = np.zeros(count, np.bool_)
    for ring in range(offsets.size - 1):
        size = offsets[ring + 1] - offsets[ring]
        for i in range(size):
            p = points[offsets[ring] + i]
            for step in (1, size - 1):
                q = points[offsets[ring] + (i + step) % size]
                if first[p] < 0 or first[p] == q:
                    first[p] = q
                elif second[p] < 0 or second[p] == q:
                    second[p] = q
                else:
                    junction[p] = True
    for p in range(count):
        junction[p] |= second[p] < 0
    return junction


@kernel
def pieces(points: Any, offsets: Any, junction: Any) -> Any:
    """Each ring cut at junctions: pieces of a ring, first place, edges, whether forwards, and a key for its arc.

    An arc runs from its smaller end, a ring without junctions from its smallest point, so that neither the
    order of the rings nor their direction matters. Its first edge is the key.
    """
    place, edges = np.empty(points.size, np.int64), np.empty(points.size, np.int64)
    forward, key = np.empty(points.size, np.bool_), np.empty(points.size, np.int64)
    piece_offsets = np.zeros(offsets.size, np.int64)
    n = 0
    for ring in range(offsets.size - 1):
        base, size = offsets[ring], offsets[ring + 1] - offsets[ring]
        start, smallest = -1, 0
        for i in range(size):
            if junction[points[base + i]] and start < 0:
                start = i
            if points[base + i] < points[base + smallest]:
                smallest = i
        start = smallest if start < 0 else start
        i = start
        while i < start + size:
            j = i + 1
            while j < start + size and not junction[points[base + j % size]]:
                j += 1
            a, b = points[base + i % size], points[base + j % size]
            after_a, before_b = points[base + (i + 1) % size], points[base + (j - 1) % size]
            ahead = a < b or (a == b and after_a <= before_b)
            place[n], edges[n], forward[n] = i, j - i, ahead
            key[n] = a * junction.size + after_a if ahead else b * junction.size + before_b
            n += 1
            i = j
        piece_offsets[ring + 1] = n
    return place[:n], edges[:n], forward[:n], key[:n], piece_offsets


@kernel
def _lay(points: Any, offsets: Any, ring_of: Any, place: Any, edges: Any, forward: Any) -> Any:
    """The points of arcs, each given by one of its pieces, and where each begins."""
    out_offsets = np.zeros(place.size + 1, np.int64)
    for arc in range(place.size):
        out_offsets[arc + 1] = out_offsets[arc] + edges[arc] + 1
    out = np.empty(out_offsets[-1], np.int64)
    for arc in range(place.size):
        base, size = offsets[ring_of[arc]], offsets[ring_of[arc] + 1] - offsets[ring_of[arc]]
        for k in range(edges[arc] + 1):
            step = k if forward[arc] else edges[arc] - k
            out[out_offsets[arc] + k] = points[base + (place[arc] + step) % size]
    return out, out_offsets


def arcs_of(x: Floats, y: Floats, points: Ints, offsets: Ints, polygon_offsets: Ints) -> Arcs:
    """The graph of noded rings: `points` numbers into `x`, `y`, not closed, ring by ring (see `nodes.noded`)."""
    junction = junctions(points, offsets, x.size)
    place, edges, forward, key, walk_offsets = pieces(points, offsets, junction)
    ring_of = np.repeat(np.arange(offsets.size - 1), np.diff(walk_offsets))
    _, one, arc = np.unique(key, return_index=True, return_inverse=True)
    laid, laid_offsets = _lay(points, offsets, ring_of[one], place[one], edges[one], forward[one])
    polygon = np.repeat(np.arange(polygon_offsets.size - 1), np.diff(polygon_offsets))[ring_of]
    face = np.full((one.size, 2), -1, np.int64)
    face[arc, np.where(forward, 0, 1)] = polygon
    begin, end = laid[laid_offsets[:-1]], laid[laid_offsets[1:] - 1]
    closed = ~junction[begin]
    at = np.where(np.repeat(closed, 2), -1, np.stack([begin, end], axis=1).reshape(-1))
    ends = np.argsort(at, kind="stable")
    ends = ends[np.count_nonzero(at < 0) :]
    counts = np.bincount(at[ends], minlength=x.size)
    end_offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    walk = 2 * arc.reshape(-1).astype(np.int64) + np.where(forward, 0, 1)
    return Arcs(x, y, laid, laid_offsets, closed, face, walk, walk_offsets, polygon_offsets, ends, end_offsets)
