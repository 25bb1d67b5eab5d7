"""A raster field at points between its pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.jit import kernel, plain


@kernel
def _bilinear(field: Any, xy: Any, out: Any) -> None:
    bands, height, width = field.shape
    for i in range(xy.shape[0]):
        x, y = xy[i, 0] - 0.5, xy[i, 1] - 0.5
        if x != x or y != y:
            for band in range(bands):
                out[i, band] = np.nan
            continue
        x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
        x0, y0 = int(x), int(y)
        x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
        fx, fy = x - x0, y - y0
        for band in range(bands):
            upper = field[band, y0, x0] * (1.0 - fx) + field[band, y0, x1] * fx
            lower = field[band, y1, x0] * (1.0 - fx) + field[band, y1, x1] * fx
            out[i, band] = upper * (1.0 - fy) + lower * fy


def bilinear(field: NDArray[np.float32], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, bands) float64: the (bands, height, width) `field` at the (n, 2) points `xy`.

    Points are in pixels of that raster, corner origin: pixel (row, column) lies at (column + 0.5,
    row + 0.5). Beyond the outermost centres the field goes on as it is there; a NaN point gives NaN.
    """
    field, xy = plain(field, np.float32), plain(xy, np.float64).reshape(-1, 2)
    if field.ndim != 3 or 0 in field.shape:
        raise ValueError(f"a field is (bands, height, width) with at least one pixel, not {field.shape}")
    out = np.empty((xy.shape[0], field.shape[0]), np.float64)
    _bilinear(field, xy, out)
    return out
