"""Logistic regression, for the gates' and seats' chances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def logistic(columns: Array, answer: Array, weight: Array) -> Array:
    """Weights of a logistic regression, by Newton's method with a little shrinkage."""
    found = np.zeros(columns.shape[1])
    for _ in range(60):
        chance = 1 / (1 + np.exp(-columns @ found))
        bend = (columns * (weight * chance * (1 - chance))[:, None]).T @ columns + 0.01 * np.eye(len(found))
        found += np.linalg.solve(bend, columns.T @ (weight * (answer - chance)) - 0.01 * found)
    return found
