"""Rigid motions: what hangs together moves by one rotation and one shift, so its angles and sides stay.

A field moves every vertex a little differently, and with it a right angle becomes nearly right. Where the
angles of a cadaster are worth more than its shared walls, each row takes the motion that is nearest to its
vertices' own in the least squares (Kabsch, in the plane); where both count, each block of touching rows does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.polygons import Points
from pipeline.ragged import Ints

TURN = np.radians(5.0)
"""Largest rotation. Cadasters are turned by less; three vertices in a restless field would give any angle."""

TOUCH = 0.1
"""px of level 1: points of two rows that are this near are one corner, drawn twice with different rounding."""


def hang_together(row: Ints, point: Ints, shape: tuple[int, int], near: tuple[Ints, Points] | None = None) -> Ints:
    """For each row the number of its group: rows that share a point, and what these share points with.

    `row`, `point` (n,) say which row has a vertex at which point; `shape` (rows, points). `near` are points
    (k,) and where they are (k, 2), px: those within TOUCH of each other count as the same. Groups are
    numbered from 0 in the order of their first rows.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    rows, points = shape
    if rows == 0:
        return np.empty(0, dtype=np.int64)
    one, other = row, point + rows
    if near is not None and len(near[0]):
        pairs = near[0][cKDTree(near[1]).query_pairs(TOUCH, output_type="ndarray")] + rows
        one, other = np.append(one, pairs[:, 0]), np.append(other, pairs[:, 1])
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(rows + points, rows + points))
    return np.asarray(connected_components(graph, directed=False)[1][:rows], dtype=np.int64)


def rigid_steps(px: Points, step: Points, group: Ints, turns: NDArray[np.bool_]) -> Points:
    """The steps of points (n, 2) px when each group of them moves rigidly, as near to `step` as it can.

    `px`, `step` (n, 2): where a point is and where it would go by itself; `group` (n,) int64 from 0;
    `turns` (groups,) whether a group may rotate, by TURN at most: what has points only cannot be turned.
    """
    counts = np.maximum(np.bincount(group, minlength=len(turns)), 1)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(group, weights=values, minlength=len(turns)) / counts

    middle = np.column_stack([mean(px[:, 0]), mean(px[:, 1])])
    shift = np.column_stack([mean(step[:, 0]), mean(step[:, 1])])
    arm = px - middle[group]
    there = arm + step - shift[group]
    along = mean((arm * there).sum(axis=1))
    across = mean(arm[:, 0] * there[:, 1] - arm[:, 1] * there[:, 0])
    angle = np.where(turns, np.clip(np.arctan2(across, along), -TURN, TURN), 0.0)
    # R - 1 and not R: the step of a point that hardly moves keeps its digits.
    less, sine = (-2.0 * np.sin(angle / 2) ** 2)[group, None], np.sin(angle)[group, None]
    turned = np.column_stack([-arm[:, 1], arm[:, 0]])
    return np.asarray(shift[group] + arm * less + turned * sine)
