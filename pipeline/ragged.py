"""Ragged arrays: runs of different lengths laid end to end, and the offsets where each begins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def ranges(starts: Ints, stops: Ints) -> Ints:
    """The integers of every half-open range [start, stop), one range after the other."""
    lengths = stops - starts
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)


def offsets_of(lengths: Ints) -> Ints:
    """Offsets (n + 1) of consecutive runs of the given lengths (n): the first is 0, the last their sum."""
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
