"""Whose ground is it? Pixels around components of a mask, each given to the one component that is nearest.

Two outlines that grow each on its own claims never meet, though neither knows of the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.components import grown
from pipeline.kernels.jit import kernel

NOBODY = -2
"""Claim on a pixel that two components are equally near to."""


@kernel
def _grow(claims: Any, reach: int) -> None:
    height, width = claims.shape
    edge, n = np.empty(1024, np.int64), 0
    for y in range(height):
        for x in range(width):
            own = claims[y, x]
            if own == 0:
                continue
            inner = 0 < y < height - 1 and 0 < x < width - 1
            if inner and claims[y, x - 1] and claims[y, x + 1] and claims[y - 1, x] and claims[y + 1, x]:
                continue
            if n == edge.size:
                edge = grown(edge, 2 * n)
            edge[n] = y * width + x
            n += 1
    for _ in range(reach):
        # A pixel of the next ring is claimed at once by the first that finds it, under a mark of its own
        # (-3 - place in `ahead`) until the ring is done, and by nobody if another one does too.
        ahead, whose, m = np.empty(8 * n + 8, np.int64), np.empty(8 * n + 8, np.int32), 0
        for i in range(n):
            y, x = edge[i] // width, edge[i] % width
            own = claims[y, x]
            for v in range(max(y - 1, 0), min(y + 2, height)):
                for u in range(max(x - 1, 0), min(x + 2, width)):
                    there = claims[v, u]
                    if there == 0:
                        claims[v, u] = -3 - m
                        ahead[m], whose[m] = v * width + u, own
                        m += 1
                    elif there <= -3 and whose[-3 - there] != own:
                        whose[-3 - there] = NOBODY
        for k in range(m):
            claims[ahead[k] // width, ahead[k] % width] = whose[k]
        edge, n = ahead, m


def claim(component: NDArray[np.int32], reach: int) -> NDArray[np.int32]:
    """Write claims around components, (h, w) int32 numbers with 0 for background, into the array; and return it.

    A background pixel within `reach` px, diagonals counting as one, goes to the component that is nearest, to
    NOBODY where two are. A component of number -1 stands for all others: its claims are as good as anyone's.
    """
    _grow(component, reach)
    return component


@kernel
def trespass(
    arcs: Any, x: Any, y: Any, a: Any, b: Any, owner: Any, ask: Any, claims: Any, whose: Any, shift: Any, bad: Any
) -> None:
    """Set `bad` for the arcs to `ask` with a segment that passes through a pixel which its polygon has no claim on.

    `whose` (k,) is each polygon's claim, `shift` (k, 2) its way from x, y to the pixels of `claims`.
    """
    height, width = claims.shape
    for s in range(a.size):
        arc = owner[s]
        if not ask[arc] or bad[arc]:
            continue
        polygon = max(arcs.face[arc, 0], arcs.face[arc, 1])
        own, dx, dy = whose[polygon], shift[polygon, 0], shift[polygon, 1]
        x0, y0, x1, y1 = x[a[s]] + dx, y[a[s]] + dy, x[b[s]] + dx, y[b[s]] + dy
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        first, last = int(np.floor(y0)), int(np.ceil(y1)) - 1
        if y0 == y1 and y0 == np.floor(y0):
            continue  # between two rows
        for row in range(first, last + 1):
            low, high = x0, x1
            if y1 > y0:
                low = x0 + (max(float(row), y0) - y0) * (x1 - x0) / (y1 - y0)
                high = x0 + (min(row + 1.0, y1) - y0) * (x1 - x0) / (y1 - y0)
            low, high = min(low, high), max(low, high)
            # Rounding of a crossing must not decide; what it adds or leaves out is far below a pixel.
            for column in range(int(np.floor(low + 1e-6)), int(np.ceil(high - 1e-6))):
                if row < 0 or column < 0 or row >= height or column >= width or claims[row, column] != own:
                    bad[arc] = True
