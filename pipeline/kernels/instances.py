"""Instances as runs: read from the label raster once, then measured and traced without it.

A run is a span of one label in a row. What lies above and below it is known from the runs of the next row, so that
only pixels at an outline are looked at.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.components import PROPERTIES, grown, tally
from pipeline.kernels.jit import inlined, kernel, load64, plain

Ints = NDArray[np.int64]
Int32s = NDArray[np.int32]


class Runs(NamedTuple):
    """Runs of a (height, width) label raster, 0 left out, in row-major order."""

    begin: Int32s  # (r,) column
    end: Int32s  # (r,) past the last
    value: Int32s  # (r,)
    rows: Ints  # (height + 1,) where each row's begin


@kernel
def _runs(labels: Any, bits: Any) -> Any:
    height, width = labels.shape
    room = 2 * width + 4 * height + 16
    begin, end, value = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    rows = np.zeros(height + 1, np.int64)
    n = np.int64(0)
    for y in range(height):
        if n + width > room:
            room = 2 * room + width
            begin, end, value = grown(begin, room), grown(end, room), grown(value, room)
        line = labels[y]
        x = 0
        while x < width:
            while x + 8 <= width:
                at = 4 * (y * width + x)
                if load64(bits, at) | load64(bits, at + 8) | load64(bits, at + 16) | load64(bits, at + 24):
                    break
                x += 8
            while x < width and line[x] == 0:
                x += 1
            if x >= width:
                break
            label, start = line[x], x
            pair = np.uint64(np.uint32(label))
            pair |= pair << np.uint64(32)
            while x + 8 <= width:
                at = 4 * (y * width + x)
                apart = (load64(bits, at) ^ pair) | (load64(bits, at + 8) ^ pair) | (load64(bits, at + 16) ^ pair)
                if apart | (load64(bits, at + 24) ^ pair):
                    break
                x += 8
            while x < width and line[x] == label:
                x += 1
            begin[n], end[n], value[n] = start, x, label
            n += 1
        rows[y + 1] = n
    return begin[:n].copy(), end[:n].copy(), value[:n].copy(), rows


def runs(labels: NDArray[np.int32]) -> Runs:
    """Runs of a (height, width) label raster."""
    labels = plain(labels, np.int32)
    if labels.ndim != 2:
        raise ValueError(f"a label raster has two axes, not shape {labels.shape}")
    return Runs(*_runs(labels, labels.reshape(-1).view(np.uint8)))


@kernel
def _only(runs: Any, kept: Any) -> Any:
    begin, end, value = np.empty_like(runs.begin), np.empty_like(runs.end), np.empty_like(runs.value)
    rows, n = np.zeros_like(runs.rows), 0
    for y in range(rows.size - 1):
        for run in range(runs.rows[y], runs.rows[y + 1]):
            if kept[runs.value[run] - 1]:
                begin[n], end[n], value[n] = runs.begin[run], runs.end[run], runs.value[run]
                n += 1
        rows[y + 1] = n
    return begin[:n].copy(), end[:n].copy(), value[:n].copy(), rows


def only(runs: Runs, kept: NDArray[np.bool_]) -> Runs:
    """The runs of the labels 1 to count that are `kept` (count,)."""
    return Runs(*_only(runs, plain(kept, np.bool_)))


@kernel
def _properties(runs: Any, table: Any) -> None:
    for y in range(runs.rows.size - 1):
        for run in range(runs.rows[y], runs.rows[y + 1]):
            tally(table[runs.value[run] - 1], y, np.int64(runs.begin[run]), np.int64(runs.end[run]))


def properties(runs: Runs, count: int) -> NDArray[np.void]:
    """As `components.properties`; no label is above `count`."""
    table = np.zeros((count, len(PROPERTIES.names or ())), np.int64)
    _properties(runs, table)
    out: NDArray[np.void] = table.view(PROPERTIES)[:, 0]
    return out


@inlined
def _evidence(seen: Any, other: Any, wall: Any, here: Any, there: Any, threshold: int) -> Any:
    """What the edge between two pixels of scores `here` and `there` says of the outline, and whether it counts."""
    if not seen:
        return np.int64(0), np.int64(0)
    if other != 0:
        return np.int64(wall), np.int64(1)
    return (np.int64(here) - np.int64(there), np.int64(1)) if there <= threshold else (np.int64(0), np.int64(0))


@kernel
def _measure(
    begin: Any, end: Any, value: Any, rows: Any, width: int,
    mask: Any, touching: Any, valid: Any, threshold: int, sums: Any, touches: Any,
) -> None:  # fmt: skip
    """One function, since arrays that are handed on in a hot loop cost more than what is done with them.

    Along a row: the sum inside each run, the edges at its ends, and whether all around it is valid. Then the line
    above the row: a sweep that stops where a run above or below it begins or ends.
    """
    height = rows.size - 1
    for y in range(height):
        first, last, line = rows[y], rows[y + 1], y * width
        for run in range(first, last):
            row, start, stop = value[run] - 1, line + begin[run], line + end[run]
            inside, k, after = np.uint32(0), np.uint64(start), np.uint64(stop)
            while k < after:  # unsigned, and of four bytes: many a step of a vector loop
                inside = np.uint32(inside + np.uint32(mask[k]))
                k += np.uint64(1)
            total, count = np.int64(0), np.int64(0)
            left, right = start > line, stop < line + width
            if left:
                other = value[run - 1] if run > first and end[run - 1] == begin[run] else 0
                wall = max(touching[start], touching[start - 1]) if other != 0 else 0
                said, one = _evidence(valid[start - 1], other, wall, mask[start], mask[start - 1], threshold)
                total, count = total + said, count + one
            if right:
                other = value[run + 1] if run + 1 < last and begin[run + 1] == end[run] else 0
                wall = max(touching[stop - 1], touching[stop]) if other != 0 else 0
                said, one = _evidence(valid[stop], other, wall, mask[stop - 1], mask[stop], threshold)
                total, count = total + said, count + one
            sums[row, 0] += inside
            sums[row, 1] += total
            sums[row, 2] += count
            if not touches[row]:
                whole = left and right and 0 < y < height - 1
                near = line - width
                while whole and near <= line + width:
                    k, after = np.uint64(near + start - line - 1), np.uint64(near + stop - line + 1)
                    seen = np.uint8(1)
                    while k < after:
                        seen &= valid[k]
                        k += np.uint64(1)
                    whole = seen != 0
                    near += width
                touches[row] = not whole
        if y == 0:
            continue
        a, b, x = rows[y - 1], first, np.int32(0)
        while a < first or b < last:
            up, low, to = np.int32(0), np.int32(0), np.int32(width)
            if a < first:
                over = begin[a] <= x
                up, to = (value[a] if over else up), min(to, end[a] if over else begin[a])
            if b < last:
                over = begin[b] <= x
                low, to = (value[b] if over else low), min(to, end[b] if over else begin[b])
            if up != low:
                above, below, above_count, below_count = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
                for place in range(line + x, line + to):
                    wall = max(touching[place - width], touching[place]) if up != 0 and low != 0 else 0
                    said, one = _evidence(valid[place], low, wall, mask[place - width], mask[place], threshold)
                    above, above_count = above + said, above_count + one
                    said, one = _evidence(valid[place - width], up, wall, mask[place], mask[place - width], threshold)
                    below, below_count = below + said, below_count + one
                if up != 0:
                    sums[up - 1, 1] += above
                    sums[up - 1, 2] += above_count
                if low != 0:
                    sums[low - 1, 1] += below
                    sums[low - 1, 2] += below_count
            x = to
            a += a < first and end[a] == x
            b += b < last and end[b] == x


def measure(
    runs: Runs,
    count: int,
    mask_scores: NDArray[np.uint8],
    touching: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    threshold: int,
) -> tuple[Ints, Ints, Ints, NDArray[np.bool_]]:
    """Sums over each instance, rasters (h, w): score_sum, edge_sum, edge_count, touches_nodata, (count,).

    Each pixel edge of an outline is evidence of 0-255: towards the background the step of the mask score,
    towards another instance the touching score (the larger of the two pixels'). Edges towards nodata and
    the array's edge say nothing and are left out; so is mask that has no label here, which is the same
    instance or its neighbour in another window. `touches_nodata`: a pixel of the instance is invalid,
    8-adjacent to an invalid one, or lies on the array's edge. No label is above `count`.
    """
    width = mask_scores.shape[1]
    seen = plain(valid, np.bool_).view(np.uint8)
    scores, walls, seen = (plain(array, np.uint8).reshape(-1) for array in (mask_scores, touching, seen))
    sums, touches = np.zeros((count, 3), np.int64), np.zeros(count, np.bool_)
    _measure(*runs, width, scores, walls, seen, threshold, sums, touches)
    return sums[:, 0], sums[:, 1], sums[:, 2], touches
