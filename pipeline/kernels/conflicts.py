"""Where simplified chains would cross, touch or pass over each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.kernels.jit import inlined, kernel


@inlined
def _side(x: Any, y: Any, a: int, b: int, c: int) -> Any:
    """-1, 1: on which side of a→b the point c lies; 0 where rounding could decide otherwise."""
    left = (x[b] - x[a]) * (y[c] - y[a])
    right = (y[b] - y[a]) * (x[c] - x[a])
    bound = 4e-16 * (abs(left) + abs(right))
    return 0 if abs(left - right) <= bound else (1 if left > right else -1)


@inlined
def meet(x: Any, y: Any, a: int, b: int, c: int, d: int) -> Any:
    """Whether segments a-b and c-d have more in common than an end that is the same point."""
    if (a == c and b == d) or (a == d and b == c):
        return False
    if a == d or b == c:
        c, d = d, c
    if a == c or b == d:
        p, q, r = (a, b, d) if a == c else (b, a, c)
        along = (x[q] - x[p]) * (x[r] - x[p]) + (y[q] - y[p]) * (y[r] - y[p])
        return along > 0 and _side(x, y, p, q, r) == 0
    if max(x[a], x[b]) < min(x[c], x[d]) or max(x[c], x[d]) < min(x[a], x[b]):
        return False
    if max(y[a], y[b]) < min(y[c], y[d]) or max(y[c], y[d]) < min(y[a], y[b]):
        return False
    return _side(x, y, a, b, c) * _side(x, y, a, b, d) <= 0 and _side(x, y, c, d, a) * _side(x, y, c, d, b) <= 0


@kernel
def _passes_over(x: Any, y: Any, chain: Any, i: int, j: int, p: int) -> Any:
    """Whether the point p lies between the chain's points i to j and the segment that replaces them."""
    inside = False
    px, py = x[p], y[p]
    for k in range(i, j + 1):
        a, b = chain[k], chain[k + 1 if k < j else i]
        if (y[a] > py) != (y[b] > py) and px < (x[b] - x[a]) * (py - y[a]) / (y[b] - y[a]) + x[a]:
            inside = not inside
    return inside


@kernel
def _segments(chains: Any, offsets: Any, keep: Any) -> Any:
    """Neighbours among the kept points of each chain, as places in `chains`; and the chain of each pair."""
    begin, end = np.empty(chains.size, np.int64), np.empty(chains.size, np.int64)
    owner = np.empty(chains.size, np.int64)
    n = 0
    for chain in range(offsets.size - 1):
        i = offsets[chain]
        for j in range(offsets[chain] + 1, offsets[chain + 1]):
            if keep[chains[j]]:
                begin[n], end[n], owner[n] = i, j, chain
                n += 1
                i = j
    return begin[:n], end[:n], owner[:n]


@kernel
def _boxes(x: Any, y: Any, chains: Any, begin: Any, end: Any) -> Any:
    """Left, top, right and bottom (s, 4) of what each pair of kept points spans, left-out points included."""
    box = np.empty((begin.size, 4), np.float64)
    for s in range(begin.size):
        left = right = x[chains[begin[s]]]
        top = bottom = y[chains[begin[s]]]
        for k in range(begin[s] + 1, end[s] + 1):
            left, right = min(left, x[chains[k]]), max(right, x[chains[k]])
            top, bottom = min(top, y[chains[k]]), max(bottom, y[chains[k]])
        box[s, 0], box[s, 1], box[s, 2], box[s, 3] = left, top, right, bottom
    return box


@inlined
def _clash(x: Any, y: Any, chains: Any, i: int, j: int, box: Any, a: int, b: int) -> Any:
    """Whether the shortcut from i to j, which spans `box`, disturbs the segment between points a and b."""
    p, q = chains[i], chains[j]
    if meet(x, y, p, q, a, b):
        return True
    for c in (a, b):
        inside = box[0] <= x[c] <= box[2] and box[1] <= y[c] <= box[3]
        if inside and c != p and c != q and _passes_over(x, y, chains, i, j, c):
            return True
    return False


@kernel
def _lattice(box: Any) -> Any:
    """Cells of about one box each, as rows and columns: first and last that each box reaches (s, 4), how many."""
    x0, y0, x1, y1 = np.inf, np.inf, -np.inf, -np.inf
    for s in range(box.shape[0]):
        x0, y0, x1, y1 = min(x0, box[s, 0]), min(y0, box[s, 1]), max(x1, box[s, 2]), max(y1, box[s, 3])
    side = max(np.sqrt((x1 - x0) * (y1 - y0) / box.shape[0]), (x1 - x0 + y1 - y0) / box.shape[0])
    if not side > 0.0:
        side = 1.0
    reach = np.empty(box.shape, np.int32)
    for s in range(box.shape[0]):
        reach[s, 0], reach[s, 1] = (box[s, 1] - y0) / side, (box[s, 3] - y0) / side
        reach[s, 2], reach[s, 3] = (box[s, 0] - x0) / side, (box[s, 2] - x0) / side
    return reach, int((y1 - y0) / side) + 1, int((x1 - x0) / side) + 1


@kernel
def _filed(reach: Any, rows: int, columns: int) -> Any:
    """Boxes by the cells that they reach: where each cell's begin, and the boxes."""
    heads = np.zeros(rows * columns + 1, np.int32)
    for s in range(reach.shape[0]):
        for row in range(reach[s, 0], reach[s, 1] + 1):
            for column in range(reach[s, 2], reach[s, 3] + 1):
                heads[row * columns + column] += 1
    total = np.int64(0)
    for cell in range(heads.size):
        total += heads[cell]
        heads[cell] = total
    members = np.empty(total, np.int32)
    for s in range(reach.shape[0] - 1, -1, -1):  # counts each head down from its end to its start
        for row in range(reach[s, 0], reach[s, 1] + 1):
            for column in range(reach[s, 2], reach[s, 3] + 1):
                cell = row * columns + column
                heads[cell] -= 1
                members[heads[cell]] = s
    return heads, members


@kernel
def _changes(reach: Any, owner: Any, changed: Any, rows: int, columns: int) -> Any:
    """Cells that a box of a changed chain reaches."""
    out = np.zeros(rows * columns, np.bool_)
    for s in range(owner.size):
        if changed[owner[s]]:
            for row in range(reach[s, 0], reach[s, 1] + 1):
                out[row * columns + reach[s, 2] : row * columns + reach[s, 3] + 1] = True
    return out


@kernel
def conflicts(x: Any, y: Any, chains: Any, offsets: Any, keep: Any, changed: Any, again: Any) -> Any:
    """Set `again` for every chain with a shortcut that meets or passes over anything; whether there is one.

    Segments lie in a grid of about one cell each; a shortcut asks the cells that the points it leaves out
    and its ends reach. Two chains of which none is `changed` had no conflict before and are not asked again.
    Edges of the input among themselves are not asked either: what they do, they did before.
    """
    begin, end, owner = _segments(chains, offsets, keep)
    if begin.size == 0:
        return False
    box = _boxes(x, y, chains, begin, end)
    reach, rows, columns = _lattice(box)
    heads, members = _filed(reach, rows, columns)
    touched = _changes(reach, owner, changed, rows, columns)
    found = False
    for s in range(begin.size):
        if end[s] == begin[s] + 1 or again[owner[s]]:
            continue
        new = changed[owner[s]]
        for row in range(reach[s, 0], reach[s, 1] + 1):
            for cell in range(row * columns + reach[s, 2], row * columns + reach[s, 3] + 1):
                if again[owner[s]] or not touched[cell]:
                    continue
                for k in range(heads[cell], heads[cell + 1]):
                    t = members[k]
                    if t == s or not (new or changed[owner[t]]):
                        continue
                    if box[t, 0] > box[s, 2] or box[t, 2] < box[s, 0] or box[t, 1] > box[s, 3] or box[t, 3] < box[s, 1]:
                        continue
                    if _clash(x, y, chains, begin[s], end[s], box[s], chains[begin[t]], chains[end[t]]):
                        again[owner[s]] = found = True
                        break
    return found
