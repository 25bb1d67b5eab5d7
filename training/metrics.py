"""How far vertices are from where they belong: the accuracy curve and its summary (Zampieri et al. 2018), and how
well a confidence foretells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = (1.0, 2.0, 4.0, 8.0)
"""Distances, px, that a summary gives the share of vertices within."""

CURVE = tuple(0.25 * 2 ** (step / 4) for step in range(29))
"""Distances, px, at which an accuracy curve is given: 0.25 to 32, four an octave."""


def vertex_errors(placed: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of every vertex from its true place, px: two (n, 2) -> (n,)."""
    if placed.shape != true.shape:
        raise ValueError(f"{placed.shape} vertices placed, {true.shape} true ones: must be the same, in order")
    return np.asarray(np.hypot(*(placed - true).T))


def accuracy_curve(errors: NDArray[np.float64], thresholds: Sequence[float]) -> NDArray[np.float64]:
    """Share of vertices with error <= each threshold; NaN errors count as misses. (len(thresholds),)."""
    ordered = np.sort(errors[~np.isnan(errors)])
    return np.searchsorted(ordered, np.asarray(thresholds), side="right") / max(len(errors), 1)


def summary(errors: NDArray[np.float64]) -> dict[str, float]:
    """mean, median (px) and the shares within 1, 2, 4, 8 px ('within_1', ...); all NaN without vertices."""
    if len(errors) == 0:
        return {name: float("nan") for name in ("mean", "median", *(f"within_{t:g}" for t in THRESHOLDS))}
    shares = accuracy_curve(errors, THRESHOLDS)
    return {
        "mean": float(np.nanmean(errors)),
        "median": float(np.nanmedian(errors)),
        **{f"within_{t:g}": float(share) for t, share in zip(THRESHOLDS, shares, strict=True)},
    }


def polygon_means(errors: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean error of each polygon's vertices: (v,) errors, the polygons' one after the other, and the numbers of
    vertices (n,) -> (n,). NaN where a polygon has no vertex, or one of its errors is NaN. Raises ValueError."""
    if counts.sum() != len(errors):
        raise ValueError(f"{len(errors)} errors for {counts.sum()} vertices: one a vertex is needed")
    owner = np.repeat(np.arange(len(counts)), counts)
    sums = np.bincount(owner, errors, len(counts))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


@dataclass(frozen=True, slots=True)
class ConfidenceBin:
    """Polygons of like confidence: their number, mean confidence, and the share that lies within the tolerance."""

    count: int
    confidence: float
    share_within: float


def reliability(
    confidence: NDArray[np.float64], errors: NDArray[np.float64], *, within: float, bins: int = 10
) -> list[ConfidenceBin]:
    """What a confidence is worth: polygons in up to `bins` groups of about equal number, the least confident first.

    `confidence` (n,), finite, and `errors` (n,), px, one a polygon; NaN errors do not lie within. Edges are quantiles;
    equal confidences are never parted, so that no order of the rows matters: fewer bins where many are equal.
    """
    if len(confidence) == 0:
        return []
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)))
    owner = np.searchsorted(edges[1:-1], confidence, side="right")
    groups = [owner == each for each in np.unique(owner)]
    return [
        ConfidenceBin(int(own.sum()), float(confidence[own].mean()), float((errors[own] <= within).mean()))
        for own in groups
    ]


def more_confident(confidence: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The more confident half of (n,) finite confidences, as a mask (n,).

    Those at the median are all in it or all not, whichever comes nearer to a half.
    """
    if len(confidence) == 0:
        return np.zeros(0, bool)
    middle = np.median(confidence)
    with_middle, without = confidence >= middle, confidence > middle
    nearer = abs(2 * with_middle.sum() - len(confidence)) <= abs(2 * without.sum() - len(confidence))
    return np.asarray(with_middle if nearer else without)
