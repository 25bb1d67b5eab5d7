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

VERSION = 1
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
"""Blocks of polygons that are asked, evenly spread over the scene, and rows of all of them together."""


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


def ratings(tensor: NDArray[np.float32], outlines: Outlines, factor: int) -> tuple[NDArray[np.float64], float]:
    """Sum over one block's outlines (px of the raster) of what they say for each shift (s, s), and their px."""
    xy, ring_offsets = outlines
    rows = np.zeros(len(ring_offsets) - 1, np.int64)
    mean, length = edges.rate(tensor, xy, ring_offsets, rows, 1, -(-REACH // factor))
    return mean[0].astype(np.float64) * length[0], float(length[0])


def decide(rated: NDArray[np.float64], factor: int) -> Common:
    """The common shift from summed ratings (s, s), y first; none where it is small or not clearly better."""
    import cv2

    reach = rated.shape[0] // 2
    smooth = cv2.GaussianBlur(rated, (0, 0), max(SMEAR / factor, 0.5))
    smooth -= cv2.GaussianBlur(rated, (0, 0), SLOPE / factor)
    spread = float(smooth.std())
    if spread <= 1e-12:
        return Common(0.0, 0.0, 0.0, 0.0)
    score = (smooth - smooth.mean()) / spread
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    dy, dx = (int(row) - reach) * factor, (int(column) - reach) * factor
    axis = np.arange(-reach, reach + 1) * factor
    close = np.maximum(np.abs(axis)[:, None], np.abs(axis)[None, :]) <= NEAR
    best, near = float(score.max()), float(score[close].max())
    if max(abs(dx), abs(dy)) <= NEAR or best < SURE or best - near < CLEARER:
        return Common(0.0, 0.0, best, near)
    return Common(float(dx), float(dy), best, near)
