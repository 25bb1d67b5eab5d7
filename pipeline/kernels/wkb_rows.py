"""Rows of well-known binary at a glance: their types, and the boxes of plain polygons.

`buffer` is the WKB of all rows as uint8, `offsets` (rows + 1) int64 where each starts, as in `kernels.wkb`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.jit import inlined, kernel, load64, load_double, plain

Int64s = NDArray[np.int64]

_POLYGON, _MULTIPOLYGON = np.uint64(0x0301), np.uint64(0x0601)
"""The first five bytes: little endian, and the type."""
_HEAD = 9
_LEAST = _HEAD + 4 + 4 * 16
"""Bytes of the smallest polygon."""


@kernel
def _types(buffer: Any, offsets: Any, out: Any) -> None:
    for row in range(out.size):
        at = offsets[row]
        if offsets[row + 1] - at < 5:
            continue
        for i in range(4):
            byte = np.uint32(buffer[at + 1 + i])
            out[row] |= byte << np.uint32(8 * i if buffer[at] == 1 else 24 - 8 * i)


def types(buffer: NDArray[np.uint8], offsets: Int64s) -> NDArray[np.uint32]:
    """Type code (n,) of each row as its bytes have it; 0 where it is shorter than five."""
    out = np.zeros(offsets.size - 1, np.uint32)
    _types(plain(buffer, np.uint8), plain(offsets, np.int64), out)
    return out


@inlined
def _head(buffer: Any, at: int) -> Any:
    return load64(buffer, at) & np.uint64(0xFFFFFFFFFF)


@inlined
def _count(buffer: Any, at: int) -> Any:
    return np.int64(load64(buffer, at) & np.uint64(0xFFFFFFFF))


@kernel
def _boxes(buffer: Any, offsets: Any, out: Any, known: Any) -> None:
    """Reads a row as long as it is what is expected. A polygon's box is its shell's, the first ring's."""
    for row in range(known.size):
        at, end, members = offsets[row], offsets[row + 1], np.int64(1)
        if at + _HEAD + _LEAST <= end and _head(buffer, at) == _MULTIPOLYGON:
            members = _count(buffer, at + 5)
            at += _HEAD
        x0, y0, x1, y1 = np.inf, np.inf, -np.inf, -np.inf
        good = members > 0
        while good and members > 0:
            members -= 1
            good = at + _LEAST <= end and _head(buffer, at) == _POLYGON
            rings, ring = _count(buffer, at + 5) if good else np.int64(0), 0
            good = rings > 0
            at += _HEAD
            while good and ring < rings:
                good = at + _LEAST - _HEAD <= end
                points = _count(buffer, at) if good else np.int64(0)
                at += 4
                good = 4 <= points <= (end - at) // 16
                if not good:
                    break
                last = at + 16 * (points - 1)
                good = load_double(buffer, at) == load_double(buffer, last)
                good = good and load_double(buffer, at + 8) == load_double(buffer, last + 8)
                if ring == 0:
                    total = 0.0
                    for place in range(at, last, 16):
                        x, y = load_double(buffer, place), load_double(buffer, place + 8)
                        x0, x1 = (x if x < x0 else x0), (x if x > x1 else x1)
                        y0, y1 = (y if y < y0 else y0), (y if y > y1 else y1)
                        total += x + y
                    good = good and np.isfinite(total)
                at = last + 16
                ring += 1
        if good and at == end:
            out[row, 0], out[row, 1], out[row, 2], out[row, 3] = x0, y0, x1, y1
            known[row] = True


def boxes(buffer: NDArray[np.uint8], offsets: Int64s) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Boxes (n, 4) float64 xmin, ymin, xmax, ymax of rows that are plain, and which are (n,).

    Plain: whole little-endian 2-D polygons and multipolygons without an empty one, every ring closed, of four
    points or more, finite. The other rows are NaN: for a library that reads everything.
    """
    out, known = np.full((offsets.size - 1, 4), np.nan), np.zeros(offsets.size - 1, np.bool_)
    _boxes(plain(buffer, np.uint8), plain(offsets, np.int64), out, known)
    return out, known
