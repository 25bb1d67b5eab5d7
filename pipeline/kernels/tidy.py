"""Sides made fewer: what runs on becomes one, and jogs and cut corners go."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.kernels.jit import kernel
from pipeline.kernels.sides import along, settle, turn


@kernel
def _same_way(sides: Any, a: int, b: int) -> Any:
    """Whether two sides are bound to one axis and go the same way along it."""
    if sides.kind[a] < 0 or sides.kind[a] != sides.kind[b]:
        return False
    return sides.line[a, 0] * sides.line[b, 0] + sides.line[a, 1] * sides.line[b, 1] > 0.0


@kernel
def _drop(sides: Any, arc: int, i: int) -> None:
    """Take side number `i` out of the arc."""
    base = sides.offsets[arc]
    for k in range(base + i, base + sides.used[arc] - 1):
        sides.first[k], sides.last[k], sides.kind[k] = sides.first[k + 1], sides.last[k + 1], sides.kind[k + 1]
        for m in range(6):
            sides.moments[k, m] = sides.moments[k + 1, m]
        for m in range(3):
            sides.line[k, m] = sides.line[k + 1, m]
    sides.used[arc] -= 1


@kernel
def _length(arcs: Any, sides: Any, s: int) -> Any:
    """How far a side goes along its line, px."""
    p, q = arcs.points[sides.first[s]], arcs.points[sides.last[s]]
    return (arcs.x[q] - arcs.x[p]) * sides.line[s, 0] + (arcs.y[q] - arcs.y[p]) * sides.line[s, 1]


@kernel
def _merge(arcs: Any, sides: Any, a: int, b: int, jog: float, chamfer: float) -> Any:
    """Make one of a side and the next where they run on, or where both are bits of one cut corner."""
    if _same_way(sides, a, b):
        if abs(sides.line[a, 2] - sides.line[b, 2]) > jog:
            return False
    elif max(sides.kind[a], sides.kind[b]) >= 0 or max(_length(arcs, sides, a), _length(arcs, sides, b)) >= chamfer:
        return False
    sides.last[a] = sides.last[b]
    for k in range(6):
        sides.moments[a, k] += sides.moments[b, k]
    if sides.kind[a] >= 0:
        settle(sides, a)
    else:
        c2, s2 = along(sides.moments[a])
        own = np.arctan2(s2, c2) / 2
        turn(arcs, sides, a, np.cos(own), np.sin(own), -1)
    return True


@kernel
def _tidy_at(arcs: Any, sides: Any, arc: int, i: int, jog: float, step: float, chamfer: float) -> Any:
    """Side number `i` and its neighbours: merge what runs on, drop jogs and cut corners; whether anything changed."""
    base, count = sides.offsets[arc], sides.used[arc]
    ring = arcs.closed[arc] and count > 2
    s = base + i
    before = s - 1 if i > 0 else (base + count - 1 if ring else -1)
    after = s + 1 if i + 1 < count else (base if ring else -1)
    if after >= 0 and _merge(arcs, sides, s, after, jog, chamfer):
        _drop(sides, arc, after - base)
        return True
    length = _length(arcs, sides, s)
    if before < 0 or after < 0:
        if count > 1 and sides.kind[s] < 0 and length < step:
            _drop(sides, arc, i)
            return True
        return False
    a, b = sides.kind[before], sides.kind[after]
    if a < 0 or b < 0:
        return False
    if a == b and not _same_way(sides, before, after):  # the end of something narrow
        if sides.kind[s] < 0 and length < chamfer:
            turn(arcs, sides, s, -sides.line[before, 1], sides.line[before, 0], a ^ 1)
            return True
        return False
    runs_on = a == b and abs(sides.line[before, 2] - sides.line[after, 2]) <= jog
    if (runs_on and length < step) or (sides.kind[s] < 0 and length < chamfer):
        _drop(sides, arc, i)
        return True
    return False


@kernel
def tidy(arcs: Any, sides: Any, jog: float, step: float, chamfer: float) -> None:
    """Merge collinear runs of every arc, and take out short jogs and cut corners between its walls."""
    for arc in range(arcs.offsets.size - 1):
        changed, turn = True, 0
        while changed and turn < 20:
            changed = False
            i = 0
            while i < sides.used[arc]:
                if _tidy_at(arcs, sides, arc, i, jog, step, chamfer):
                    changed = True
                else:
                    i += 1
            turn += 1
