"""What crosses from one tile into the next: components by exact union, instances by mutual-best IoU.

A connected component of the mask depends on its own pixels alone, so components are exact: every tile
hands up the pieces of its core that reach a neighbour (`face_record`), the driver unites them
(`find_large`) and names those that no tile saw whole. Where even one component is too large to be held,
fixed windows split it, and `match` says which instance of a window is which of the next.

    core A | core B        labels on A's last and B's first column meet 8-connected:
       .. 3|3 ..           row i meets rows i - 1, i, i + 1; corners meet their diagonal
       .. 3|. ..
       .. .|4 ..           3 and 4 are one component
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.buildings import read_arrays
from pipeline.grid import Tile, TileGrid, Window
from pipeline.kernels import components

Integers = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int32]
Place = tuple[int, int]
"""Row and column of a tile in its grid."""

CAP = 64_000_000
"""Pixels of the largest bounding box that is split in one piece: about 1.2 GB at work, under a worker's
2 GiB. At 0.3 m a pixel it is a square of 2.4 km."""

MIN_IOU = 0.5
"""Least IoU in the shared strip for two windows' instances to be one. Above one half nothing else can be
the better partner of either, so the best is mutual; below it, it is as likely a neighbour."""

NEAR_MISS = 0.1
"""Pairs from this IoU up are kept in the audit although they were not merged."""


@dataclass(frozen=True, slots=True)
class FaceRecord:
    """Components of a tile's core that reach a neighbour, or are larger than the cap; m of them.

    Boxes are half-open px of the level, in the scene; `first` is row · width + column of the piece's first
    pixel. The four faces are the label of each core pixel along them (0: not listed), corners in both.
    """

    label: Labels  # (m,)
    y0: Integers
    x0: Integers
    y1: Integers
    x1: Integers
    area: Integers
    first: Integers
    top: Labels  # (core width,)
    bottom: Labels
    left: Labels  # (core height,)
    right: Labels


def face_arrays(record: FaceRecord) -> dict[str, npt.NDArray[Any]]:
    """The record's arrays by column name, for `buildings.write_arrays`, beside the part's."""
    return {f"face_{field.name}": getattr(record, field.name) for field in fields(record)}


def read_faces(path: Path) -> FaceRecord:
    """The face record of a part file; the buildings in it are not read."""
    return FaceRecord(**read_arrays(path, "face_"))


@dataclass(frozen=True, slots=True, order=True)
class LargeComponent:
    """A component that no tile saw whole. `box` is its bounding box, px of the level."""

    first: int  # row · width + column of its first pixel
    box: Window
    area: int  # pixels
    windowed: bool  # its box is over the cap: split by fixed windows

    @property
    def key(self) -> str:
        """Name in receipts; the same for every tile size."""
        return f"component{self.first:015d}"


def face_record(
    labels: Labels, count: int, core: Window, shape: tuple[int, int], cap: int = CAP
) -> FaceRecord:
    """The record of a tile's core from its own components (`components.label` of the core alone)."""
    top, bottom = labels[0].copy(), labels[-1].copy()
    left, right = labels[:, 0].copy(), labels[:, -1].copy()
    table = components.properties(labels, count)
    y0, x0 = table["y0"].astype(np.int64) + core.y0, table["x0"].astype(np.int64) + core.x0
    y1, x1 = table["y1"].astype(np.int64) + core.y0, table["x1"].astype(np.int64) + core.x0
    first = (table["first_y"].astype(np.int64) + core.y0) * shape[1] + table["first_x"] + core.x0
    reaches = (y1 - y0) * (x1 - x0) > cap
    for face, inner in (
        (top, core.y0 > 0),
        (bottom, core.y1 < shape[0]),
        (left, core.x0 > 0),
        (right, core.x1 < shape[1]),
    ):
        if inner:
            reaches[face[face > 0] - 1] = True
    listed = np.concatenate([np.zeros(1, np.bool_), reaches])
    top, bottom, left, right = (
        np.where(listed[face], face, 0).astype(np.int32) for face in (top, bottom, left, right)
    )
    rows = np.flatnonzero(reaches)
    area = table["area"].astype(np.int64)
    return FaceRecord(
        label=(rows + 1).astype(np.int32),
        y0=y0[rows],
        x0=x0[rows],
        y1=y1[rows],
        x1=x1[rows],
        area=area[rows],
        first=first[rows],
        top=top,
        bottom=bottom,
        left=left,
        right=right,
    )


def _touching(one: Labels, other: Labels) -> npt.NDArray[np.int64]:
    """Pairs of labels that meet along a face, 8-connected; (k, 2), each once."""
    pairs = [
        np.stack([a, b], axis=1)[(a > 0) & (b > 0)]
        for a, b in ((one, other), (one[:-1], other[1:]), (one[1:], other[:-1]))
    ]
    return np.unique(np.concatenate(pairs).astype(np.int64), axis=0)


def _meetings(
    place: Place, record: FaceRecord, known: dict[Place, FaceRecord]
) -> Iterator[tuple[Place, Integers]]:
    """Label pairs of a record with each neighbour that is known: (neighbour, (k, 2) own and other label)."""
    row, column = place
    for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
        other = known.get((row + dy, column + dx))
        if other is None:
            continue
        if dx == 0:
            pairs = _touching(*((record.top, other.bottom) if dy < 0 else (record.bottom, other.top)))
        elif dy == 0:
            pairs = _touching(*((record.left, other.right) if dx < 0 else (record.right, other.left)))
        else:
            own, theirs = (record.top, other.bottom) if dy < 0 else (record.bottom, other.top)
            pairs = _touching(own[:1], theirs[-1:]) if dx < 0 else _touching(own[-1:], theirs[:1])
        if pairs.size:
            yield (row + dy, column + dx), pairs


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _roots(count: int, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Union-find: the smallest member of each element's set."""
    parent = np.arange(count)
    for k in range(pairs.shape[0]):
        a, b = pairs[k, 0], pairs[k, 1]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        parent[max(a, b)] = min(a, b)
    for k in range(count):  # parents come first, so one pass is enough
        parent[k] = parent[parent[k]]
    return parent


def unite_pairs(count: int, pairs: Integers) -> Integers:
    """Smallest element of the set that each of `count` elements is in, after joining `pairs` (k, 2)."""
    return np.asarray(_roots(count, np.ascontiguousarray(pairs.reshape(-1, 2))))


@dataclass(frozen=True, slots=True)
class United:
    """Components of the scene that reach over a face; g of them. `of` maps a tile's labels to them."""

    first: Integers  # (g,)
    boxes: Integers  # (g, 4) y0, x0, y1, x1
    area: Integers  # (g,)
    of: dict[Place, tuple[Labels, Integers]]  # (row, column) -> local labels, component index


def unite(faces: Iterable[tuple[Tile, FaceRecord]], grid: TileGrid) -> United:
    """Unite the face records of a grid, in any order; a tile without a record counts as empty.

    Faces are dropped once all neighbours were met, so that in row-major order two tile rows are held.
    """
    known: dict[Place, FaceRecord] = {}
    base: dict[Place, int] = {}
    local: dict[Place, Labels] = {}
    columns: list[npt.NDArray[np.int64]] = []
    pairs: list[npt.NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    met: dict[Place, int] = {}
    total = 0

    for tile, record in faces:
        place = (tile.row, tile.column)
        met[place] = 0
        if record.label.size:
            names = ("first", "y0", "x0", "y1", "x1", "area")
            columns.append(np.stack([getattr(record, name) for name in names], axis=1))
            base[place], local[place] = total, record.label
            total += record.label.size
            for neighbour, labels in _meetings(place, record, known):
                own = base[place] + np.searchsorted(record.label, labels[:, 0])
                other = base[neighbour] + np.searchsorted(local[neighbour], labels[:, 1])
                pairs.append(np.stack([own, other], axis=1))
            known[place] = record
        around = [(place[0] + y, place[1] + x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        for near in around:
            if near in met and near != place:
                met[near] += 1
                met[place] += 1
        for near in around:
            if met.get(near) == _neighbours(near, grid):
                known.pop(near, None)

    if not total:
        none = np.zeros(0, np.int64)
        return United(none, np.zeros((0, 4), np.int64), none, {})
    table = np.concatenate(columns)
    root = unite_pairs(total, np.concatenate(pairs))
    heads, index = np.unique(root, return_inverse=True)
    first = np.full(heads.size, np.iinfo(np.int64).max)
    boxes = np.empty((heads.size, 4), np.int64)
    boxes[:, :2], boxes[:, 2:] = np.iinfo(np.int64).max, 0
    area = np.zeros(heads.size, np.int64)
    np.minimum.at(first, index, table[:, 0])
    for side in (0, 1):
        np.minimum.at(boxes[:, side], index, table[:, 1 + side])
        np.maximum.at(boxes[:, 2 + side], index, table[:, 3 + side])
    np.add.at(area, index, table[:, 5])
    of = {place: (labels, index[base[place] : base[place] + labels.size]) for place, labels in local.items()}
    return United(first, boxes, area, of)


def _neighbours(place: tuple[int, int], grid: TileGrid) -> int:
    """How many of the eight neighbours a tile has."""
    down = (place[0] > 0) + (place[0] < grid.rows - 1) + 1
    across = (place[1] > 0) + (place[1] < grid.columns - 1) + 1
    return down * across - 1


def seen_whole(box: Window, read: Window, shape: tuple[int, int]) -> bool:
    """Whether a component of bounding box `box` is complete for a tile that reads `read`.

    It must not touch the border of what is read, except where that is the scene's edge.
    """
    return (
        (box.y0 > read.y0 or box.y0 == 0)
        and (box.x0 > read.x0 or box.x0 == 0)
        and (box.y1 < read.y1 or box.y1 == shape[0])
        and (box.x1 < read.x1 or box.x1 == shape[1])
        and read.clip(shape).contains(box)
    )


def find_large(
    faces: Iterable[tuple[Tile, FaceRecord]], grid: TileGrid, cap: int = CAP
) -> list[LargeComponent]:
    """Components that no tile of `grid` (the one the tiles were split on) handled, sorted by first pixel.

    The owner of a component is the tile whose core holds its first pixel. It has split it if it saw it
    whole and its box is within the cap; everything else is here. Where tiles failed, a component that
    runs through them may be missing or listed in parts: `split_large` refuses the parts, and the list is
    whole once the tiles are.
    """
    united = unite(faces, grid)
    large = []
    for first, (y0, x0, y1, x1), area in zip(united.first, united.boxes, united.area, strict=True):
        box = Window(int(y0), int(x0), int(y1 - y0), int(x1 - x0))
        row, column = divmod(int(first), grid.shape[1])
        owner = grid.tile(row // grid.core, column // grid.core)
        if box.area > cap or not seen_whole(box, owner.read, grid.shape):
            large.append(LargeComponent(int(first), box, int(area), box.area > cap))
    return sorted(large)


def match(
    one: Labels, other: Labels
) -> tuple[Integers, Integers, Integers, npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Which instance of one window is which of its neighbour, in the strip that both saw.

    `one` and `other` are the two windows' labels of the same pixels. Returns for every pair that shares
    pixels: label in one, label in other, shared pixels, IoU in the strip, and whether they are one
    instance: each the other's best, at `MIN_IOU` or more.
    """
    a, b = one.reshape(-1).astype(np.int64), other.reshape(-1).astype(np.int64)
    areas_a, areas_b = np.bincount(a), np.bincount(b)
    both = (a > 0) & (b > 0)
    pair, shared = np.unique(a[both] * areas_b.size + b[both], return_counts=True)
    left, right = np.divmod(pair, areas_b.size)
    iou = shared / (areas_a[left] + areas_b[right] - shared)
    best_a, best_b = np.zeros(areas_a.size), np.zeros(areas_b.size)
    np.maximum.at(best_a, left, iou)
    np.maximum.at(best_b, right, iou)
    # Of equals the first in order of labels wins on both sides, so that a label has one partner at most.
    same = (iou >= MIN_IOU) & (iou == best_a[left]) & (iou == best_b[right])
    for side in (left, right):
        chosen = np.flatnonzero(same)
        _, first = np.unique(side[chosen], return_index=True)
        same[:] = False
        same[chosen[first]] = True
    return left, right, shared.astype(np.int64), iou, same
