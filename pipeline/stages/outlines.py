"""Labels → outlines: traced to the pixel, then simplified with shared edges shared, component by component.

The simplifier leaves a chain as it was where simplifying it would touch anything else. That must not let a
component's outline depend on its neighbours, since another tile may not have read them. So components are
laid out in one row before they are simplified, where none can reach another:

    scene   [aa]  [b]        row   [aa].[b].[cccc]
              [cccc]

Coordinates are whole numbers and the row lies between two powers of two, where all float64 have one
spacing: sums round alike wherever in the row, or the scene, a component stands.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.buildings import Integers, Ragged, join_polygons, take_polygons
from pipeline.grid import Window
from pipeline.kernels import simplify, trace

Labels = npt.NDArray[np.int32]

ROW = 2**24
"""Where the row begins, px. It ends before 2 · ROW: a new one is begun every ROW / 2, and no component is
half as wide as that."""

GAP = 4
"""Pixels between components in the row; simplified lines stay inside the box of what they simplify."""


def trace_labels(labels: Labels, window: Window) -> tuple[Ragged, Integers]:
    """Polygons of a label raster (h, w) at `window`, px in the scene, and the label of each."""
    coords, ring_offsets, polygon_offsets, label = trace.trace(labels)
    origin = np.array([window.x0, window.y0], np.float64)
    return (coords + origin, ring_offsets, polygon_offsets), label.astype(np.int64)


def simplified(polygons: Ragged, group: Integers, tolerance: float) -> Ragged:
    """The polygons with fewer vertices, each group (k,) of them as if it were alone; in the given order."""
    if tolerance <= 0 or not group.size:
        return polygons
    order = np.argsort(group, kind="stable")
    coords, ring_offsets, polygon_offsets = take_polygons(polygons, order)
    ring_group = np.repeat(group[order], np.diff(polygon_offsets))
    starts = ring_offsets[:-1][np.flatnonzero(np.diff(ring_group, prepend=-1))]
    low, high = np.minimum.reduceat(coords, starts), np.maximum.reduceat(coords, starts)
    width = high[:, 0] - low[:, 0] + GAP
    place = np.cumsum(width) - width
    row, place = np.divmod(place, ROW // 2)
    shift = np.stack([ROW + place - low[:, 0], -low[:, 1]], axis=1)

    polygon_group = np.cumsum(np.diff(group[order], prepend=group[order[0]]) != 0)
    results = []
    for index in range(int(row[-1]) + 1):
        some = np.flatnonzero(row[polygon_group] == index)
        xy, rings, pieces = take_polygons((coords, ring_offsets, polygon_offsets), some)
        owner = _vertex_owner(polygon_group[some], rings, pieces)
        xy, rings, pieces = simplify.simplify(xy + shift[owner], rings, pieces, tolerance)
        results.append((xy - shift[_vertex_owner(polygon_group[some], rings, pieces)], rings, pieces))
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    return take_polygons(join_polygons(results), back)


def _vertex_owner(owner: Integers, ring_offsets: Integers, polygon_offsets: Integers) -> Integers:
    """Owner of each vertex, from that of each polygon."""
    return np.repeat(np.repeat(owner, np.diff(polygon_offsets)), np.diff(ring_offsets))
