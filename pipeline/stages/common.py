"""The common shift: what a whole cadaster is off by, from a wrong datum or an oblique view, found first.

At a coarse level all outlines together rate every shift of up to REACH px of level 1. Local displacements smear
the answer, so it is smoothed before its peak is taken: a first guess that the searches make exact. It is used
only where it is larger than what the first search finds by itself and clearly better than anything that search
could reach; otherwise the cadaster starts where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import LEVELS
from pipeline.kernels import edges
from pipeline.stages.search import Outlines

VERSION = 2
PHASE, KEY = "align-common", "scene"
REACH = 100
"""px of level 1: the largest common shift that is looked for."""
COARSE_M = 1.0
"""Metres: the coarsest GSD at which many outlines together still tell."""
SMEAR, SLOPE = 3.0, 25.0
"""px of level 1: standard deviation of the smoothing over shifts, and of the slower changes that are taken away:
the density of a city's edges rises and falls over such distances, and says nothing of outlines."""
NEAR = 24.0
"""px of level 1: shifts that the first search finds by itself."""
SURE, CLEARER = 5.5, 1.0
"""Standard deviations that a common shift must stand above all shifts (the best of pure noise stays under 4), and
above the best of the near ones."""
BLOCKS, ROWS = 64, 1500
"""Most blocks of polygons that are asked, anywhere in the scene, and about as many rows of all of them together."""
FEWEST, AGREE = 20, 16.0
"""Rows below which nothing is common, and px of level 1 within which both halves of them must say the same."""


@dataclass(frozen=True, slots=True)
class Common:
    """The shift (px of level 1, x right, y down), and its clearness and that of the best near one."""

    dx: float
    dy: float
    clear: float
    near: float


def factor_of(gsd: float) -> int:
    """Pyramid level of the common search for a scene of `gsd` metres."""
    return max((level for level in LEVELS if gsd * level <= COARSE_M), default=1)


def ratings(
    tensor: NDArray[np.float32], outlines: Outlines, half: NDArray[np.int64], factor: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums over the outlines (px of the raster) of each half (`half` (rings,), 0 or 1) of what they say for each
    shift (2, s, s), and their px (2,)."""
    mean, length = edges.rate(tensor, *outlines, half, 2, -(-REACH // factor))
    return mean.astype(np.float64) * length[:, None, None], length


def decide(halves: NDArray[np.float64], rows: int, factor: int) -> Common:
    """The common shift from the summed ratings of two halves of `rows` rows (2, s, s), y first; none where it is
    small, not clearly better, or not what both halves say."""
    score = scores(halves.sum(axis=0), factor)
    if not score.any() or rows < FEWEST:
        return Common(0.0, 0.0, 0.0, 0.0)
    reach = score.shape[0] // 2
    (dx, dy), *each = (peak(one, factor) for one in (score, *(scores(half, factor) for half in halves)))
    agree = all(max(abs(x - dx), abs(y - dy)) <= AGREE for x, y in each)
    axis = np.arange(-reach, reach + 1) * factor
    close = np.maximum(np.abs(axis)[:, None], np.abs(axis)[None, :]) <= NEAR
    best, near = float(score.max()), float(score[close].max())
    if not agree or max(abs(dx), abs(dy)) <= NEAR or best < SURE or best - near < CLEARER:
        return Common(0.0, 0.0, best, near)
    return Common(float(dx), float(dy), best, near)


def scores(rated: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Ratings (s, s) smoothed, without their slow changes, in standard deviations; zero where they say nothing."""
    import cv2

    smooth = cv2.GaussianBlur(rated, (0, 0), max(SMEAR / factor, 0.5))
    smooth -= cv2.GaussianBlur(rated, (0, 0), SLOPE / factor)
    spread = float(smooth.std())
    return np.asarray((smooth - smooth.mean()) / spread if spread > 1e-12 else np.zeros_like(rated))


def peak(score: NDArray[np.float64], factor: int) -> tuple[int, int]:
    """The best shift (dx, dy), px of level 1."""
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    reach = score.shape[0] // 2
    return (int(column) - reach) * factor, (int(row) - reach) * factor
