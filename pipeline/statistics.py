"""Statistics of a whole scene, in strips: nothing here holds more than a strip of one level.

Percentiles equal numpy's over all pixels at once: integers of up to 16 bits are counted in one histogram;
other types, as float32, are found by the two halves of a key that sorts like the value, in two passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pipeline.grid import LEVELS, Window, level_shape
from pipeline.scene import BLOCK, Statistics, open_scene, read_image, read_valid, save_statistics

ENOUGH = 1 << 20
"""Pixels that a level must have for its percentiles to stand for the scene."""

QUANTILES = (0.01, 0.99)


def statistics(root: Path) -> Statistics:
    """Compute the statistics of the ingested scene under `root` and store them in its attributes.

    From the coarsest level with a million pixels (level 1 of a tiny scene). Deterministic: strips and
    their order are fixed. A scene without any valid pixel has all zeros and `count` 0.
    """
    scene = open_scene(root)
    level = next(
        (at for at in reversed(LEVELS) if np.prod(level_shape(scene.shape, at), dtype=np.int64) >= ENOUGH), 1
    )
    height, width = level_shape(scene.shape, level)
    step = BLOCK // level

    def strips() -> Iterator[np.ndarray]:
        """Valid pixels, (bands, n), strip by strip."""
        for y0 in range(0, height, step):
            window = Window(y0, 0, min(step, height - y0), width)
            good = read_valid(scene, level, window).astype(bool)
            yield read_image(scene, level, window)[:, good]

    bands = scene.bands
    sort_key, value_of, bits = _keys(np.dtype(scene.dtype))
    high = np.zeros((bands, 1 << 16), dtype=np.int64)
    total, least, most = np.zeros(bands), np.full(bands, np.inf), np.full(bands, -np.inf)
    for strip in strips():
        if strip.shape[1] == 0:
            continue
        least = np.minimum(least, strip.min(axis=1))
        most = np.maximum(most, strip.max(axis=1))
        total += strip.sum(axis=1, dtype=np.float64)
        for band in range(bands):
            keys = sort_key(strip[band]) >> (bits - 16)
            high[band] += np.bincount(keys.astype(np.int64), minlength=1 << 16)
    count = int(high[0].sum())
    if count == 0:
        zeros = (0.0,) * bands
        found = Statistics(level, 0, zeros, zeros, zeros, zeros, zeros, zeros)
        save_statistics(root, found)
        return found

    mean = total / count
    places = [quantile * (count - 1) for quantile in QUANTILES]
    ranks = sorted({int(np.floor(place)) for place in places} | {int(np.ceil(place)) for place in places})
    buckets = [[_bucket(high[band], rank) for rank in ranks] for band in range(bands)]
    low = {
        (band, key): np.zeros(1 << 16, dtype=np.int64) for band in range(bands) for key, _ in buckets[band]
    }
    spread = np.zeros(bands)
    for strip in strips():
        spread += [np.square(strip[band] - mean[band]).sum() for band in range(bands)]
        if bits > 16:
            for (band, bucket), counts in low.items():
                keys = sort_key(strip[band])
                keys = keys[(keys >> 16) == bucket] & 0xFFFF
                counts += np.bincount(keys.astype(np.int64), minlength=1 << 16)
    percentiles = []
    for band in range(bands):
        at = {}
        for rank, (bucket, rest) in zip(ranks, buckets[band], strict=True):
            key = bucket if bits == 16 else (bucket << 16) | _bucket(low[band, bucket], rest)[0]
            at[rank] = float(value_of(key))
        percentiles.append([_between(at, place) for place in places])
    found = Statistics(
        level=level,
        count=count,
        p1=tuple(low for low, _ in percentiles),
        p99=tuple(high for _, high in percentiles),
        minimum=tuple(least.tolist()),
        maximum=tuple(most.tolist()),
        mean=tuple(mean.tolist()),
        std=tuple(np.sqrt(spread / count).tolist()),
    )
    save_statistics(root, found)
    return found


def _keys(dtype: np.dtype) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[int], float], int]:
    """A key for values of `dtype` that sorts as they do, its inverse, and its bits (16 or 32)."""
    if dtype.kind in "ui" and dtype.itemsize <= 2:
        offset = 0 if dtype.kind == "u" else 1 << 15
        return lambda values: values.astype(np.int64) + offset, lambda key: float(key - offset), 16

    def key_of(values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            pattern = (values.astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0: no negative zero
        flip = np.where(pattern >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
        return (pattern ^ flip).astype(np.int64)

    def value_of(key: int) -> float:
        pattern = key ^ 0x80000000 if key >> 31 else key ^ 0xFFFFFFFF
        return float(np.uint32(pattern).view(np.float32))

    return key_of, value_of, 32


def _bucket(counts: np.ndarray, rank: int) -> tuple[int, int]:
    """The bin that holds the value of `rank` (from 0), and its rank within the bin."""
    reached = np.cumsum(counts)
    bucket = int(np.searchsorted(reached, rank, side="right"))
    return bucket, int(rank - (reached[bucket] - counts[bucket]))


def _between(at: dict[int, float], place: float) -> float:
    """The value at a fractional rank, linear between its two neighbours."""
    low, high = int(np.floor(place)), int(np.ceil(place))
    return at[low] + (at[high] - at[low]) * (place - low)
