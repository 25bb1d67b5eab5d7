"""Points that rows share, and rows that hang together by them: who must move, shrink or stay with whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.polygons import PIECE, Points
from pipeline.ragged import Ints
from pipeline.rigid import hang_together

TOGETHER = 1000
"""Rows that share points and shrink as one. A parcel fabric that covers a country is one such group:
there only the broken row's own points shrink."""

_SHORTER = {1.0: 0.5, 0.5: 0.25, 0.25: 0.0, 0.0: 0.0}

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shared:
    """Vertices of all rows, and the points they are at: vertices with equal coordinates share one point.

    `order` sorts vertices by point, `starts` (points,) where each point's begin in it, `point` (vertices,).
    """

    vertex_row: Ints
    order: Ints
    starts: Ints
    point: Ints

    def least(self, of_rows: Floats) -> Floats:
        """For each point the least of a figure over the rows that have a vertex there."""
        if not len(self.starts):
            return np.empty(0)
        return np.asarray(np.minimum.reduceat(of_rows[self.vertex_row[self.order]], self.starts))


def share(xy: Points, vertex_row: Ints, movable: NDArray[np.bool_], within: bool) -> Shared:
    """Vertices by exactly equal coordinates, `within` a row or of all; movable rows' come first at each point."""
    first = vertex_row if within else ~movable[vertex_row]
    order = np.lexsort((first, xy[:, 1], xy[:, 0]))  # 0.0 and -0.0 sort as the same place
    new = np.ones(len(order), dtype=bool)
    for start in range(1, len(order), PIECE):
        some = order[start - 1 : start + PIECE]
        new[start : start + PIECE] = (xy[some[1:]] != xy[some[:-1]]).any(axis=1)
        if within:
            new[start : start + PIECE] |= vertex_row[some[1:]] != vertex_row[some[:-1]]
    point = np.empty(len(order), dtype=np.int64)
    point[order] = np.cumsum(new) - 1
    return Shared(vertex_row, order, np.flatnonzero(new), point)


def groups_of(shared: Shared, movable: NDArray[np.bool_], places: Ints | None = None, at: Points | None = None) -> Ints:
    """For each row the number of the group of movable rows that hang together (`rigid.hang_together`)."""
    edge = movable[shared.vertex_row]
    near = None if at is None or places is None else (places, at)
    return hang_together(shared.vertex_row[edge], shared.point[edge], (len(movable), len(shared.starts)), near)


def pinned(shared: Shared, movable: NDArray[np.bool_]) -> Ints:
    """Movable rows that have a point in common with a row that must stay."""
    held = shared.least(movable.astype(np.float64)) == 0.0
    rows = shared.vertex_row[held[shared.point]]
    return np.unique(rows[movable[rows]])


def shrink(factor: Floats, broken: Ints, groups: Ints) -> None:
    """Shorten the moves of `broken` rows, in place, with all of their groups where these are small."""
    sizes = np.bincount(groups)
    hit = np.unique(groups[broken])
    together = hit[sizes[hit] <= TOGETHER]
    members = np.flatnonzero(np.isin(groups, together) & (factor > 0))
    least = np.ones(len(sizes))
    np.minimum.at(least, groups[members], factor[members])
    for row in np.concatenate([members, broken[sizes[groups[broken]] > TOGETHER]]).tolist():
        alone = sizes[groups[row]] > TOGETHER
        factor[row] = _SHORTER[float(factor[row] if alone else least[groups[row]])]


def stay(factor: Floats, rows: Ints, groups: Ints) -> None:
    """Let `rows` and all of their groups stay, in place."""
    stays = np.zeros(groups.max(initial=-1) + 1, dtype=bool)
    stays[groups[rows]] = True
    factor[stays[groups]] = 0.0


def abstaining(sure: Floats, least: float, movable: NDArray[np.bool_], shared: Shared) -> NDArray[np.bool_]:
    """Movable rows (rows,) that are not sure enough to move: rows that hang together decide by their mean.

    `sure` (rows,) is each row's confidence, NaN for rows without one. In groups of more than TOGETHER every row
    decides for itself.
    """
    judged = movable & np.isfinite(sure)
    if not (sure[judged] < least).any():
        return np.zeros(len(sure), dtype=bool)
    group = groups_of(shared, movable)
    sizes = np.bincount(group[judged], minlength=len(sure))
    means = np.bincount(group[judged], weights=sure[judged], minlength=len(sure)) / np.maximum(sizes, 1)
    return judged & np.where(sizes[group] <= TOGETHER, means[group] < least, sure < least)
