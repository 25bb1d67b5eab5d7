"""Values known at scattered places, blended where they are asked for: Gaussian weights, a hard reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.kernels.jit import kernel

Floats = npt.NDArray[np.float64]


def blend(at: Floats, places: Floats, values: Floats, weights: Floats, sigma: float, reach: float) -> Floats:
    """Weighted means of `values` (n, k) at `places` (n, 2) around each of `at` (m, 2): (m, k + 1) float64.

    The weight of a place is its own of `weights` (n,) times exp(-d² / 2 sigma²), none beyond `reach`. The last
    column is the sum of weights; where it is 0 the means are 0. Sums run over places in order of their cell
    and then of their index, so a result depends on the places within reach and their order alone.
    """
    found = np.zeros((len(at), values.shape[1] + 1))
    if len(at) == 0 or len(places) == 0:
        return found
    cell = np.floor(places / reach).astype(np.int64)
    low, high = cell.min(axis=0), cell.max(axis=0)
    columns = int(high[0] - low[0] + 1)
    index = (cell[:, 1] - low[1]) * columns + cell[:, 0] - low[0]
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(columns * int(high[1] - low[1] + 1) + 1)).astype(np.int64)
    place, value, weight = (np.ascontiguousarray(array[order]) for array in (places, values, weights))
    _blend(np.ascontiguousarray(at), place, value, weight, starts, low, columns, sigma, reach, found)
    return found


@kernel
def _blend(
    at: Any, places: Any, values: Any, weights: Any, starts: Any, low: Any, columns: int, sigma: float, reach: float,
    found: Any,
) -> None:  # fmt: skip
    rows = (starts.shape[0] - 1) // columns
    for i in range(at.shape[0]):
        x, y = at[i, 0], at[i, 1]
        column, line = int(np.floor(x / reach)) - low[0], int(np.floor(y / reach)) - low[1]
        total = 0.0
        for r in range(max(line - 1, 0), min(line + 2, rows)):
            for c in range(max(column - 1, 0), min(column + 2, columns)):
                for j in range(starts[r * columns + c], starts[r * columns + c + 1]):
                    gap = (places[j, 0] - x) ** 2 + (places[j, 1] - y) ** 2
                    if gap > reach * reach:
                        continue
                    weight = weights[j] * np.exp(-0.5 * gap / (sigma * sigma))
                    total += weight
                    for k in range(values.shape[1]):
                        found[i, k] += weight * values[j, k]
        if total > 0.0:
            for k in range(values.shape[1]):
                found[i, k] /= total
        else:
            found[i, :] = 0.0
        found[i, values.shape[1]] = total
