"""Connected components of a mask, and what each of them measures.

Both work on runs: maximal spans of set pixels in a row, found eight pixels a step. Two runs of neighbouring
rows that touch are joined; a component is a tree of runs whose root is its first run in row-major order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.jit import inlined, kernel, load64, plain, zeros64

_COLUMNS = ("area", "y0", "x0", "y1", "x1", "first_y", "first_x", "sum_y", "sum_x")

PROPERTIES = np.dtype([(name, np.int64) for name in _COLUMNS])
"""Columns of `properties`."""

_LOW = np.uint64(0x7F7F7F7F7F7F7F7F)
_HIGH = np.uint64(0x8080808080808080)
_ONES = np.uint64(0x0101010101010101)


@inlined
def above(word: int, threshold: int) -> Any:
    """The high bit of each byte of `word` (uint64) that is greater than `threshold`, 0 to 254."""
    if threshold >= 128:
        return ((word & _LOW) + _ONES * np.uint64(255 - threshold)) & word & _HIGH
    return (((word & _LOW) + _ONES * np.uint64(127 - threshold)) | word) & _HIGH


@kernel
def next_run(flat: Any, x: int, end: int, threshold: int) -> Any:
    """First and last + 1 place in `flat[x:end]` (uint8) of the next span above `threshold`; (end, end) if none."""
    start = end
    while x < end:
        if x + 8 <= end:
            bits = above(load64(flat, x), threshold)
            if bits == 0:
                x += 8
                continue
            start = x + (zeros64(bits) >> 3)
            break
        if flat[x] > threshold:
            start = x
            break
        x += 1
    x = start
    while x < end:
        if x + 8 <= end:
            bits = above(load64(flat, x), threshold) ^ _HIGH
            if bits == 0:
                x += 8
                continue
            return start, x + (zeros64(bits) >> 3)
        if flat[x] <= threshold:
            return start, x
        x += 1
    return start, end


@inlined
def find(parent: Any, run: Any) -> Any:
    """Root of the tree that `run` hangs in; halves the path on the way."""
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@inlined
def join(parent: Any, a: Any, b: Any) -> None:
    """Hang the later root of the two under the earlier."""
    a, b = find(parent, a), find(parent, b)
    if a < b:
        parent[b] = a
    elif b < a:
        parent[a] = b


@kernel
def grown(array: Any, size: int) -> Any:
    """A copy of the 1-D `array` with room for `size` values."""
    out = np.empty(size, array.dtype)
    for i in range(array.size):
        out[i] = array[i]
    return out


@inlined
def attach(begin: Any, end: Any, parent: Any, run: Any, above_it: Any, row: Any, reach: Any) -> Any:
    """Join `run` to the runs that it touches among `above_it` to `row`, the runs of the row above.

    Returns the first of those that the next run to the right may touch.
    """
    a, b = begin[run], end[run] + reach
    while above_it < row and end[above_it] + reach <= a:
        above_it += 1
    k = above_it
    while k < row and begin[k] < b:
        join(parent, k, run)
        k += 1
    return above_it


@kernel
def runs(flat: Any, height: int, width: int, threshold: int, reach: Any) -> Any:
    """Runs of a (height, width) uint8 raster above `threshold`, joined to components.

    Returns `begin`, `end` (columns), `rows` (height + 1, the runs of each row) and `parent`. `reach` is 1
    for 8- and 0 for 4-connectivity.
    """
    room = 2 * width + 4 * height + 16
    begin, end, parent = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    rows = np.zeros(height + 1, np.int64)
    n, previous = np.int64(0), np.int64(0)
    for y in range(height):
        if n + width // 2 + 1 > room:
            room = 2 * room + width
            begin, end, parent = grown(begin, room), grown(end, room), grown(parent, room)
        first, stop = n, (y + 1) * width
        x, over = y * width, previous
        while x < stop:
            a, b = next_run(flat, x, stop, threshold)
            x = b
            if a == stop:
                break
            begin[n], end[n], parent[n] = a - y * width, b - y * width, n
            over = attach(begin, end, parent, n, over, first, reach)
            n += 1
        rows[y + 1] = n
        previous = first
    return begin[:n], end[:n], rows, parent[:n]


@kernel
def number(parent: Any) -> Any:
    """Replace each run's parent by its component's number, 1 and up in row-major order; their count."""
    count = 0
    for run in range(parent.size):
        if parent[run] == run:
            count += 1
            parent[run] = count
        else:
            parent[run] = parent[parent[run]]
    return count


@inlined
def span(line: Any, begin: int, end: int, value: int) -> None:
    """Set `line[begin:end]`. Unsigned places, since a loop over signed ones is not vectorised."""
    x, stop = np.uint64(begin), np.uint64(end)
    while x < stop:
        line[x] = value
        x += np.uint64(1)


@kernel
def paint(begin: Any, end: Any, rows: Any, value: Any, out: Any) -> None:
    """Write every pixel of `out` (height, width): the run's value, and 0 between runs."""
    height, width = out.shape
    for y in range(height):
        line = out[y]
        x = 0
        for run in range(rows[y], rows[y + 1]):
            span(line, x, begin[run], 0)
            x = end[run]
            span(line, begin[run], x, value[run])
        span(line, x, width, 0)


@kernel
def _label(flat: Any, threshold: int, reach: int, out: Any) -> Any:
    height, width = out.shape
    begin, end, rows, parent = runs(flat, height, width, threshold, reach)
    count = number(parent)
    paint(begin, end, rows, parent, out)
    return count


def label(
    mask: NDArray[np.uint8] | NDArray[np.bool_], connectivity: int = 8, out: NDArray[np.int32] | None = None
) -> tuple[NDArray[np.int32], int]:
    """Connected components of a (height, width) mask (set where not 0), and how many there are.

    Labels are int32, 0 for background, 1 to count in the row-major order of each component's first pixel:
    `scipy.ndimage.label` with the 4- or 8-neighbour structure. `out`, if given, is overwritten and returned.
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity is 4 or 8, not {connectivity}")
    flat = plain(mask, np.bool_ if mask.dtype == np.bool_ else np.uint8).view(np.uint8)
    out = output(out, flat.shape)
    return out, _label(flat.reshape(-1), 0, 1 if connectivity == 8 else 0, out)


def output(out: NDArray[np.int32] | None, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """`out` if it can hold the labels of a raster of `shape`, a new array if None."""
    if len(shape) != 2:
        raise ValueError(f"a raster to label has two axes, not shape {shape}")
    if out is None:
        return np.empty(shape, np.int32)
    if out.shape != shape or out.dtype != np.int32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"out must be writable, contiguous int32 of shape {shape}, not {out.dtype} {out.shape}")
    return out


@inlined
def tally(row: Any, y: int, begin: Any, end: Any) -> None:
    """Add the run from column `begin` to `end` of the row `y` to a label's row of PROPERTIES."""
    if row[0] == 0:
        row[1], row[2], row[5], row[6] = y, begin, y, begin
    row[0] += end - begin
    row[2] = min(row[2], begin)
    row[3] = y + 1
    row[4] = max(row[4], end)
    row[7] += y * (end - begin)
    row[8] += (begin + end - 1) * (end - begin) // 2


@kernel
def _properties(labels: Any, table: Any) -> None:
    height, width = labels.shape
    flat = labels.reshape(-1).view(np.uint8)
    for y in range(height):
        line = labels[y]
        x = 0
        while x < width:
            while x + 8 <= width:
                at = 4 * (y * width + x)
                if load64(flat, at) | load64(flat, at + 8) | load64(flat, at + 16) | load64(flat, at + 24):
                    break
                x += 8
            while x < width and line[x] == 0:
                x += 1
            if x == width:
                break
            value, start = line[x], x
            while x < width and line[x] == value:
                x += 1
            if value < 1 or value > table.shape[0]:
                continue
            tally(table[value - 1], y, start, x)


def properties(labels: NDArray[np.int32], count: int) -> NDArray[np.void]:
    """One row of PROPERTIES for each label 1 to `count`, in one pass over a (height, width) raster.

    `area` in pixels; bounding box `y0, x0, y1, x1`, half-open; `first_y, first_x` the label's first pixel in
    row-major order; `sum_y, sum_x` over its pixels, so that the centroid is sum / area (+ 0.5 in corner
    coordinates). A label that does not occur has a row of zeros.
    """
    table = np.zeros((count, len(_COLUMNS)), np.int64)
    _properties(plain(labels, np.int32), table)
    out: NDArray[np.void] = table.view(PROPERTIES)[:, 0]
    return out


@kernel
def _renumber(flat: Any, bits: Any, width: int, y0: int, x0: int, y1: int, x1: int, table: Any) -> None:
    for y in range(y0, y1):
        place, end = y * width + x0, y * width + x1
        while place < end:
            at = 4 * place
            if place + 4 <= end and (load64(bits, at) | load64(bits, at + 8)) == 0:
                place += 4
                continue
            flat[place] = table[flat[place]]
            place += 1


def renumber(labels: NDArray[np.int32], table: NDArray[np.int32], rows: slice, columns: slice) -> None:
    """Put `table[label]` in the place of every label in `labels[rows, columns]`; 0 stays 0, none is past the table."""
    if labels.dtype != np.int32 or not labels.flags.c_contiguous or table[0] != 0:
        raise ValueError("labels are renumbered in place: contiguous int32, and a table that begins with 0")
    (y0, y1, _), (x0, x1, _) = rows.indices(labels.shape[0]), columns.indices(labels.shape[1])
    flat = labels.reshape(-1)
    _renumber(flat, flat.view(np.uint8), labels.shape[1], y0, x0, y1, x1, plain(table, np.int32))
