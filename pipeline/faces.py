"""What a tile's core hands up about the components that reach its neighbours.

core A | core B        labels on A's last and B's first column meet 8-connected:
   .. 3|3 ..           row i meets rows i - 1, i, i + 1; corners meet their diagonal
   .. 3|. ..
   .. .|4 ..           3 and 4 are one component
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.buildings import read_arrays
from pipeline.grid import Window
from pipeline.kernels import components

Integers = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int32]
Place = tuple[int, int]
"""Row and column of a tile in its grid."""

CAP = 64_000_000
"""Pixels of the largest bounding box that is split in one piece: about 1.2 GB at work, under a worker's
2 GiB. At 0.3 m a pixel it is a square of 2.4 km."""


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


def face_record(labels: Labels, count: int, core: Window, shape: tuple[int, int], cap: int = CAP) -> FaceRecord:
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
    top, bottom, left, right = (np.where(listed[face], face, 0).astype(np.int32) for face in (top, bottom, left, right))
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


def meetings(place: Place, record: FaceRecord, known: dict[Place, FaceRecord]) -> Iterator[tuple[Place, Integers]]:
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
