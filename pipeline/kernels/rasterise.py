"""Polygons and outlines onto pixels, to the pixel as GDAL burns them (all_touched off).

Coordinates are in pixels of the target raster: (0, 0) is the outer corner of the first pixel, centres lie
at +0.5. What is left of a polygon outside the raster is ignored, at no cost for far-away parts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.components import span
from pipeline.kernels.jit import kernel, plain

_FEW = 24
_FAR = 2.0**30


@kernel
def _column(x: float, width: int) -> Any:
    """First column whose centre lies at or right of `x` (left of it for ties at .5), within 0..width."""
    t = np.floor(x + 0.5)
    if not t > 0.0:
        return 0
    return width if t >= width else int(t)


@kernel
def _row(y: float, height: int) -> Any:
    """First row whose centre lies at or below `y`, within 0..height."""
    t = np.ceil(y - 0.5)
    if not t > 0.0:
        return 0
    return height if t >= height else int(t)


@kernel
def _fill(coords: Any, ring_offsets: Any, polygon_offsets: Any, out: Any) -> None:
    """Even-odd scanlines, one polygon after another.

    A row is crossed by an edge when its centre lies in [lower y, upper y) of it; the crossing is rounded
    to a column by floor(x + 0.5), and every second span between crossings is burnt. Horizontal edges
    cross nothing.
    """
    height, width = out.shape
    heads = np.zeros(height + 2, np.int64)
    crossings = np.empty(256, np.int32)
    flips = np.zeros(width + 1, np.uint8)
    for polygon in range(polygon_offsets.size - 1):
        top, bottom, total = height, 0, 0
        for step in range(2):
            for ring in range(polygon_offsets[polygon], polygon_offsets[polygon + 1]):
                first, last = ring_offsets[ring], ring_offsets[ring + 1]
                for i in range(first, last):
                    j = i - 1 if i > first else last - 1
                    x1, y1, x2, y2 = coords[j, 0], coords[j, 1], coords[i, 0], coords[i, 1]
                    if y1 > y2:
                        x1, y1, x2, y2 = x2, y2, x1, y1
                    begin, end = _row(y1, height), _row(y2, height)
                    if step == 0:
                        if begin < end:
                            top, bottom = min(top, begin), max(bottom, end)
                            total += end - begin
                            for row in range(begin, end):
                                heads[row] += 1
                    else:
                        for row in range(begin, end):
                            cut = (row + 0.5 - y1) * (x2 - x1) / (y2 - y1) + x1
                            crossings[heads[row]] = _column(cut, width)
                            heads[row] += 1
            if step == 0:
                if total > crossings.size:
                    crossings = np.empty(2 * total, np.int32)
                start = 0
                for row in range(top, bottom):
                    count = heads[row]
                    heads[row] = start
                    start += count
        start = 0
        for row in range(top, bottom):
            end = heads[row]
            heads[row] = 0
            if end - start > _FEW:
                # Many crossings: the parity of those to the left, instead of sorting them.
                low, high = width, 0
                for i in range(start, end):
                    flips[crossings[i]] ^= 1
                    low, high = min(low, crossings[i]), max(high, crossings[i])
                inside = np.uint8(0)
                for x in range(low, high):
                    inside ^= flips[x]
                    flips[x] = 0
                    out[row, x] |= inside
                flips[high] = 0
            else:
                for i in range(start + 1, end):
                    value, j = crossings[i], i
                    while j > start and crossings[j - 1] > value:
                        crossings[j] = crossings[j - 1]
                        j -= 1
                    crossings[j] = value
                for i in range(start, end - 1, 2):
                    span(out[row], crossings[i], crossings[i + 1], 1)
            start = end


def fill(
    coords: NDArray[np.float64],
    ring_offsets: NDArray[np.int64],
    polygon_offsets: NDArray[np.int64],
    shape: tuple[int, int],
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """(height, width) uint8: 1 where a pixel's centre lies in a polygon, holes left out.

    Even-odd within each polygon, union over the polygons. A centre exactly on an edge belongs to what lies
    right of the edge, or below it where it is horizontal, so that neighbours share no pixel and leave none
    between them. Equal to `rasterio.features.rasterize` of the same coordinates, but for one tie: GDAL also
    burns the upper edge of a hole that runs exactly along a row of centres, and loses the partition there.
    `out`, where given, is burnt into, whatever it holds already.
    """
    if out is None:
        out = np.zeros(shape, np.uint8)
    usable = out.dtype == np.uint8 and out.flags.c_contiguous and out.flags.writeable
    if out.shape != tuple(shape) or not usable:
        raise ValueError(f"out must be writable, contiguous uint8 of shape {shape}, not {out.dtype} {out.shape}")
    _fill(_points(coords), plain(ring_offsets, np.int64), plain(polygon_offsets, np.int64), out)
    return out


@kernel
def _outline(coords: Any, ring_offsets: Any, out: Any) -> None:
    height, width = out.shape
    for ring in range(ring_offsets.size - 1):
        for i in range(ring_offsets[ring] + 1, ring_offsets[ring + 1]):
            xa, ya, xb, yb = coords[i - 1, 0], coords[i - 1, 1], coords[i, 0], coords[i, 1]
            if not (abs(xa) < _FAR and abs(ya) < _FAR and abs(xb) < _FAR and abs(yb) < _FAR):
                continue
            x, y = int(np.floor(xa)), int(np.floor(ya))
            dx, dy = int(np.floor(xb)) - x, int(np.floor(yb)) - y
            # Bresenham along the longer axis: (a, da) are its place and steps, (b, db) the other's.
            steep = abs(dy) > abs(dx)
            a, b, da, db = (y, x, dy, dx) if steep else (x, y, dx, dy)
            size = height if steep else width
            step, side = (1 if da >= 0 else -1), (1 if db >= 0 else -1)
            da, db = abs(da), abs(db)
            first = max(0, -a if step > 0 else a - (size - 1))
            last = min(da, size - 1 - a if step > 0 else a)
            for k in range(first, last + 1):
                m = 0 if da == 0 else (2 * k * db + da) // (2 * da)
                p, q = a + step * k, b + side * m
                row, column = (p, q) if steep else (q, p)
                if 0 <= row < height and 0 <= column < width:
                    out[row, column] = 1


def outline(
    coords: NDArray[np.float64], ring_offsets: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """(height, width) uint8: 1 on the one-pixel line through each ring's vertices.

    Between the pixels that hold two vertices runs Bresenham's line, half steps taken: equal to
    `rasterio.features.rasterize` of the rings as lines. Edges with an end beyond 2^30 px are left out.
    """
    out = np.zeros(shape, np.uint8)
    _outline(_points(coords), plain(ring_offsets, np.int64), out)
    return out


def _points(coords: NDArray[np.float64]) -> NDArray[np.float64]:
    return plain(coords, np.float64).reshape(-1, 2)
