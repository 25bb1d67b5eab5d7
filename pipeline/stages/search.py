"""Evidence search: the polygons' outlines against the image's edges, agreed among neighbours.

The learned chain is at its best on small shifts, and a short training is not enough for large ones; outlines
matched against image gradients find those at once (measured against each other in docs/alignment.md). So the
chain starts with this: at a coarse level every footprint rates every shift of up to `reach` pixels by
the mean gradient across its outline, ratings are averaged over the neighbours (a field is smooth, a single
outline is easily fooled by its neighbour's roof), and the best shift wins. Two finer levels follow with
a shorter reach. Vertices move by the neighbours' shifts, weighted by distance: a field, sampled where they
are, so vertices that are shared stay shared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import LEVELS
from pipeline.kernels import edges, scatter

VERSION = 1
COARSE_M = 0.75
"""Metres: the coarsest GSD searched at. A house of 8 m then has outlines of ten pixels."""
REACH = 36
"""px of level 1: the largest shift that the first search looks for; published fields have 32."""
AGAIN = 6
"""px of its level: reach of the finer searches, two pixels of the level before and what was missed."""
SIGMAS_M = (20.0, 16.0, 8.0)
"""Standard deviation of the neighbours' weights, metres, from coarse to fine: measured on the training
block of banepa_np, where a field's own scale is 41 m."""
SIGMA_PX = 40.0
"""px of level 1: at least this, so that coarse images have neighbours too."""
CUT = 3.0
"""Standard deviations beyond which a neighbour has no say."""
SEEN = 256
"""px of level 1 beyond a block's own that its footprints' outlines are looked at: bounds what is read."""
BLUR = 0.8
"""Standard deviation, px of the level, of the smoothing before gradients."""
CLEAR_HALF, CLEAR_SCALE = 2.5, 0.6
"""Clearness of the peak (standard deviations) at which confidence is one half, and its slope."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Search:
    """One search: pyramid `factor`, reach (px of that level), sigma of the neighbours (px of level 1)."""

    factor: int
    reach: int
    sigma: float

    @property
    def name(self) -> str:
        """Name in arrays and receipts, e.g. `align-s4`."""
        return f"align-s{self.factor}"

    @property
    def source(self) -> str:
        """The phase that makes what the search's move is made from."""
        return f"{self.name}-search"

    @property
    def neighbourhood(self) -> float:
        """How far, px of level 1, a neighbour can be that has a say."""
        return CUT * self.sigma


def plan_searches(gsd: float) -> tuple[Search, ...]:
    """Searches from coarse to fine for a scene of `gsd` metres."""
    coarse = max((level for level in LEVELS if gsd * level <= COARSE_M), default=1)
    factors = [level for level in sorted(LEVELS, reverse=True) if level <= coarse][: len(SIGMAS_M)]
    reaches = [-(-REACH // factors[0]), *(AGAIN for _ in factors[1:])]
    return tuple(
        Search(factor, reach, max(sigma / gsd, SIGMA_PX))
        for factor, reach, sigma in zip(factors, reaches, SIGMAS_M, strict=False)
    )


def gradients(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gradients (bands, h, w) in x and y of a stretched image; none where nodata is near."""
    import cv2

    near = np.ones((9, 9), np.uint8)  # the reach of the smoothing (3 px) and of the gradient (1 px)
    solid = cv2.erode(valid.astype(np.uint8), near, borderValue=0).astype(np.float32)
    solid /= 32  # Scharr's weights for a gradient a pixel
    gx, gy = np.empty_like(image), np.empty_like(image)
    for band, pixels in enumerate(image):
        smooth = cv2.GaussianBlur(pixels, (0, 0), BLUR)
        np.multiply(cv2.Scharr(smooth, cv2.CV_32F, 1, 0), solid, out=gx[band])
        np.multiply(cv2.Scharr(smooth, cv2.CV_32F, 0, 1), solid, out=gy[band])
    return gx, gy


@dataclass(frozen=True, slots=True)
class Shifts:
    """What a search found for footprints: centre (n, 2) px of level 1, weight (n), shift (n, 2), confidence (n)."""

    centre: Float64
    weight: Float64
    shift: Float64
    confidence: Float64

    def table(self) -> Float64:
        """The columns side by side: (n, 6) float64."""
        return np.column_stack([self.centre, self.weight, self.shift, self.confidence])

    @classmethod
    def of(cls, table: Float64) -> Shifts:
        """From `table()`'s columns."""
        return cls(table[:, :2], table[:, 2], table[:, 3:5], table[:, 5])


def centres(xy: Float64, starts: NDArray[np.int64]) -> Float64:
    """Mean vertex of each run of vertices; `starts` (n + 1), no empty run."""
    if len(starts) < 2:
        return np.zeros((0, 2))
    return np.asarray(np.add.reduceat(xy, starts[:-1]) / np.diff(starts)[:, None])


def find_shifts(
    volume: NDArray[np.float32], length: Float64, centre: Float64, own: int, search: Search
) -> Shifts:
    """Shifts of the first `own` footprints, from all footprints' volumes (n, s, s) and outline lengths (n)."""
    neighbours, offsets, distance = near(centre, centre[:own], search.neighbourhood)
    weights = np.exp(-0.5 * (distance / search.sigma) ** 2) * length[neighbours]
    mixed = edges.mix(volume, neighbours, offsets, weights)
    found = edges.peaks(mixed, volume[:own])
    clear = 1.0 / (1.0 + np.exp(-(found[:, 2] - CLEAR_HALF) / CLEAR_SCALE))
    confidence = np.where(found[:, 2] > 0, clear * np.clip(found[:, 3], 0.0, 1.0), 0.0)
    return Shifts(centre[:own], np.where(found[:, 2] > 0, length[:own], 0.0), found[:, :2] * search.factor, confidence)


def near(
    points: Float64, around: Float64, radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Float64]:
    """Which of `points` (n, 2) lie within `radius` of each of `around` (m, 2).

    Returns indices one place after the other, ascending within each, offsets (m + 1), and distances.
    """
    from scipy.spatial import cKDTree

    if len(points) == 0 or len(around) == 0:
        return np.zeros(0, np.int64), np.zeros(len(around) + 1, np.int64), np.zeros(0)
    lists = cKDTree(points).query_ball_point(around, radius, return_sorted=True)
    counts = np.array([len(each) for each in lists], dtype=np.int64)
    indices = np.concatenate([np.asarray(each, dtype=np.int64) for each in lists])
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    gap = points[indices] - np.repeat(around, counts, axis=0)
    return indices, offsets, np.hypot(gap[:, 0], gap[:, 1])


def move(xy: Float64, shifts: Shifts, search: Search) -> tuple[Float64, Float64]:
    """Points (n, 2), px of level 1, moved by the neighbours' shifts; and the field's confidence there (n).

    A point without neighbours stays, with confidence 0.
    """
    values = np.column_stack([shifts.shift, shifts.confidence])
    means = scatter.blend(xy, shifts.centre, values, shifts.weight, search.sigma, search.neighbourhood)
    return xy + means[:, :2], means[:, 2]
