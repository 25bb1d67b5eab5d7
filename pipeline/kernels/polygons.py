"""Ragged polygons as they are: some of them taken out, laid elsewhere; their areas and boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.jit import kernel, plain

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@kernel
def _offsets(ring_offsets: Any, polygon_offsets: Any, order: Any, polygons: Any) -> Any:
    """Rings of the chosen: fills `polygons`, their offsets into rings, and returns the rings' into vertices."""
    for k in range(order.size):
        polygons[k + 1] = polygons[k] + polygon_offsets[order[k] + 1] - polygon_offsets[order[k]]
    rings = np.empty(polygons[order.size] + 1, np.int64)
    rings[0] = n = 0
    for k in range(order.size):
        for ring in range(polygon_offsets[order[k]], polygon_offsets[order[k] + 1]):
            rings[n + 1] = rings[n] + ring_offsets[ring + 1] - ring_offsets[ring]
            n += 1
    return rings


@kernel
def _copy(coords: Any, ring_offsets: Any, polygon_offsets: Any, order: Any, out: Any) -> None:
    n = 0
    for k in range(order.size):
        first, last = ring_offsets[polygon_offsets[order[k]]], ring_offsets[polygon_offsets[order[k] + 1]]
        for i in range(first, last):
            out[n, 0], out[n, 1] = coords[i, 0], coords[i, 1]
            n += 1


def take(coords: Floats, ring_offsets: Ints, polygon_offsets: Ints, order: Ints) -> tuple[Floats, Ints, Ints]:
    """The polygons (k,) at `order`, as new ragged arrays: coords (n, 2), ring offsets, polygon offsets (k + 1)."""
    xy, rings = plain(coords, np.float64).reshape(-1, 2), plain(ring_offsets, np.int64)
    polygons, chosen = plain(polygon_offsets, np.int64), plain(order, np.int64)
    if chosen.size and not (chosen.min() >= 0 and chosen.max() < polygons.size - 1):
        raise IndexError(f"polygons {chosen.min()} to {chosen.max()} of {polygons.size - 1}")
    out_polygons = np.zeros(chosen.size + 1, np.int64)
    out_rings = _offsets(rings, polygons, chosen, out_polygons)
    out = np.empty((int(out_rings[-1]), 2), np.float64)
    _copy(xy, rings, polygons, chosen, out)
    return out, out_rings, out_polygons


@kernel
def _lay(coords: Any, ring_offsets: Any, polygon_offsets: Any, place: Any, out: Any) -> None:
    for polygon in range(place.size):
        n = place[polygon]
        for i in range(ring_offsets[polygon_offsets[polygon]], ring_offsets[polygon_offsets[polygon + 1]]):
            out[n, 0], out[n, 1] = coords[i, 0], coords[i, 1]
            n += 1


def lay(coords: Floats, ring_offsets: Ints, polygon_offsets: Ints, place: Ints, out: Floats) -> None:
    """Copy the vertices of polygon k to `out` (n, 2) float64 from row `place` (k,) on."""
    xy, rings = plain(coords, np.float64).reshape(-1, 2), plain(ring_offsets, np.int64)
    polygons, places = plain(polygon_offsets, np.int64), plain(place, np.int64)
    ends = places + np.diff(rings[polygons])
    if places.size and not (places.min() >= 0 and ends.max() <= len(out)):
        raise IndexError(f"vertices {places.min()} to {ends.max()} of {len(out)}")
    _lay(xy, rings, polygons, places, out)


@kernel
def _areas(coords: Any, ring_offsets: Any, polygon_offsets: Any, out: Any) -> None:
    """Around each ring's own first vertex: small numbers, so nothing is lost far from the scene's origin."""
    for polygon in range(out.size):
        for ring in range(polygon_offsets[polygon], polygon_offsets[polygon + 1]):
            first, last = ring_offsets[ring], ring_offsets[ring + 1]
            twice, ax, ay = 0.0, 0.0, 0.0
            for i in range(first + 1, last):
                bx, by = coords[i, 0] - coords[first, 0], coords[i, 1] - coords[first, 1]
                twice += ax * by - bx * ay
                ax, ay = bx, by
            area = abs(twice) / 2
            out[polygon] += area if ring == polygon_offsets[polygon] else -area


def areas(coords: Floats, ring_offsets: Ints, polygon_offsets: Ints) -> Floats:
    """Area (k,) of each polygon, holes taken off, in squared units of `coords` (shoelace; shells come first)."""
    polygons = plain(polygon_offsets, np.int64)
    out = np.zeros(polygons.size - 1)
    _areas(plain(coords, np.float64).reshape(-1, 2), plain(ring_offsets, np.int64), polygons, out)
    return out


@kernel
def _boxes(coords: Any, ring_offsets: Any, polygon_offsets: Any, out: Any) -> None:
    for polygon in range(out.shape[0]):
        x0, y0, x1, y1 = np.inf, np.inf, -np.inf, -np.inf
        for i in range(ring_offsets[polygon_offsets[polygon]], ring_offsets[polygon_offsets[polygon + 1]]):
            x0, x1 = min(x0, coords[i, 0]), max(x1, coords[i, 0])
            y0, y1 = min(y0, coords[i, 1]), max(y1, coords[i, 1])
        out[polygon, 0], out[polygon, 1], out[polygon, 2], out[polygon, 3] = x0, y0, x1, y1


def boxes(coords: Floats, ring_offsets: Ints, polygon_offsets: Ints) -> Floats:
    """xmin, ymin, xmax, ymax (k, 4) of each polygon; infinite and the wrong way round without a vertex."""
    polygons = plain(polygon_offsets, np.int64)
    out = np.empty((polygons.size - 1, 4))
    _boxes(plain(coords, np.float64).reshape(-1, 2), plain(ring_offsets, np.int64), polygons, out)
    return out


@kernel
def _move(coords: Any, ring_offsets: Any, polygon_offsets: Any, shift: Any) -> None:
    for polygon in range(shift.shape[0]):
        for i in range(ring_offsets[polygon_offsets[polygon]], ring_offsets[polygon_offsets[polygon + 1]]):
            coords[i, 0] += shift[polygon, 0]
            coords[i, 1] += shift[polygon, 1]


def move(coords: Floats, ring_offsets: Ints, polygon_offsets: Ints, shift: Floats) -> None:
    """Add to the vertices of each polygon its own `shift` (k, 2), in place."""
    if coords.dtype != np.float64 or not coords.flags.c_contiguous or not coords.flags.writeable:
        raise ValueError("vertices are moved in place: they must be writable, contiguous float64")
    _move(coords, plain(ring_offsets, np.int64), plain(polygon_offsets, np.int64), plain(shift, np.float64))
