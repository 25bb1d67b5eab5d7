"""The cadaster as a raster, drawn for the alignment network exactly as in its training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OUTLINE, INSIDE = np.float32(1.0), np.float32(0.5)
"""Values on outlines and inside polygons; 0 elsewhere."""

MARGIN = 1024
"""Most pixels that are drawn beyond the raster. OpenCV shifts a line a little where it clips it; drawn on a
canvas that holds the whole polygon, a pixel does not know where the raster ends."""

SHIFT = 4
"""Binary digits after the point that OpenCV draws with: vertices are rounded to a sixteenth of a pixel."""


def draw_cadaster(
    coords: NDArray[np.float64],
    ring_offsets: NDArray[np.int64],
    polygon_offsets: NDArray[np.int64],
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """Ragged polygons (px, corner origin) as (height, width) float32: OUTLINE, INSIDE or 0.

    Holes stay holes (even-odd within a polygon); polygons are united. Outlines are one pixel wide.
    """
    import cv2

    beyond = 0.0 if len(coords) == 0 else max(-coords.min(), *(coords.max(axis=0) - shape[::-1]), 0.0)
    margin = min(MARGIN, int(np.ceil(beyond)) + 1)
    canvas = shape[0] + 2 * margin, shape[1] + 2 * margin
    # OpenCV's pixel centres lie at whole numbers, ours at halves.
    fixed = np.rint((coords + (margin - 0.5)) * (1 << SHIFT)).astype(np.int32)
    rings = [
        fixed[start:stop].reshape(-1, 1, 2) for start, stop in zip(ring_offsets[:-1], ring_offsets[1:], strict=True)
    ]
    fill = np.zeros(canvas, np.uint8)
    for first, last in zip(polygon_offsets[:-1], polygon_offsets[1:], strict=True):
        cv2.fillPoly(fill, rings[first:last], 1, shift=SHIFT)  # one at a time: a union, not even-odd over all
    edge = np.zeros(canvas, np.uint8)
    cv2.polylines(edge, rings, True, 1, shift=SHIFT)
    inside = slice(margin, margin + shape[0]), slice(margin, margin + shape[1])
    return np.where(edge[inside] == 1, OUTLINE, fill[inside] * INSIDE)
