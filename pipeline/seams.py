"""What crosses from one tile into the next: components by exact union, instances by mutual-best IoU.

A connected component of the mask depends on its own pixels alone, so components are exact: every tile
hands up the pieces of its core that reach a neighbour (`face_record`), the driver unites them
(`find_large`) and names those that no tile saw whole. Where even one component is too large to be held,
fixed windows split it, and `match` says which instance of a window is which of the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.faces import CAP, FaceRecord, Integers, Labels, Place, meetings
from pipeline.faces import face_arrays as face_arrays  # for who keeps records beside parts
from pipeline.faces import read_faces as read_faces
from pipeline.grid import Tile, TileGrid, Window

MIN_IOU = 0.5
"""Least IoU in the shared strip for two windows' instances to be one. Above one half nothing else can be
the better partner of either, so the best is mutual; below it, it is as likely a neighbour."""

NEAR_MISS = 0.1
"""Pairs from this IoU up are kept in the audit although they were not merged."""


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
            for neighbour, labels in meetings(place, record, known):
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


def find_large(faces: Iterable[tuple[Tile, FaceRecord]], grid: TileGrid, cap: int = CAP) -> list[LargeComponent]:
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
