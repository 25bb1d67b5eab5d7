"""The cadaster as a raster, drawn for the alignment network exactly as in its training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.ragged import ranges

OUTLINE, INSIDE = np.float32(1.0), np.float32(0.5)
"""Values on outlines and inside polygons; 0 elsewhere."""

MARGIN = 1024
"""Most pixels that are drawn beyond the raster. OpenCV shifts a line a little where it clips it; drawn on a
canvas that holds the whole polygon, a pixel does not know where the raster ends."""

NEAR = 2.0
"""px beyond the raster: a segment farther out cannot reach it, whatever is rounded."""

SHIFT = 4
"""Binary digits after the point that OpenCV draws with: vertices are rounded to a sixteenth of a pixel."""


def draw_cadaster(
    coords: NDArray[np.float64],
    ring_offsets: NDArray[np.int64],
    polygon_offsets: NDArray[np.int64],
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """Ragged polygons and lines (px, corner origin) as (height, width) float32: OUTLINE, INSIDE or 0.

    Holes stay holes (even-odd within a polygon); polygons are united. Outlines are one pixel wide. A single
    run that does not end where it begins is a line: its outline is drawn, and there is nothing inside.
    """
    import cv2

    starts, stops = ring_offsets[:-1], ring_offsets[1:]
    alone = polygon_offsets[:-1][np.diff(polygon_offsets) == 1]
    lines = alone[(coords[starts[alone]] != coords[stops[alone] - 1]).any(axis=1)]
    segments = _meeting(coords, starts[lines], stops[lines], shape)
    areal = np.ones(len(starts), dtype=bool)
    areal[lines] = False
    corners = coords[np.repeat(areal, stops - starts)] if len(lines) else coords
    reached = np.concatenate((corners, coords[segments].reshape(-1, 2)))

    beyond = 0.0 if len(reached) == 0 else max(-reached.min(), *(reached.max(axis=0) - shape[::-1]), 0.0)
    margin = min(MARGIN, int(np.ceil(beyond)) + 1)
    canvas = shape[0] + 2 * margin, shape[1] + 2 * margin
    # OpenCV's pixel centres lie at whole numbers, ours at halves.
    fixed = np.rint((coords + (margin - 0.5)) * (1 << SHIFT)).astype(np.int32)
    rings = [fixed[start:stop].reshape(-1, 1, 2) for start, stop in zip(starts, stops, strict=True)]
    fill = np.zeros(canvas, np.uint8)
    for first, last in zip(polygon_offsets[:-1], polygon_offsets[1:], strict=True):
        if areal[first]:
            cv2.fillPoly(fill, rings[first:last], 1, shift=SHIFT)  # one at a time: a union, not even-odd over all
    edge = np.zeros(canvas, np.uint8)
    cv2.polylines(edge, [ring for ring, closed in zip(rings, areal, strict=True) if closed], True, 1, shift=SHIFT)
    cv2.polylines(edge, list(fixed[segments].reshape(-1, 2, 1, 2)), False, 1, shift=SHIFT)
    inside = slice(margin, margin + shape[0]), slice(margin, margin + shape[1])
    return np.where(edge[inside] == 1, OUTLINE, fill[inside] * INSIDE)


def _meeting(
    coords: NDArray[np.float64], starts: NDArray[np.int64], stops: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Segments (m, 2), as places in `coords`, of runs [start, stop) whose boxes come near the raster.

    A road crosses a city, a window shows a bend of it: without the rest the canvas stays small.
    """
    begin = ranges(starts, stops - 1)
    low = np.minimum(coords[begin], coords[begin + 1])
    high = np.maximum(coords[begin], coords[begin + 1])
    near = (high > -NEAR).all(axis=1) & (low < np.add(shape[::-1], NEAR)).all(axis=1)
    return np.column_stack((begin[near], begin[near] + 1))


def mark_vertices(coords: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float32]:
    """(height, width) float32: 1 in the pixels where a vertex (n, 2; px, corner origin) falls, 0 elsewhere."""
    marks = np.zeros(shape, np.float32)
    column, row = np.floor(coords).astype(np.int64).T
    there = (column >= 0) & (row >= 0) & (column < shape[1]) & (row < shape[0])
    marks[row[there], column[there]] = 1.0
    return marks
