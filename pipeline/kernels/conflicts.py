"""Where simplified chains would cross, touch or pass over each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.kernels.jit import kernel


@kernel
def _side(x: Any, y: Any, a: int, b: int, c: int) -> Any:
    """-1, 1: on which side of a→b the point c lies; 0 where rounding could decide otherwise."""
    left = (x[b] - x[a]) * (y[c] - y[a])
    right = (y[b] - y[a]) * (x[c] - x[a])
    bound = 4e-16 * (abs(left) + abs(right))
    return 0 if abs(left - right) <= bound else (1 if left > right else -1)


@kernel
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
def _cells(x: Any, y: Any, chains: Any, i: int, j: int, x0: float, y0: float, side: float) -> Any:
    """Rows and columns of the grid, first and last, that the chain's points i to j reach."""
    left = right = x[chains[i]]
    top = bottom = y[chains[i]]
    for k in range(i + 1, j + 1):
        left, right = min(left, x[chains[k]]), max(right, x[chains[k]])
        top, bottom = min(top, y[chains[k]]), max(bottom, y[chains[k]])
    return int((top - y0) / side), int((bottom - y0) / side), int((left - x0) / side), int((right - x0) / side)


@kernel
def _clash(x: Any, y: Any, chains: Any, i: int, j: int, a: int, b: int) -> Any:
    """Whether the shortcut from i to j disturbs the segment between points a and b."""
    p, q = chains[i], chains[j]
    if meet(x, y, p, q, a, b) or (a != p and a != q and _passes_over(x, y, chains, i, j, a)):
        return True
    return b != p and b != q and _passes_over(x, y, chains, i, j, b)


@kernel
def conflicts(x: Any, y: Any, chains: Any, offsets: Any, keep: Any, again: Any) -> Any:
    """Set `again` for every chain with a shortcut that meets or passes over anything; whether there is one.

    Segments lie in a grid of about one cell each; a shortcut asks the cells that the points it leaves out
    and its ends reach. Edges of the input among themselves are not asked: what they do, they did before.
    """
    begin, end, owner = _segments(chains, offsets, keep)
    if begin.size == 0:
        return False
    x0, y0, x1, y1 = x.min(), y.min(), x.max(), y.max()
    side = max(np.sqrt((x1 - x0) * (y1 - y0) / begin.size), (x1 - x0 + y1 - y0) / begin.size)
    if not side > 0.0:
        side = 1.0
    columns, lines = int((x1 - x0) / side) + 1, int((y1 - y0) / side) + 1
    heads = np.zeros(columns * lines + 1, np.int64)
    members = np.empty(0, np.int64)
    for step in range(2):
        for s in range(begin.size):
            r0, r1, c0, c1 = _cells(x, y, chains, begin[s], end[s], x0, y0, side)
            for row in range(r0, r1 + 1):
                for column in range(c0, c1 + 1):
                    cell = row * columns + column
                    if step == 0:
                        heads[cell + 1] += 1
                    else:
                        heads[cell] -= 1
                        members[heads[cell]] = s
        if step == 0:
            for cell in range(columns * lines):
                heads[cell + 1] += heads[cell]
            members = np.empty(heads[columns * lines], np.int64)
            # Filling counts each head down from its end to its start.
            for cell in range(columns * lines):
                heads[cell] = heads[cell + 1]
    found = False
    for s in range(begin.size):
        if end[s] == begin[s] + 1 or again[owner[s]]:
            continue
        r0, r1, c0, c1 = _cells(x, y, chains, begin[s], end[s], x0, y0, side)
        for row in range(r0, r1 + 1):
            for k in range(heads[row * columns + c0], heads[row * columns + c1 + 1]):
                t = members[k]
                if t != s and _clash(x, y, chains, begin[s], end[s], chains[begin[t]], chains[end[t]]):
                    again[owner[s]] = found = True
                    break
    return found
