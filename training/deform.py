"""Synthetic misalignment as published: smooth fields of 30 signed Gaussians (Zampieri et al. 2018).

The field is always drawn over a canvas of 5 000 px of full resolution and the scene is cut out of it, so a
Gaussian's deviation is about 275 px whatever the scene's size: scaled to a small scene it would fold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CANVAS = 5000
"""Side of the canvas a field is drawn over, px of full resolution."""

STRIDE = 20
"""Distance of the field's stored samples, px; a fourteenth of a Gaussian's deviation."""


@dataclass(frozen=True, slots=True)
class GaussianField:
    """A displacement field in -1..1 per component: `samples (2, n, n)` float32 (dx, dy) each STRIDE px."""

    samples: NDArray[np.float32]

    def __call__(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bilinear values at canvas px `xy (..., 2)`, clamped at the border: (..., 2)."""
        last = self.samples.shape[1] - 1
        at = np.clip(np.asarray(xy) / STRIDE, 0, last - 1e-6)
        cell = at.astype(np.int64)
        x, y = cell[..., 0], cell[..., 1]
        u, v = (at - cell)[..., 0], (at - cell)[..., 1]
        s = self.samples
        top = s[:, y, x] * (1 - u) + s[:, y, x + 1] * u
        below = s[:, y + 1, x] * (1 - u) + s[:, y + 1, x + 1] * u
        return np.moveaxis(top * (1 - v) + below * v, 0, -1)


def gaussian_field(rng: np.random.Generator, gaussians: int = 30) -> GaussianField:
    """One published field: per component, signed Gaussians summed and stretched to -1..1.

    Means are uniform over the canvas; covariances are 0.002 x a random symmetric positive matrix
    (eigenvalues 1 to 2), in units of the canvas's side.
    """
    axis = np.arange(0, CANVAS + STRIDE, STRIDE, dtype=np.float32) / CANVAS
    samples = np.zeros((2, len(axis), len(axis)), np.float32)
    for component in samples:
        for _ in range(gaussians):
            x, y = axis[None, :] - np.float32(rng.random()), axis[:, None] - np.float32(rng.random())
            turn, stretch = rng.uniform(0, np.pi), 0.002 * (1 + rng.random(2))
            along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
            component += rng.choice((-1, 1)) * np.exp(-0.5 * (along**2 / stretch[0] + across**2 / stretch[1]))
        low, high = component.min(), component.max()
        component[:] = (component - low) / (high - low) * 2 - 1
    return GaussianField(samples)


def undo(
    true: NDArray[np.float64],
    displacement: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    iterations: int = 12,
) -> NDArray[np.float64]:
    """Places `old (n, 2)` with old + displacement(old) == true, by fixed point.

    Converges where the field's slope is below 1; published fields stay below 0.3.
    """
    old = true.copy()
    for _ in range(iterations):
        old = true - displacement(old)
    return old


def misalign(coords: NDArray[np.float64], largest: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Vertices (n, 2), px of full resolution, moved off by a published field of at most `largest` px.

    The scene is cut out of the canvas at random where it is smaller; beyond 5 000 px the field is mirrored.
    The true displacement at the returned places is `coords - misalign(coords)`.
    """
    field = gaussian_field(rng)
    low = coords.min(0) if len(coords) else np.zeros(2)
    room = np.maximum(CANVAS - (coords.max(0) - low if len(coords) else 0), 0)
    origin = rng.uniform(0, 1, 2) * room - low

    def displacement(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        folded = np.abs((xy + origin + CANVAS) % (2 * CANVAS) - CANVAS)
        return largest * field(folded)

    return undo(coords, displacement)
