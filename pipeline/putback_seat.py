"""Rows that touch are seated as one, and none is seated on top of another.

Only rows with outlines are seated. Lines stay with the field but for vertices that they share with a building: a net of
roads would bind a whole city. Points go with the smallest building that they are on. A park around houses does not bind
them: what counts is where outlines come together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.polygons import Points
from pipeline.putback_shared import TOGETHER, Shared, groups_of
from pipeline.ragged import Ints, offsets_of, ranges
from pipeline.rigid import TOUCH

Seat = Callable[[Ints], Points]
"""The group of each row (rows,) → what is added to each row's move (rows, 2), px of level 1."""

PIECE = 50_000
"""Rings that are looked at at a time: a country has ten million, and each as an object takes a kilobyte."""

Bools = NDArray[np.bool_]
Pairs = tuple[Ints, Ints]


@dataclass(frozen=True, slots=True)
class Rings:
    """What can touch: rings of rows with outlines, shells and holes, and points.

    `offsets` (n + 1,) and `vertex` say which vertices they are of, `row` (n,) whose, `shell` and `point` (n,) what.
    """

    vertex: Ints
    offsets: Ints
    row: Ints
    shell: Bools
    point: Bools

    @classmethod
    def of(cls, ring_offsets: Ints, ring_row: Ints, ring_kind: NDArray[np.uint8], known: Bools) -> Rings:
        """Of all runs of a cadaster those of rows (rows,) that are `known` and have no line."""
        from pipeline.kernels.wkb import LINE, POINT, SHELL

        lines = np.zeros(len(known), bool)
        lines[ring_row[ring_kind == LINE]] = True
        counts = np.diff(ring_offsets)
        wanted = (known & ~lines)[ring_row] & ((ring_kind == POINT) | (counts >= 4))
        runs = np.flatnonzero(wanted)
        vertex = ranges(ring_offsets[runs], ring_offsets[runs + 1])
        kind = ring_kind[runs]
        return cls(vertex, offsets_of(counts[runs]), ring_row[runs], kind == SHELL, kind == POINT)

    def boxes(self, px: Points) -> Points:
        """x0, y0, x1, y1 of each (n, 4), px."""
        if not len(self.row):
            return np.zeros((0, 4))
        at = px[self.vertex]
        low, high = (np.asarray(reduce.reduceat(at, self.offsets[:-1])) for reduce in (np.minimum, np.maximum))
        return np.concatenate([low, high], axis=1)

    def drawn(
        self, px: Points, which: Ints, *, shift: Points | None = None, filled: bool = False
    ) -> NDArray[Any]:
        """Some as shapely geometries: points, and rings, moved by a `shift` each, as lines or `filled`."""
        import shapely

        out = np.empty(len(which), object)
        points = self.point[which]
        out[points] = shapely.points(px[self.vertex[self.offsets[which[points]]]])
        rings = which[~points]
        if len(rings):
            at = self.vertex[ranges(self.offsets[rings], self.offsets[rings + 1])]
            counts = np.diff(self.offsets)[rings]
            xy = px[at] if shift is None else px[at] + np.repeat(shift[~points], counts, axis=0)
            closed = shapely.linearrings(xy, indices=np.repeat(np.arange(len(rings)), counts))
            out[~points] = shapely.polygons(closed) if filled else closed
        return out


def near_boxes(boxes: Points, reach: float) -> Iterator[Pairs]:
    """Pairs i, j (n,) of boxes (n, 4) that are within `reach` of each other in x and in y, each once, in pieces."""
    import shapely

    order = np.argsort(boxes[:, 0], kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    for start in range(0, len(order), PIECE):
        own = order[start : start + PIECE]
        left, right = boxes[own, 0].min() - reach, boxes[own, 2].max() + reach
        others = order[start:]  # what comes before has found these itself
        others = others[(boxes[others, 0] <= right) & (boxes[others, 2] >= left)]
        one, other = shapely.STRtree(shapely.box(*boxes[others].T)).query(
            shapely.box(*(boxes[own] + (-reach, -reach, reach, reach)).T)
        )
        one, other = own[one], others[other]
        once = rank[one] < rank[other]
        yield one[once], other[once]


def touching(rings: Rings, px: Points, shared: Shared) -> Ints:
    """The group of each row (rows,): rows with outlines that share points or come within TOUCH px of each other, and
    points on them; every other row for itself. Two points, and a building and what only lies inside it, do not bind."""
    import shapely
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = int(shared.vertex_row.max(initial=-1)) + 1
    area = np.zeros(count, bool)
    area[rings.row[rings.shell]] = True
    groups = groups_of(shared, area)
    boxes, edges = rings.boxes(px), [np.zeros((2, 0), np.int64)]
    host, size = np.full(count, -1), np.full(count, np.inf)
    for one, other in near_boxes(boxes, TOUCH):
        bind = ~rings.point[one] & ~rings.point[other] & (groups[rings.row[one]] != groups[rings.row[other]])
        some, place = np.unique(np.concatenate([one[bind], other[bind]]), return_inverse=True)
        drawn = rings.drawn(px, some)[place]
        close = shapely.dwithin(drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :], TOUCH)
        edges.append(groups[np.stack([rings.row[one[bind]], rings.row[other[bind]]])[:, close]])
        for mark, shell in ((one, other), (other, one)):
            on = rings.point[mark] & rings.shell[shell]
            place_of, inside = np.flatnonzero(on), rings.drawn(px, shell[on], filled=True)
            hit = shapely.dwithin(rings.drawn(px, mark[on]), inside, TOUCH)
            where = place_of[hit]
            for k, area_px in zip(where.tolist(), shapely.area(inside[hit]).tolist(), strict=True):
                if area_px < size[rings.row[mark[k]]]:
                    size[rings.row[mark[k]]], host[rings.row[mark[k]]] = area_px, rings.row[shell[k]]
    guests = np.flatnonzero(host >= 0)
    edges.append(groups[np.stack([guests, host[guests]])])
    pairs, names = np.concatenate(edges, axis=1), int(groups.max(initial=-1)) + 1
    graph = coo_array((np.ones(pairs.shape[1], np.int8), (pairs[0], pairs[1])), shape=(names, names))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)[groups]


def apart(rings: Rings, place: Points, groups: Ints, extra: Points) -> Points:
    """What is added to each row's move (rows, 2), without that of groups whose outlines would come to cross others that
    they did not meet before. `place` (n, 2): vertices where the field puts them, px."""
    import shapely

    went, extra = (extra != 0).any(axis=1), extra.copy()
    if not went.any():
        return extra
    reach = 2 * float(np.hypot(*extra.T).max())
    found = []
    for one, other in near_boxes(rings.boxes(place), reach):
        some = (went[rings.row[one]] | went[rings.row[other]]) & ~rings.point[one] & ~rings.point[other]
        some &= groups[rings.row[one]] != groups[rings.row[other]]
        found.append(np.stack([one[some], other[some]]))
    pairs = np.concatenate(found, axis=1)
    while pairs.shape[1]:
        clash = np.zeros(pairs.shape[1], bool)
        for start in range(0, pairs.shape[1], PIECE):
            some, back = np.unique(pairs[:, start : start + PIECE], return_inverse=True)
            now, later = rings.drawn(place, some), rings.drawn(place, some, shift=extra[rings.row[some]])
            one, other = back.reshape(2, -1)
            meet = np.flatnonzero(shapely.intersects(later[one], later[other]))
            clash[start + meet] = ~shapely.intersects(now[one[meet]], now[other[meet]])
        gone = np.zeros(int(groups.max()) + 1, bool)
        gone[groups[rings.row[pairs[:, clash]]]] = True
        gone &= np.bincount(groups, extra.any(axis=1), len(gone)) > 0  # of two that clash one may have stayed already
        extra[gone[groups]] = 0.0
        pairs = pairs[:, gone[groups[rings.row[pairs]]].any(axis=0)]  # only around these is anything new
    return extra


def seated(
    rings: Rings, px: Points, place: Points, shared: Shared, held: Bools, seat: Seat
) -> tuple[Points, Bools]:
    """What is added to each row's move (rows, 2), px of level 1, and for which rows (rows,) their seats' word holds.

    `px`, `place` (n, 2): vertices where they were, and where the field puts them. A group with a row that is `held`
    (rows,), and one of more than TOGETHER rows, goes by the field alone.
    """
    groups = touching(rings, px, shared)
    asked = np.bincount(groups) <= TOGETHER
    asked[groups[held]] = False
    wanted = np.where(asked[groups][:, None], seat(groups), 0.0)
    extra = apart(rings, place, groups, wanted)
    return extra, asked[groups] & (extra == wanted).all(axis=1)
