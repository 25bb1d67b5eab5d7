"""Lines as strips of pixels, and which way across each strip lies: exact for every window, however long a line."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.kernels.jit import kernel

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def strips(coords: Floats, offsets: Ints, shape: tuple[int, int], width: float) -> npt.NDArray[np.float32]:
    """Runs of vertices drawn `width` px wide on (height, width) px: (4, h, w) float32.

    `coords` (n, 2) px, corner origin; run k is coords[offsets[k]:offsets[k + 1]]. Band 0 is 1 where a pixel's
    centre lies within half a width of a segment, else 0. Bands 1 to 3 are xx, xy, yy of the normals there: the
    mean of n nᵀ over the segments that cover the pixel, trace 1, so (1, 0, 0) on a line up the image and half
    the identity where two cross at right angles. A pixel depends on the segments near it and their order alone.
    """
    out = np.zeros((4, *shape), np.float32)
    _strips(np.ascontiguousarray(coords, np.float64), np.asarray(offsets, np.int64), width / 2, out)
    return out


@kernel
def _strips(coords: Any, offsets: Any, half: float, out: Any) -> None:
    height, width = out.shape[1], out.shape[2]
    for run in range(offsets.shape[0] - 1):
        for k in range(offsets[run], offsets[run + 1] - 1):
            ax, ay = coords[k, 0] - 0.5, coords[k, 1] - 0.5  # pixel centres at whole numbers
            dx, dy = coords[k + 1, 0] - coords[k, 0], coords[k + 1, 1] - coords[k, 1]
            square = dx * dx + dy * dy
            if square <= 0.0:
                continue
            long = np.sqrt(square)
            nx, ny = -dy / long, dx / long
            flat = abs(dx) >= abs(dy)
            # along the longer axis, and across it as far as the strip reaches there
            start, end = (ax, ax + dx) if flat else (ay, ay + dy)
            size, other = (width, height) if flat else (height, width)
            if end < start:
                start, end = end, start
            reach = half * long / max(abs(dx), abs(dy)) + half
            first, last = max(int(np.ceil(start - half)), 0), min(int(np.floor(end + half)), size - 1)
            for i in range(first, last + 1):
                share = (i - (ax if flat else ay)) / (dx if flat else dy)
                middle = (ay + share * dy) if flat else (ax + share * dx)
                low, high = max(int(np.ceil(middle - reach)), 0), min(int(np.floor(middle + reach)), other - 1)
                for j in range(low, high + 1):
                    x, y = (i, j) if flat else (j, i)
                    t = ((x - ax) * dx + (y - ay) * dy) / square
                    t = min(max(t, 0.0), 1.0)
                    gap = (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2
                    if gap <= half * half:
                        out[0, y, x] = 1.0
                        out[1, y, x] += nx * nx
                        out[2, y, x] += nx * ny
                        out[3, y, x] += ny * ny
    for y in range(height):
        for x in range(width):
            trace = out[1, y, x] + out[3, y, x]
            if trace > 0.0:
                for band in range(1, 4):
                    out[band, y, x] /= trace
