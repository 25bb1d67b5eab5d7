"""The moved cadaster put back into its own rows and its own CRS: nothing lost, torn or broken (DESIGN 2.5).

Only the bytes of x and y of vertices that moved are replaced, and by adding the displacement to what is
there: a row that stays is the same to the byte. Three promises need more than that:

    shared stays shared   vertices with equal coordinates are one point, and move as one
    pinned                a point of a row that must not move (outside, nodata, invalid, failed) stays
    valid stays valid     rows that would break shrink their move by 1/2, 1/4, then to nothing, and with
                          them all rows they share points with, until nothing is broken

How rows move is a choice. By `vertex` every point goes where the field says. As a `building` each row moves
rigidly: its angles stay, its walls part from its neighbours' (here a point is shared within a row only). As
a `block` all rows that hang together move as one: angles stay, and walls stay shared. A block that touches a
row which must stay, stays; and what would break does not move in part but not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.footprints import (
    EMPTY,
    INVALID,
    NULL,
    OUTSIDE,
    block_keys,
    load,
    read_block,
    valid_rows,
)
from pipeline.polygons import PIECE, Cadaster, Points, to_world, transformer
from pipeline.putback_seat import Rings, Seat, seated
from pipeline.putback_shared import abstaining, groups_of, pinned, share, shrink, stay
from pipeline.ragged import Ints, offsets_of, ranges
from pipeline.rigid import rigid_steps
from pipeline.working import WorkingRaster

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.settings import Move

STATUSES = ("moved", "unmoved", "outside", "nodata", "invalid", "failed")
"""Values of the column `status`, in the order of the codes of `PutBack.status`."""

_MOVED, _UNMOVED, _OUTSIDE, _NODATA, _INVALID, _FAILED = range(6)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PutBack:
    """Every input row, in input order.

    `wkb` large_binary, nulls where they were; `status` (rows,) uint8 into STATUSES; `dx_m`, `dy_m` (rows,)
    float64: the mean shift of the row's vertices, east and north, metres, 0 for rows that stayed; `abstained`
    (rows,) bool: rows that stayed because they were not sure; `settled` (rows,) bool: rows that are where
    their seat says, and `seated` (rows,) bool: those of them that went beyond the field for it.
    """

    wkb: pa.LargeBinaryArray
    status: NDArray[np.uint8]
    dx_m: Floats
    dy_m: Floats
    abstained: NDArray[np.bool_]
    settled: NDArray[np.bool_]
    seated: NDArray[np.bool_]


def put_back(
    cadaster: Cadaster,
    working: WorkingRaster,
    folder: Path,
    moved: Callable[[str], Points | None],
    nodata: NDArray[np.bool_] | None = None,
    how: Move = "vertex",
    sure: Floats | None = None,
    least: float = 0.0,
    seat: Seat | None = None,
) -> PutBack:
    """The cadaster with its vertices where `moved` says, or with its rows or blocks of rows as near to there as
    a rigid motion takes them (`how`).

    `folder` is the cadaster's index; `moved(key)` gives the vertices of a block, (n, 2 or more), px of level
    1 in the order of `read_block(folder, key).xy`, or None if the block failed. `nodata` (rows,) marks rows
    that must stay because the image says nothing there. `sure` (rows,): rows whose confidence, with those they
    share points with, is below `least` abstain: they stay. Shares rest on exact equality of coordinates. `seat` says
    what groups of touching rows are moved by beyond the field.
    """
    import pyarrow as pa

    from pipeline.kernels import wkb

    count = len(cadaster)
    buffer, offsets = cadaster.buffer()
    position, vertex_row, ring_offsets, ring_row, ring_kind, _ = wkb.walk(buffer, offsets)
    row_vertices = offsets_of(np.bincount(vertex_row, minlength=count))
    xy = wkb.read_xy(buffer, position)

    status = _first_status(np.asarray(load(folder, "status")), nodata)
    px, shift, known = np.zeros_like(xy), np.zeros_like(xy), np.zeros(count, dtype=bool)
    for key in block_keys(folder):
        block = read_block(folder, key)
        at = ranges(row_vertices[block.rows], row_vertices[block.rows + 1])
        px[at], known[block.rows] = block.xy, True
        now = moved(key)
        if now is None:
            status[block.rows[status[block.rows] == _UNMOVED]] = _FAILED
            continue
        shift[at] = now[:, :2] - block.xy
        lost = np.zeros(len(block.rows), dtype=bool)
        np.logical_or.at(
            lost,
            np.repeat(np.arange(len(block.rows)), np.diff(block.row_vertices)),
            ~np.isfinite(shift[at]).all(axis=1),
        )
        status[block.rows[lost & (status[block.rows] == _UNMOVED)]] = _FAILED

    movable = status == _UNMOVED
    shared = share(xy, vertex_row, movable, within=how == "building")
    lead = shared.order[shared.starts]  # of a movable row, if the point has any
    factor = movable.astype(np.float64)
    abstained = np.zeros(count, dtype=bool) if sure is None else abstaining(sure, least, movable, shared)
    factor[abstained] = 0.0
    step = np.where(movable[vertex_row[lead], None], shift[lead], 0.0)
    groups: Ints | None = None
    extra, settled = np.zeros((count, 2)), np.zeros(count, dtype=bool)
    if seat is not None and movable.any():
        held = ~movable | abstained
        held[pinned(shared, movable)] = True
        field = px + step[shared.point] * factor[vertex_row, None]
        rings = Rings.of(ring_offsets, ring_row, ring_kind, known)
        extra, settled = seated(rings, px, field, shared, held, seat)
        del field, rings
        more, farther = np.flatnonzero((extra != 0).any(axis=1)[vertex_row]), np.zeros_like(step)
        farther[shared.point[more]] = extra[vertex_row[more]]  # who share a point are of one group, or a line
        step += farther
        del farther
    if how != "vertex":
        goes = np.flatnonzero(movable[vertex_row[lead]])
        place, owner = px[lead[goes]], vertex_row[lead[goes]]
        groups = np.arange(count) if how == "building" else groups_of(shared, movable, goes, place)
        stay(factor, np.union1d(pinned(shared, movable), np.flatnonzero(abstained)), groups)
        turns = np.zeros(count, dtype=bool)  # there are no more groups than rows
        turns[groups[ring_row[ring_kind != wkb.POINT]]] = True
        step[goes] = rigid_steps(place, step[goes], groups[owner], turns)
    delta_of = _mover(cadaster, working, px[lead], step)
    del px, shift  # a city has ten million vertices: what is of one figure a vertex goes when it is used up

    data = buffer.copy()
    arrow = [cadaster.wkb.buffers()[0], pa.py_buffer(offsets.copy()), pa.py_buffer(data)]
    if cadaster.wkb.offset:  # a sliced array's bitmap begins elsewhere
        arrow[0] = pa.py_buffer(np.packbits(np.asarray(cadaster.wkb.is_valid()), bitorder="little"))
    result = pa.LargeBinaryArray.from_buffers(pa.large_binary(), count, arrow) if count else cadaster.wkb

    applied = np.zeros(len(shared.starts))
    broken = np.empty(0, dtype=np.int64)
    while True:
        wanted = shared.least(factor)
        changed = wanted != applied
        vertices = np.flatnonzero(changed[shared.point])
        spread = np.zeros((len(shared.starts), 2))
        spread[changed] = delta_of(np.flatnonzero(changed), wanted[changed])
        for start in range(0, len(vertices), PIECE):
            some = vertices[start : start + PIECE]
            wkb.write_xy(data, position[some], xy[some] + spread[shared.point[some]])
        applied = wanted
        touched = np.union1d(vertex_row[vertices], broken)  # a neighbour may have shortened it already
        del vertices, spread
        touched = touched[movable[touched]]
        broken = touched[~valid_rows(result, touched)]
        if not len(broken):
            break
        if groups is None:
            groups = groups_of(shared, movable)
        if how == "vertex":
            shrink(factor, broken, groups)
        else:  # half a rotation is no rigid motion
            stay(factor, broken, groups)

    del xy, position
    counted = np.ones(len(vertex_row), dtype=bool)
    counted[ring_offsets[1:][ring_kind <= 1] - 1] = False  # a closed ring says its first vertex twice
    weight = np.maximum(np.bincount(vertex_row[counted], minlength=count), 1)
    shift_of = applied[:, None] * step
    means = np.zeros((count, 2))
    for axis in range(2):
        each = shift_of[shared.point[counted], axis]
        means[:, axis] = np.bincount(vertex_row[counted], weights=each, minlength=count) / weight
    means[~movable] = 0.0
    went = np.zeros(count, dtype=bool)
    went[vertex_row[(shift_of != 0).any(axis=1)[shared.point]]] = True
    status[movable & went] = _MOVED
    east, north = means[:, 0] * working.gsd, -means[:, 1] * working.gsd
    settled &= factor == 1.0
    return PutBack(result, status, east, north, abstained, settled, settled & (extra != 0).any(axis=1))


def _first_status(index: NDArray[np.uint8], nodata: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Codes into STATUSES before anything has moved: unmoved for every row that may."""
    status = np.full(len(index), _UNMOVED, dtype=np.uint8)
    status[index == OUTSIDE] = _OUTSIDE
    status[np.isin(index, (INVALID, EMPTY, NULL))] = _INVALID
    if nodata is not None:
        status[nodata & (status == _UNMOVED)] = _NODATA
    return status


def _mover(cadaster: Cadaster, working: WorkingRaster, px: Points, step: Points) -> Callable[[Ints, Floats], Points]:
    """(points, factors) → what to add to their coordinates in the cadaster's CRS; exactly 0 for no step."""
    project = transformer(working.crs, cadaster.crs)
    a, e = working.transform[0], working.transform[4]

    def delta(points: Ints, factor: Floats) -> Points:
        part = step[points] * factor[:, None]
        if project is None:
            return part * (a, e)
        out = project(to_world(px[points] + part, working)) - project(to_world(px[points], working))
        return np.where((part == 0).all(axis=1)[:, None], 0.0, out)

    return delta


