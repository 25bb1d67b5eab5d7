"""Made-up mask scores for the splitter: smooth shapes, speckle, terraces, one roof over everything."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def blobs(shape: tuple[int, int], seed: int, spread: float = 4.0, cover: float = 0.5) -> np.ndarray:
    """Scores (2, h, w) of smooth random shapes with touching borders across them."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.normal(size=(2, *shape)), (0, spread, spread))
    ranks = smooth.reshape(2, -1).argsort(axis=1).argsort(axis=1).reshape(2, *shape) / smooth[0].size
    mask = np.clip((ranks[0] - (1 - cover)) * 400 + 127.5, 0, 255)
    touching = np.clip((ranks[1] - 0.8) * 2000, 0, 255)
    return np.stack([mask, touching]).astype(np.uint8)


def speckle(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, *shape), dtype=np.uint8)


def terraces(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Rows of houses with party walls, longer than any halo."""
    random = np.random.default_rng(seed)
    scores = np.zeros((2, *shape), np.uint8)
    for y in range(5, shape[0] - 12, 17):
        scores[0, y : y + 10, 3:-5] = random.integers(150, 256, (10, shape[1] - 8))
        for x in range(8 + int(random.integers(6)), shape[1] - 10, 11):
            scores[1, y : y + 10, x : x + 2] = 240
    return scores


def everything(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.stack([np.full(shape, 250, np.uint8), np.zeros(shape, np.uint8)])
