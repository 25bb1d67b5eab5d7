"""Footprints in pixels: the cadaster's vertices in fixed blocks, each owned by one task.

    cadaster/   status.npy       (rows) what each input row is: USABLE, OUTSIDE, INVALID, EMPTY, NULL
                rows.npy         (m) input rows that are usable, by block, then in input order
                blocks.npy       (k, 4) row and column of a block, its first and one past its last of `rows`
                roads.npy        (m) whether a row is a road, where roads are looked for
                row_vertices.npy (m + 1), row_rings.npy (m + 1)   where a row's vertices and rings start
                ring_offsets.npy, ring_kind.npy, xy.npy           rings into vertices, (n, 2) px of level 1

Any vector layer: polygons with holes, lines, points, their multi-geometries and collections. A row belongs to
the block that holds its first vertex, clamped into the image; lines and points are kept as runs of vertices
like rings, and move like them. Lines are drawn, without a fill.
"""

from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import store
from pipeline.errors import StoreError
from pipeline.footprints_block import FootprintBlock
from pipeline.grid import Window, level_shape
from pipeline.polygons import Cadaster, to_px, transformer
from pipeline.ragged import Ints
from pipeline.ragged import offsets_of as offsets_of
from pipeline.ragged import ranges as ranges
from pipeline.scene import BLOCK, Scene, read_valid
from pipeline.working import WorkingRaster

if TYPE_CHECKING:
    import pyarrow as pa

USABLE, OUTSIDE, INVALID, EMPTY, NULL = 0, 1, 2, 3, 4
"""What an input row is, as far as its geometry and its place say."""

VALID_PIECE = 50_000
"""Rows whose validity is checked at once: bounds the number of shapely objects."""

_TABLES = ("status", "rows", "blocks", "row_vertices", "row_rings", "ring_offsets", "ring_kind", "xy")


def valid_rows(wkb: pa.LargeBinaryArray, rows: Ints) -> NDArray[np.bool_]:
    """Whether each of `rows` of a WKB array is a valid geometry in the sense of OGC, as GEOS judges it."""
    import pyarrow as pa
    import shapely

    valid = np.zeros(len(rows), dtype=bool)
    for start in range(0, len(rows), VALID_PIECE):
        piece = wkb.take(pa.array(rows[start : start + VALID_PIECE]))
        with np.errstate(invalid="ignore"):
            geometry = shapely.from_wkb(piece.to_numpy(zero_copy_only=False), on_invalid="ignore")
            valid[start : start + VALID_PIECE] = shapely.is_valid(geometry)
    return valid


def index_cadaster(
    cadaster: Cadaster, working: WorkingRaster, folder: Path, roads: NDArray[np.bool_] | None = None
) -> None:
    """Write the cadaster's usable rows, in px of `working` and by block, under `folder`.

    Outside is a row whose bounding box does not touch the image, or that cannot be reprojected to it.
    The same input gives the same bytes. `roads` (rows,) says which rows' open lines are looked for as roads.
    """
    from pipeline.kernels import wkb

    buffer, offsets = cadaster.buffer()
    position, vertex_row, ring_offsets, ring_row, ring_kind, code = wkb.walk(buffer, offsets)
    count = len(cadaster)
    status = np.full(count, USABLE, dtype=np.uint8)
    status[code == wkb.EMPTY] = EMPTY
    status[code == wkb.UNREADABLE] = INVALID
    status[np.asarray(cadaster.wkb.is_null())] = NULL
    xy = wkb.read_xy(buffer, position)
    status[vertex_row[~np.isfinite(xy).all(axis=1)]] = INVALID
    judged = np.flatnonzero(status == USABLE)
    status[judged[~valid_rows(cadaster.wkb, judged)]] = INVALID

    project = transformer(cadaster.crs, working.crs)
    with np.errstate(invalid="ignore"):
        xy = to_px(xy if project is None else project(xy), working)
    row_vertices = offsets_of(np.bincount(vertex_row, minlength=count))
    row_rings = offsets_of(np.bincount(ring_row, minlength=count))
    usable = np.flatnonzero(status == USABLE)
    if len(usable):
        starts = row_vertices[usable]
        points = xy[ranges(starts, row_vertices[usable + 1])]
        first = offsets_of(row_vertices[usable + 1] - starts)[:-1]
        low, high = np.minimum.reduceat(points, first), np.maximum.reduceat(points, first)
        height, width = working.shape
        touches = np.isfinite(low).all(axis=1) & np.isfinite(high).all(axis=1)
        touches &= (low <= (width, height)).all(axis=1) & (high >= 0).all(axis=1)
        status[usable[~touches]] = OUTSIDE
        usable = usable[touches]
        del points
    corner = np.clip(xy[row_vertices[usable]], 0, (working.shape[1] - 1, working.shape[0] - 1))
    cell = (corner // BLOCK).astype(np.int64)[:, ::-1]
    columns = -(-working.shape[1] // BLOCK)
    order = np.argsort(cell[:, 0] * columns + cell[:, 1], kind="stable")
    rows, cell = usable[order], cell[order]
    begins = np.flatnonzero(np.any(np.diff(cell, axis=0, prepend=-1) != 0, axis=1))
    ends = np.append(begins, len(rows))[1:]
    taken_rings = ranges(row_rings[rows], row_rings[rows + 1])
    tables: dict[str, NDArray[Any]] = {
        "status": status,
        "rows": rows,
        "blocks": np.column_stack([cell[begins], begins, ends]).astype(np.int64).reshape(-1, 4),
        "row_vertices": offsets_of(row_vertices[rows + 1] - row_vertices[rows]),
        "row_rings": offsets_of(row_rings[rows + 1] - row_rings[rows]),
        "ring_offsets": offsets_of(np.diff(ring_offsets)[taken_rings]),
        "ring_kind": ring_kind[taken_rings],
        "xy": xy[ranges(row_vertices[rows], row_vertices[rows + 1])],
    }
    for name in _TABLES:
        save(folder / f"{name}.npy", tables[name])
    if roads is not None:
        save(folder / "roads.npy", roads[rows])


def save(path: Path, array: NDArray[Any]) -> None:
    """Write an array whole or not at all."""
    memory = io.BytesIO()
    np.save(memory, np.ascontiguousarray(array), allow_pickle=False)
    with store.reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.stem}.partial")
        draft.write_bytes(memory.getbuffer())
        os.replace(draft, path)


def load(folder: Path, name: str) -> NDArray[Any]:
    """Table `name` of the index, memory-mapped. StoreError where it is not there."""
    path = folder / f"{name}.npy"
    try:
        changed = path.stat()
        return _load(str(path), changed.st_mtime_ns, changed.st_ino)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: the cadaster's index cannot be read ({error}); run again") from None


@lru_cache(maxsize=64)
def _load(path: str, _changed: int, _file: int) -> NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an array without elements cannot be mapped
        return np.load(path, allow_pickle=False)


def block_keys(folder: Path) -> list[str]:
    """Keys of the blocks that own at least one footprint, in row-major order."""
    return [f"r{row:04d}c{column:04d}" for row, column, _, _ in load(folder, "blocks").tolist()]


def block_rows(folder: Path) -> list[tuple[str, Ints]]:
    """Each block's key and the input rows that it owns."""
    rows = load(folder, "rows")
    spans = load(folder, "blocks").tolist()
    return [(key, np.asarray(rows[span[2] : span[3]])) for key, span in zip(block_keys(folder), spans, strict=True)]


def read_block(folder: Path, key: str) -> FootprintBlock:
    """The footprints of block `key`; one without any rows if it owns none."""
    row, column = (int(part) for part in key[1:].split("c"))
    table = np.asarray(load(folder, "blocks"))
    found = table[(table[:, 0] == row) & (table[:, 1] == column)]
    first, last = (int(found[0, 2]), int(found[0, 3])) if len(found) else (0, 0)
    row_vertices = np.array(load(folder, "row_vertices")[first : last + 1], dtype=np.int64)
    row_rings = np.array(load(folder, "row_rings")[first : last + 1], dtype=np.int64)
    vertex, ring = int(row_vertices[0]), int(row_rings[0])
    ring_offsets = np.array(load(folder, "ring_offsets")[ring : row_rings[-1] + 1], dtype=np.int64)
    return FootprintBlock(
        rows=np.array(load(folder, "rows")[first:last], dtype=np.int64),
        row_vertices=row_vertices - vertex,
        xy=np.array(load(folder, "xy")[vertex : row_vertices[-1]], dtype=np.float64),
        ring_offsets=ring_offsets - vertex,
        ring_row=np.repeat(np.arange(last - first, dtype=np.int64), np.diff(row_rings)),
        ring_kind=np.array(load(folder, "ring_kind")[ring : row_rings[-1]], dtype=np.uint8),
    )


def road_rows(folder: Path, key: str) -> NDArray[np.bool_]:
    """Whether each row of block `key` is a road: (r,)."""
    row, column = (int(part) for part in key[1:].split("c"))
    table = np.asarray(load(folder, "blocks"))
    spans = table[(table[:, 0] == row) & (table[:, 1] == column), 2:]
    return np.concatenate([np.zeros(0, bool), *(np.asarray(load(folder, "roads")[a:b]) for a, b in spans.tolist())])


def over_nodata(scene: Scene, folder: Path) -> NDArray[np.bool_]:
    """For every input row, whether fewer than half of its vertices lie on valid pixels; False if not usable.

    Judged at the coarsest level, so a vertex counts as valid where most of the 8 × 8 px around it are.
    """
    status = load(folder, "status")
    found = np.zeros(len(status), dtype=bool)
    level = scene.levels[-1]
    height, width = level_shape(scene.shape, level)
    for key in block_keys(folder):
        block = read_block(folder, key)
        pixel = np.floor(block.xy / level).astype(np.int64)
        inside = (pixel >= 0).all(axis=1) & (pixel < (width, height)).all(axis=1)
        good = np.zeros(len(pixel), dtype=np.float64)
        if inside.any():
            (x0, y0), (x1, y1) = pixel[inside].min(axis=0), pixel[inside].max(axis=0) + 1
            valid = read_valid(scene, level, Window(int(y0), int(x0), int(y1 - y0), int(x1 - x0)))
            good[inside] = valid[pixel[inside, 1] - y0, pixel[inside, 0] - x0]
        found[block.rows] = block.row_means(good) < 0.5
    return found
