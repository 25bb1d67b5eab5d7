"""Levels between those of the pyramid: what a network sees where no level has the pixels that it was trained on.

Such a level is a number of eighths, so that the edges of its pixels are exact in binary. A pixel is the mean of the
area that it covers of the next finer level of the pyramid: along each axis of two pixels or more, each by its share.

    level 2     |     |     |     |     |     |     |
    level 3     |        |        |        |        |

That holds wherever a window starts, so a pixel is the same to the bit whichever tile reads it (DESIGN 2, invariant 1).
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import LEVELS, Window

Float32 = NDArray[np.float32]


def finer(level: float) -> int:
    """The level of the pyramid that a level between is made from."""
    return max(at for at in LEVELS if at <= level)


def source_window(window: Window, level: float) -> Window:
    """The pixels of the finer level that `averaged` needs for a window of `level`."""
    wide = level / finer(level)
    y0, x0 = floor(window.y0 * wide), floor(window.x0 * wide)
    y1, x1 = (floor((last - 1) * wide) + _taps(wide) for last in (window.y1, window.x1))
    return Window(y0, x0, y1 - y0, x1 - x0)


def _taps(wide: float) -> int:
    """How many pixels one that is `wide` pixels wide can touch along an axis."""
    return ceil(wide) + 1


def averaged(
    image: NDArray[np.generic], valid: NDArray[np.generic], inside: NDArray[np.generic], window: Window, level: float
) -> tuple[Float32, NDArray[np.uint8]]:
    """A window of `level` from the pixels of `source_window`: means (bands, h, w) float32 of the valid pixels, 0 where
    invalid, and validity (h, w) uint8, as the pyramid has it: at least half of the area inside the scene is valid.

    image   (bands, H, W), 0 where invalid
    valid   (H, W) 0/1
    inside  (H, W) 0/1, whether a pixel lies in the scene at all
    """
    wide = level / finer(level)
    count = _sums(valid.astype(np.float32), window, wide)
    good = (count > 0) & (2 * count >= _sums(inside.astype(np.float32), window, wide))
    means = np.zeros((len(image), window.height, window.width), np.float32)
    for band, mean in zip(image, means, strict=True):  # one by one: sums of all would hold the tile several times
        np.divide(_sums(band.astype(np.float32), window, wide), count, out=mean, where=good)
    return means, good.astype(np.uint8)


def _sums(plane: Float32, window: Window, wide: float) -> Float32:
    """Sums (h, w) of a plane over the areas of the window's pixels, in pixels of the finer level."""
    for axis, (start, count) in ((-2, (window.y0, window.height)), (-1, (window.x0, window.width))):
        edges = np.arange(start, start + count + 1) * wide
        first = np.floor(edges[:-1]).astype(np.int64)
        total = np.zeros((1, 1), np.float32)
        for tap in range(_taps(wide)):
            share = np.clip(np.minimum(edges[1:], first + tap + 1) - np.maximum(edges[:-1], first + tap), 0, 1)
            weight = share.astype(np.float32)[:, None] if axis == -2 else share.astype(np.float32)
            total = total + np.take(plane, first - first[0] + tap, axis=axis) * weight
        plane = total
    return plane
