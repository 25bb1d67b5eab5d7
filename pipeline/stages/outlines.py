"""Labels → outlines: traced to the pixel, simplified with shared edges shared, and still valid.

A simplifier that moves no shared edge apart may still let two lines of one outline cross where a building
is a pixel or two wide. That is rare, and checked: the mask component that it happens in keeps its traced
outlines, all of them, because its instances share edges. A component decides for itself, so the result
is the same whatever else is in the array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.buildings import Integers, Ragged, join_polygons, take_polygons
from pipeline.grid import Window
from pipeline.kernels import components, simplify, trace

Labels = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

MANY = 2_000
"""Segments of a polygon from which GEOS, which has an index, is asked at once."""


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _side(a: Any, b: Any, p: Any) -> float:
    """Twice the signed area of a triangle of points (2,): exact, the coordinates are whole numbers."""
    return float((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]))


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _meet(a: Any, b: Any, c: Any, d: Any) -> bool:
    """Whether segments ab and cd, whose boxes meet, share a point."""
    one, two = _side(a, b, c), _side(a, b, d)
    if (one > 0 and two > 0) or (one < 0 and two < 0):
        return False
    one, two = _side(c, d, a), _side(c, d, b)
    return not ((one > 0 and two > 0) or (one < 0 and two < 0))


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def suspicious(coords: Any, ring_offsets: Integers, polygon_offsets: Integers, many: int = MANY) -> Flags:
    """Polygons (k,) whose segments meet anywhere but at the ends of neighbours, or that are too long to look at.

    All invalid ones are among them, and valid ones with rings that touch.
    """
    flags = np.zeros(polygon_offsets.size - 1, np.bool_)
    for polygon in range(flags.size):
        rings = polygon_offsets[polygon], polygon_offsets[polygon + 1]
        first, last = ring_offsets[rings[0]], ring_offsets[rings[1]]
        n = last - first - (rings[1] - rings[0])
        if n > many:
            flags[polygon] = True
            continue
        start = np.empty(n, np.int64)  # vertex that a segment starts at
        after = np.empty(n, np.int64)  # the segment that follows it in its ring
        low = np.empty(n, np.float64)
        k = 0
        for ring in range(rings[0], rings[1]):
            opens, size = k, ring_offsets[ring + 1] - ring_offsets[ring] - 1
            if size < 3:
                flags[polygon] = True
            for vertex in range(ring_offsets[ring], ring_offsets[ring + 1] - 1):
                start[k] = vertex
                after[k] = opens + (k - opens + 1) % size
                low[k] = min(coords[vertex, 0], coords[vertex + 1, 0])
                k += 1
        order = np.argsort(low)
        for i in range(n):
            if flags[polygon]:
                break
            s = order[i]
            a, b = coords[start[s]], coords[start[s] + 1]
            high = max(a[0], b[0])
            for j in range(i + 1, n):
                t = order[j]
                if low[t] > high:
                    break
                c, d = coords[start[t]], coords[start[t] + 1]
                if min(c[1], d[1]) > max(a[1], b[1]) or max(c[1], d[1]) < min(a[1], b[1]):
                    continue
                if after[s] == t or after[t] == s:
                    # Neighbours share an end; they overlap only if the line turns back on itself.
                    back = (b[0] - a[0]) * (d[0] - c[0]) + (b[1] - a[1]) * (d[1] - c[1]) < 0
                    meets = back and _side(a, b, c) == 0 and _side(a, b, d) == 0
                else:
                    meets = _meet(a, b, c, d)
                if meets:
                    flags[polygon] = True
                    break
    return flags


def invalid(polygons: Ragged) -> Flags:
    """Which polygons (k,) are not valid in the sense of OGC."""
    flags = np.asarray(suspicious(*polygons))
    if not flags.any():
        return flags
    import shapely

    asked = np.flatnonzero(flags)
    coords, ring_offsets, polygon_offsets = take_polygons(polygons, asked)
    short = np.minimum.reduceat(np.diff(ring_offsets), polygon_offsets[:-1]) < 4
    flags[asked] = short
    rest = take_polygons((coords, ring_offsets, polygon_offsets), np.flatnonzero(~short))
    shapes = shapely.from_ragged_array(shapely.GeometryType.POLYGON, rest[0], rest[1:])
    flags[asked[~short]] = ~shapely.is_valid(shapes)
    return flags


def trace_labels(labels: Labels, window: Window) -> tuple[Ragged, Integers]:
    """Polygons of a label raster (h, w) at `window`, px in the scene, and the label of each."""
    coords, ring_offsets, polygon_offsets, label = trace.trace(labels)
    origin = np.array([window.x0, window.y0], np.float64)
    return (coords + origin, ring_offsets, polygon_offsets), label.astype(np.int64)


def simplified(polygons: Ragged, group: Integers, tolerance: float) -> Ragged:
    """The polygons with fewer vertices; those of a group (k,) in which one would become invalid stay."""
    if tolerance <= 0:
        return polygons
    done = simplify.simplify(*polygons, tolerance)
    broken = invalid(done)
    if not broken.any():
        return done
    stays = np.isin(group, group[broken])
    both = join_polygons([done, polygons])
    return take_polygons(both, np.arange(stays.size) + np.where(stays, stays.size, 0))


def outlines(labels: Labels, window: Window, tolerance: float) -> tuple[Ragged, Integers]:
    """Simplified polygons of a label raster at `window`, px in the scene, and the label of each.

    `labels` are whole components of the mask: what touches is in one group.
    """
    polygons, label = trace_labels(labels, window)
    if tolerance <= 0:
        return polygons, label
    done = simplify.simplify(*polygons, tolerance)
    broken = invalid(done)
    if broken.any():
        component, _ = components.label(labels > 0)
        # A polygon's topmost pixel row begins below the first of its topmost vertices.
        owner = np.zeros(int(label.max()) + 1, np.int64)
        owner[labels.reshape(-1)] = component.reshape(-1)
        group = owner[label]
        stays = np.isin(group, group[broken])
        both = join_polygons([done, polygons])
        done = take_polygons(both, np.arange(stays.size) + np.where(stays, stays.size, 0))
    return done, label
