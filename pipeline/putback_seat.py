"""Rows that touch move as one when they are seated, and none is seated on top of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.polygons import Points
from pipeline.putback_shared import TOGETHER
from pipeline.ragged import Ints, ranges
from pipeline.rigid import TOUCH

Seat = Callable[[Ints], Points]
"""The group of each row (rows,) → what is added to each row's move (rows, 2), px of level 1."""

Shapes = tuple[NDArray[Any], Ints]
"""Polygons and points, and the row of each (n,): what can touch."""


def shapes_of(px: Points, rings: tuple[Ints, Ints, NDArray[np.uint8]], wanted: NDArray[np.bool_]) -> Shapes:
    """The shells and points of the `wanted` rows (rows,), from `rings`: ring_offsets, ring_row, ring_kind. Holes do not
    count: what stands in a court moves with what is around it. Lines are left out: a net of roads would bind all."""
    import shapely

    from pipeline.kernels.wkb import POINT, SHELL

    ring_offsets, ring_row, ring_kind = rings
    counts = np.diff(ring_offsets)
    shells = np.flatnonzero((ring_kind == SHELL) & wanted[ring_row] & (counts >= 4))
    points = np.flatnonzero((ring_kind == POINT) & wanted[ring_row])
    drawn = np.empty(0, object)
    if len(shells):
        at = ranges(ring_offsets[shells], ring_offsets[shells + 1])
        closed = shapely.linearrings(px[at], indices=np.repeat(np.arange(len(shells)), counts[shells]))
        drawn = shapely.polygons(closed)
    marks = shapely.points(px[ring_offsets[points]])
    return np.concatenate([drawn, marks]), ring_row[np.concatenate([shells, points])]


def touching(shapes: Shapes, groups: Ints) -> Ints:
    """Groups of rows (rows,) from finer ones: also what comes within TOUCH px of each other hangs together, wherever
    along their sides. Two points never do."""
    import shapely
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    drawn, row = shapes
    areas = shapely.get_dimensions(drawn) == 2
    one, other = shapely.STRtree(drawn).query(drawn[areas], predicate="dwithin", distance=TOUCH)
    one, other = groups[row[np.flatnonzero(areas)[one]]], groups[row[other]]
    count = int(groups.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)[groups]


def apart(shapes: Shapes, groups: Ints, extra: Points) -> Points:
    """What is added to each row's move (rows, 2), without that of groups that would come to lie on another one, where
    they did not before. `shapes` where the field puts them, px."""
    import shapely

    drawn, row = shapes
    went = extra[row].any(axis=1)
    if not went.any():
        return extra
    reach = 2 * float(np.hypot(*extra.T).max())
    one, other = shapely.STRtree(drawn).query(drawn[went], predicate="dwithin", distance=reach)
    one = np.flatnonzero(went)[one]
    some = (groups[row[one]] != groups[row[other]]) & shapely.disjoint(drawn[one], drawn[other])
    one, other, extra = one[some], other[some], extra.copy()
    corners, counts = shapely.get_coordinates(drawn), shapely.get_num_coordinates(drawn)
    while True:
        moved = shapely.set_coordinates(drawn.copy(), corners + np.repeat(extra[row], counts, axis=0))
        clash = shapely.intersects(moved[one], moved[other])
        if not clash.any():
            return extra
        gone = np.zeros(int(groups.max()) + 1, bool)
        gone[groups[row[np.concatenate([one[clash], other[clash]])]]] = True
        extra[gone[groups]] = 0.0


def seated(
    px: Points, step: Points, rings: tuple[Ints, Ints, NDArray[np.uint8]], groups: Ints, movable: NDArray[np.bool_],
    held: NDArray[np.bool_], seat: Seat,
) -> Points:  # fmt: skip
    """What is added to each row's move (rows, 2), px of level 1.

    `px`, `step` (n, 2): vertices, and their moves by the field; `groups` (rows,): movable rows that share points or a
    corner. A group with a row that is `held` (rows,), and one of more than TOGETHER rows, goes by the field alone.
    """
    groups = touching(shapes_of(px, rings, movable), groups)
    alone = np.bincount(groups) > TOGETHER
    alone[groups[held]] = True
    extra = np.where((movable & ~alone[groups])[:, None], seat(groups), 0.0)
    return apart(shapes_of(px + step, rings, movable), groups, extra)
