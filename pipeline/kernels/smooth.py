"""Gaussian smoothing whose result at a pixel does not depend on where the array was cut."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.jit import kernel, plain


@kernel
def _gaussian(field: Any, taps: Any, out: Any) -> None:
    """Columns first, then rows; each pixel sums centre, then the pairs at distance 1, 2, …, radius.

    Zeros outside the array stand in for missing rows and columns, so that a pixel's sum has the same terms
    in the same order wherever the array ends.
    """
    bands, height, width = field.shape
    radius = taps.size - 1
    line = np.zeros(width + 2 * radius, np.float32)
    nothing = np.zeros(width, np.float32)
    for band in range(bands):
        for y in range(height):
            middle = line[radius : radius + width]
            for x in range(width):
                middle[x] = field[band, y, x] * taps[0]
            for k in range(1, radius + 1):
                above = field[band, y - k] if y - k >= 0 else nothing
                below = field[band, y + k] if y + k < height else nothing
                for x in range(width):
                    middle[x] += (above[x] + below[x]) * taps[k]
            row = out[band, y]
            for x in range(width):
                row[x] = middle[x] * taps[0]
            for k in range(1, radius + 1):
                left, right = line[radius - k : radius - k + width], line[radius + k : radius + k + width]
                for x in range(width):
                    row[x] += (left[x] + right[x]) * taps[k]


def gaussian(field: NDArray[np.float32], sigma: float, radius: int) -> NDArray[np.float32]:
    """(bands, height, width) float32: `field` under a Gaussian of `sigma` px cut at `radius` px.

    Separable and normalised over the cut window; outside the array is zero, so weights do not sum to one
    within `radius` of its edge. Cropping the input with a margin of `radius` leaves the inside bit-equal.
    """
    field = plain(field, np.float32)
    if sigma <= 0 or radius < 0:
        raise ValueError(f"a Gaussian needs sigma > 0 and radius >= 0, not {sigma} and {radius}")
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    taps = (weights / (weights[0] + 2 * weights[1:].sum())).astype(np.float32)
    out = np.empty_like(field)
    _gaussian(field, taps, out)
    return out
