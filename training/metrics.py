"""How far vertices are from where they belong: the accuracy curve and its summary (Zampieri et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = (1.0, 2.0, 4.0, 8.0)
"""Distances, px, that a summary gives the share of vertices within."""


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
