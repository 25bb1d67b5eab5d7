"""A component beyond the cap, split by fixed windows, one after the other, in the memory of one window.

A mask that covers a city is one component that no machine holds. It is cut, and the cut is healed:

    - windows are fixed to the scene, whatever the tile: cores of 2 048 px that see 256 px more each side;
    - each is split on its own, over the pixels of this component only;
    - neighbours' instances are one where each is the other's best by IoU in the 512 px strip that both
      saw (`seams.match`): never because they touch, so party walls at a seam stay walls;
    - an instance keeps its pixels in its window's core; joined ones are dissolved across the core line,
      and one without a partner ends there. So each pixel is in exactly one building.

    core A |<- strip ->| core B          A saw a, B saw b; IoU of a and b within the strip
        [  a  |:::|    ]
           [  |:::|  b    ]

Windows come in row-major order. What is kept of them is the labels in one row's strips, and vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.buildings import (
    Integers,
    Ragged,
    SplitPart,
    empty_part,
    join_polygons,
    offsets_of,
    take_polygons,
)
from pipeline.faces import FaceRecord, face_record
from pipeline.grid import Tile, TileGrid, Window
from pipeline.kernels import components, instances
from pipeline.kernels import split as splitter
from pipeline.kernels.jit import plain
from pipeline.seams import NEAR_MISS, LargeComponent, match, unite, unite_pairs
from pipeline.stages.outlines import simplified, trace_runs
from pipeline.stages.split import THRESHOLD, Bytes, Flags, Labels

CORE = 2048
"""Side, px of the mask level, of the fixed windows that split a component beyond the cap."""

OVERLAP = 256
"""Pixels that such a window sees beyond its core: 77 m at 0.3 m, more than nearly all buildings' half."""

Read = Callable[[Window], tuple[Bytes, Flags]]
"""Scores (2, h, w) uint8 and valid (h, w) bool of a window inside the scene, at the mask level."""


@dataclass(frozen=True, slots=True)
class SeamAudit:
    """Pairs of instances of neighbouring windows that both reach the line between them; s rows.

    `merged` or not; those that are not but come near (IoU from `seams.NEAR_MISS`) are kept as well.
    """

    building_a: Integers  # (s,) id that the pair's first has in the end
    building_b: Integers
    row: Integers  # (s,) px of the mask level: corner of the later window's core
    column: Integers
    pixels: Integers  # (s,) that both saw in the strip
    iou: npt.NDArray[np.float64]  # (s,) in the strip
    merged: Flags


def empty_audit() -> SeamAudit:
    """No seams: the usual case."""
    none = np.zeros(0, np.int64)
    return SeamAudit(none, none, none, none, none, np.zeros(0), np.zeros(0, np.bool_))


def valid_scores(read: Read, window: Window) -> tuple[Bytes, Bytes, Flags]:
    """Mask scores (0 over nodata), touching scores and valid pixels of a window."""
    scores, valid = read(window)
    seen = plain(valid, np.bool_)
    return np.where(seen, scores[0], 0).astype(np.uint8), plain(scores[1], np.uint8), seen


def _members(read: Read, component: LargeComponent, grid: TileGrid) -> dict[tuple[int, int], Labels] | None:
    """For each window, the labels of its core that belong to the component; None if it is not found."""

    def records() -> Iterator[tuple[Tile, FaceRecord]]:
        for tile in grid.touching(component.box):
            mask_scores, _, _ = valid_scores(read, tile.core)
            labels, count = components.label(mask_scores > THRESHOLD)
            yield tile, face_record(labels, count, tile.core, grid.shape, cap=0)

    united = unite(records(), grid)
    found = np.flatnonzero(united.first == component.first)
    box = component.box
    if not found.size or tuple(united.boxes[found[0]]) != (box.y0, box.x0, box.y1, box.x1):
        return None
    chosen = {place: labels[of == found[0]] for place, (labels, of) in united.of.items()}
    return {place: labels for place, labels in chosen.items() if labels.size}


@dataclass(slots=True)
class _Pieces:
    """What is kept of the windows so far: instances by running number, with what they add up to."""

    total: int = 0
    first: list[Integers] = field(default_factory=list)
    sums: list[Integers] = field(default_factory=list)  # (n, 5) pixels, score, edge sum, edge count, nodata
    owner: list[Integers] = field(default_factory=list)  # instance of each polygon
    polygons: list[Ragged] = field(default_factory=list)
    pairs: list[npt.NDArray[np.float64]] = field(default_factory=list)  # a, b, row, column, pixels, iou, merged


def _split_window(
    read: Read, tile: Tile, members: Labels, shape: tuple[int, int], min_pixels: int, pieces: _Pieces
) -> npt.NDArray[np.int64]:
    """Split one window over the component's pixels; its instances join `pieces`.

    Returns (h, w) running number + 1 of the instance at each pixel of the window clipped to the scene,
    0 where there is none, where it lies in the halo alone, and in specks that lie in the core whole.
    """
    window = tile.read.clip(shape)
    mask_scores, touching, valid = valid_scores(read, window)
    core = tile.core.slices(window)
    mask = mask_scores > THRESHOLD
    inner, count = components.label(np.ascontiguousarray(mask[core]))
    member = np.zeros(count + 1, np.bool_)
    member[members] = True
    around, count = components.label(mask)
    keep = np.zeros(count + 1, np.bool_)
    keep[np.unique(around[core][member[inner]])] = True
    keep[0] = True
    labels, count = splitter.split(np.where(keep[around], mask_scores, 0).astype(np.uint8), touching, THRESHOLD)

    own = np.zeros_like(labels)
    own[core] = labels[core]
    runs = instances.runs(own)
    table = instances.properties(runs, count)
    speck = (table["area"] < min_pixels) & (table["area"] == components.properties(labels, count)["area"])
    stays = (table["area"] > 0) & ~speck
    kept = np.flatnonzero(stays)
    sums = instances.measure(runs, count, mask_scores, touching, valid, THRESHOLD)
    number = np.zeros(count + 1, np.int32)
    number[kept + 1] = np.arange(1, kept.size + 1)
    polygons, of = trace_runs(instances.only(runs, stays), window)
    table = table[kept]
    pieces.first.append((table["first_y"] + window.y0) * shape[1] + table["first_x"] + window.x0)
    pieces.sums.append(np.stack([table["area"], *(column[kept].astype(np.int64) for column in sums)], axis=1))
    pieces.polygons.append(polygons)
    pieces.owner.append(pieces.total + number[of].astype(np.int64) - 1)
    numbers = np.where(number > 0, number + np.int64(pieces.total), 0)[labels]
    pieces.total += kept.size
    return numbers


def _compare(
    one: npt.NDArray[np.int64],
    other: npt.NDArray[np.int64],
    line: int,
    axis: int,
    later: Window,
    pieces: _Pieces,
) -> None:
    """Match two windows' numbers of the same strip; only what reaches the line on its own side counts.

    `line` is where, along `axis`, the strip passes from the earlier window's core into the later's.
    """
    base_a = int(one[one > 0].min(initial=np.iinfo(np.int64).max)) - 1
    base_b = int(other[other > 0].min(initial=np.iinfo(np.int64).max)) - 1
    if not one.any() or not other.any():
        return
    a, b, shared, iou, same = match(
        np.where(one > 0, one - base_a, 0).astype(np.int32),
        np.where(other > 0, other - base_b, 0).astype(np.int32),
    )
    before, after = np.split(one, [line], axis=axis)[0], np.split(other, [line], axis=axis)[1]
    # An instance that lies on one side only has nothing to join; it would only fill the audit.
    on_sides = np.isin(a + base_a, before) & np.isin(b + base_b, after)
    kept = on_sides & (same | (iou >= NEAR_MISS))
    rows = np.stack(
        [
            (a + base_a - 1).astype(np.float64),
            (b + base_b - 1).astype(np.float64),
            np.full(a.size, float(later.y0)),
            np.full(a.size, float(later.x0)),
            shared.astype(np.float64),
            iou,
            same.astype(np.float64),
        ],
        axis=1,
    )
    pieces.pairs.append(rows[kept])


def split_by_windows(
    read: Read,
    component: LargeComponent,
    shape: tuple[int, int],
    tolerance: float,
    core: int,
    overlap: int,
    min_pixels: int,
) -> tuple[SplitPart, SeamAudit]:
    grid = TileGrid(shape, core, overlap)
    members = _members(read, component, grid)
    if members is None:
        return empty_part(), empty_audit()
    pieces = _Pieces()
    above: dict[int, npt.NDArray[np.int64]] = {}  # by column: strip across the line below that window
    for row in sorted({place[0] for place in members}):
        below: dict[int, npt.NDArray[np.int64]] = {}
        beside: tuple[int, npt.NDArray[np.int64]] | None = None
        for column in sorted(place[1] for place in members if place[0] == row):
            tile = grid.tile(row, column)
            window = tile.read.clip(shape)
            numbers = _split_window(read, tile, members[row, column], shape, min_pixels, pieces)
            rows, columns = tile.core.slices(window)
            if beside is not None and beside[0] == column - 1:
                strip = numbers[rows, : columns.start + overlap]
                width = min(strip.shape[1], beside[1].shape[1])
                _compare(beside[1][:, :width], strip[:, :width], columns.start, 1, tile.core, pieces)
            if column in above:
                strip = numbers[: rows.start + overlap, columns]
                height = min(strip.shape[0], above[column].shape[0])
                _compare(above[column][:height], strip[:height], rows.start, 0, tile.core, pieces)
            beside = (column, numbers[rows, max(columns.stop - overlap, 0) :].copy())
            below[column] = numbers[max(rows.stop - overlap, 0) :, columns].copy()
        above = {column: strip for column, strip in below.items() if (row + 1, column) in members}
    return _dissolve(pieces, tolerance, min_pixels)


def _dissolve(pieces: _Pieces, tolerance: float, min_pixels: int) -> tuple[SplitPart, SeamAudit]:
    """Join the instances that were matched, across any number of windows, and simplify the whole."""
    pairs = np.concatenate([np.zeros((0, 7)), *pieces.pairs])
    merged = pairs[:, 6] > 0
    root = unite_pairs(pieces.total, pairs[merged, :2].astype(np.int64))
    first = np.full(pieces.total, np.iinfo(np.int64).max)
    np.minimum.at(first, root, np.concatenate(pieces.first))
    sums = np.zeros((pieces.total, 5), np.int64)
    np.add.at(sums, root, np.concatenate(pieces.sums))
    heads = np.flatnonzero(sums[:, 0] >= max(min_pixels, 1))
    heads = heads[np.argsort(first[heads])]
    rank = np.full(pieces.total, -1)
    rank[heads] = np.arange(heads.size)

    owner = rank[root[np.concatenate(pieces.owner)]]
    order = np.argsort(owner, kind="stable")
    order = order[owner[order] >= 0]
    used = rank[root]
    joined = np.bincount(used[used >= 0], minlength=heads.size) > 1
    polygons = take_polygons(join_polygons(pieces.polygons), order)
    polygons, owner = _dissolved(polygons, owner[order], joined)
    polygons = simplified(polygons, np.zeros_like(owner), tolerance)
    table = sums[heads]
    coords, ring_offsets, polygon_offsets = polygons
    part = SplitPart(
        building_id=first[heads],
        pixels=table[:, 0].copy(),
        score_sum=table[:, 1].copy(),
        edge_sum=table[:, 2].copy(),
        edge_count=table[:, 3].copy(),
        touches_nodata=table[:, 4] > 0,
        coords=coords,
        ring_offsets=ring_offsets,
        polygon_offsets=polygon_offsets,
        building_offsets=offsets_of(np.bincount(owner, minlength=heads.size)),
    )
    one, other, row, column, shared = pairs[:, :5].T.astype(np.int64)
    return part, SeamAudit(first[root[one]], first[root[other]], row, column, shared, pairs[:, 5], merged)


def _dissolved(polygons: Ragged, owner: Integers, joined: Flags) -> tuple[Ragged, Integers]:
    """Polygons (sorted by owner) with those of each joined owner united across the core lines."""
    import shapely

    todo = joined[owner]
    if not todo.any():
        return polygons, owner
    coords, ring_offsets, polygon_offsets = take_polygons(polygons, np.flatnonzero(todo))
    shapes = shapely.from_ragged_array(shapely.GeometryType.POLYGON, coords, (ring_offsets, polygon_offsets))
    heads, starts = np.unique(owner[todo], return_index=True)
    united = [shapely.union_all(group) for group in np.split(shapes, starts[1:])]
    flat, index = shapely.get_parts(np.array(united, dtype=object), return_index=True)
    # Whole numbers and axis-parallel edges: the union is exact; simplify(0) drops points inside an edge.
    flat = shapely.orient_polygons(shapely.simplify(flat, 0.0), exterior_cw=True)
    _, coords, offsets = shapely.to_ragged_array(flat)
    done: Ragged = (np.asarray(coords), np.asarray(offsets[0], np.int64), np.asarray(offsets[1], np.int64))
    rest = np.flatnonzero(~todo)
    owners = np.concatenate([owner[rest], heads[index]])
    order = np.argsort(owners, kind="stable")
    return take_polygons(join_polygons([take_polygons(polygons, rest), done]), order), owners[order]
