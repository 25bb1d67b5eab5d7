"""Rings as numbers of points: equal vertices are one point, and what lies on a level or upright edge is on it.

Points are numbered by x, then y, so that those on an upright edge are the numbers between its ends; the same goes
for level edges by the rank in the order by y, then x. Whole coordinates, which a tracer gives, are put in order by
counting; others are compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.components import grown
from pipeline.kernels.jit import kernel, plain

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FAR = 2.0**30


@kernel
def _extent(points: Any) -> Any:
    """x0, y0, x1, y1 of points (n, 2), and whether all coordinates are whole and within ±_FAR."""
    x0, y0, x1, y1, whole = np.inf, np.inf, -np.inf, -np.inf, True
    for i in range(points.shape[0]):
        x, y = points[i, 0], points[i, 1]
        x0, x1 = (x if x < x0 else x0), (x if x > x1 else x1)
        y0, y1 = (y if y < y0 else y0), (y if y > y1 else y1)
        whole &= np.floor(x) == x and np.floor(y) == y
    return x0, y0, x1, y1, whole and max(abs(x0), abs(x1), abs(y0), abs(y1)) < _FAR


@kernel
def _keys(points: Any, axis: int, low: float) -> Any:
    out = np.empty(points.shape[0], np.int32)
    for i in range(out.size):
        out[i] = points[i, axis] - low
    return out


@kernel
def _counted(keys: Any, size: int, order: Any) -> Any:
    """The `order` sorted by `keys`, all under `size`; equals keep their order."""
    heads = np.zeros(size + 1, np.int32)
    for i in range(keys.size):
        heads[keys[i] + 1] += 1
    for key in range(size):
        heads[key + 1] += heads[key]
    out = np.empty(order.size, np.int32)
    for k in range(order.size):
        key = keys[order[k]]
        out[heads[key]] = order[k]
        heads[key] += 1
    return out


@kernel
def _numbered(points: Any, order: Any) -> Any:
    """x, y of the different points in `order`, and the number of each point (n,)."""
    x, y = np.empty(order.size, np.float64), np.empty(order.size, np.float64)
    ids = np.empty(order.size, np.int64)
    n = 0
    for k in range(order.size):
        px, py = points[order[k], 0], points[order[k], 1]
        if n == 0 or x[n - 1] != px or y[n - 1] != py:
            x[n], y[n] = px, py
            n += 1
        ids[order[k]] = n - 1
    return x[:n].copy(), y[:n].copy(), ids


@kernel
def _inverse(order: Any) -> Any:
    out = np.empty(order.size, np.int64)
    for k in range(order.size):
        out[order[k]] = k
    return out


def _ordered(points: Floats) -> tuple[Floats, Floats, Ints, NDArray[Any]]:
    """x, y of the different points by x, then y; the number of each point; and the numbers by y, then x."""
    x0, y0, x1, y1, whole = _extent(points)
    if whole and max(x1 - x0, y1 - y0) < 65_536 + 8 * len(points) and len(points) < 2**31:
        columns, rows = int(x1 - x0) + 1, int(y1 - y0) + 1
        order = _counted(_keys(points, 1, y0), rows, np.arange(len(points), dtype=np.int32))
        x, y, ids = _numbered(points, _counted(_keys(points, 0, x0), columns, order))
        return x, y, ids, _counted(_keys(y[:, None], 0, y0), rows, np.arange(y.size, dtype=np.int32))
    if not np.isfinite(points).all():
        raise ValueError("polygons to simplify need finite coordinates")
    x, y, ids = _numbered(points, np.lexsort((points[:, 1], points[:, 0])).astype(np.int32))
    return x, y, ids, np.lexsort((x, y)).astype(np.int32)


@kernel
def _node(ids: Any, ring_offsets: Any, x: Any, y: Any, by_y: Any, rank_y: Any, out: Any, out_offsets: Any) -> Any:
    """Rings as point numbers, not closed, without repeats, with the points that lie on level or upright edges.

    `out` grows as needed and is returned.
    """
    n = 0
    for ring in range(ring_offsets.size - 1):
        for i in range(ring_offsets[ring], ring_offsets[ring + 1] - 1):
            p, q = ids[i], ids[i + 1]
            if p == q:
                continue
            between = 0
            if x[p] == x[q]:
                between = abs(q - p) - 1
            elif y[p] == y[q]:
                between = abs(rank_y[q] - rank_y[p]) - 1
            if n + between >= out.size:
                out = grown(out, 2 * (n + between) + 16)
            out[n] = p
            step = 1 if q > p else -1
            if x[p] == x[q]:
                for k in range(1, between + 1):
                    out[n + k] = p + step * k
            else:
                for k in range(1, between + 1):
                    out[n + k] = by_y[rank_y[p] + step * k]
            n += 1 + between
        out_offsets[ring + 1] = n
    return out[:n]


def noded(coords: Floats, ring_offsets: Ints) -> tuple[Floats, Floats, Ints, Ints]:
    """Rings as point numbers: x, y (n,) by number, the rings' points, not closed, and where each ring begins."""
    points, rings = plain(coords, np.float64).reshape(-1, 2), plain(ring_offsets, np.int64)
    x, y, ids, by_y = _ordered(points)
    offsets = np.zeros(rings.size, np.int64)
    numbers = _node(ids, rings, x, y, by_y, _inverse(by_y), np.empty(len(points), np.int64), offsets)
    return x, y, numbers, offsets
