"""Buildings as arrays: what a tile's splitter hands over, and the one table that all parts become.

A part is ragged on three levels, because an instance may hang together by a corner only, which a valid
polygon may not:

    building_offsets -> polygons (pieces) -> polygon_offsets -> rings -> ring_offsets -> coords

Everything that is summed is an integer (pixels, 255 · probability), so a figure does not depend on the
order of the sum, and a building cut in two by a window adds up to the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import StoreError
from pipeline.kernels import polygons as ragged_polygons
from pipeline.kernels import wkb
from pipeline.ragged import offsets_of as offsets_of
from pipeline.ragged import ranges

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Ragged = tuple[Floats, Integers, Integers]


@dataclass(frozen=True, slots=True)
class SplitPart:
    """Building instances of one task, sorted by id; n buildings, k pieces, r rings, v vertices.

    `coords` are px of the mask level (not of level 1), absolute in the scene, pixel corners, so whole
    numbers. The sums run over the instance's pixels and over its outline (see `kernels.instances.measure`).
    """

    building_id: Integers  # (n,) first pixel of the instance, row · width + column at the mask level
    pixels: Integers  # (n,) at the mask level
    score_sum: Integers  # (n,) of the mask score, 0-255
    edge_sum: Integers  # (n,) of the evidence for the outline, 0-255
    edge_count: Integers  # (n,) pixel edges that `edge_sum` runs over
    touches_nodata: Flags  # (n,)
    coords: Floats  # (v, 2) x, y
    ring_offsets: Integers  # (r + 1,)
    polygon_offsets: Integers  # (k + 1,) into rings
    building_offsets: Integers  # (n + 1,) into polygons

    def __len__(self) -> int:
        return int(self.building_id.size)


@dataclass(frozen=True, slots=True)
class BuildingTable:
    """The buildings of a scene, sorted by id; `coords` are px of level 1. Columns as in DESIGN 1."""

    building_id: Integers
    score: Floats  # mean mask probability inside, 0-1
    area_m2: Floats  # of the outline as published
    boundary_score: Floats  # 0-1, how sure the outline is
    touches_nodata: Flags
    coords: Floats
    ring_offsets: Integers
    polygon_offsets: Integers
    building_offsets: Integers

    def __len__(self) -> int:
        return int(self.building_id.size)


def empty_part() -> SplitPart:
    """A part without buildings."""
    none, zero = np.zeros(0, np.int64), np.zeros(1, np.int64)
    return SplitPart(
        none, none, none, none, none, np.zeros(0, np.bool_), np.zeros((0, 2)), zero, zero.copy(), zero.copy()
    )


def take_polygons(polygons: Ragged, order: Integers) -> Ragged:
    """The polygons at `order`, as new ragged arrays."""
    return ragged_polygons.take(*polygons, order)


def join_polygons(many: Iterable[Ragged]) -> Ragged:
    """Ragged polygons of several lists, one list after the other; the arrays themselves of a single one."""
    lists = list(many)
    if not lists:
        return np.zeros((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64)
    if len(lists) == 1:
        return lists[0]
    coords = np.concatenate([part[0] for part in lists])
    rings = offsets_of(np.concatenate([np.diff(part[1]) for part in lists]))
    return coords, rings, offsets_of(np.concatenate([np.diff(part[2]) for part in lists]))


def polygon_areas(polygons: Ragged) -> Floats:
    """Area of each polygon, holes taken off, in squared units of `coords` (shoelace; shells come first)."""
    return ragged_polygons.areas(*polygons)


def concatenate(parts: Iterable[SplitPart]) -> SplitPart:
    """All parts as one, sorted by id. An id that stands twice is an error: nothing may be doubled."""
    kept = [part for part in parts if len(part)]
    if not kept:
        return empty_part()
    ids = np.concatenate([part.building_id for part in kept])
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(np.diff(ids[order]) == 0)
    if twice.size:
        number = ids[order][twice[0]]
        raise StoreError(f"building {number} stands in two parts; remove work/parts and run again")
    pieces_per = np.concatenate([np.diff(part.building_offsets) for part in kept])

    def column(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in kept])[order]

    coords, ring_offsets, polygon_offsets = _in_order(kept, order, pieces_per)
    return SplitPart(
        building_id=ids[order],
        pixels=column("pixels"),
        score_sum=column("score_sum"),
        edge_sum=column("edge_sum"),
        edge_count=column("edge_count"),
        touches_nodata=column("touches_nodata"),
        coords=coords,
        ring_offsets=ring_offsets,
        polygon_offsets=polygon_offsets,
        building_offsets=offsets_of(pieces_per[order]),
    )


def _in_order(parts: list[SplitPart], order: Integers, pieces_per: Integers) -> Ragged:
    """Polygons of the buildings of all parts at `order`, vertices copied once: they are most of what a scene holds."""
    if len(parts) == 1 and not (order[:-1] > order[1:]).any():
        return parts[0].coords, parts[0].ring_offsets, parts[0].polygon_offsets
    first = offsets_of(pieces_per)
    pieces = ranges(first[:-1][order], first[1:][order])
    ring_counts = np.concatenate([np.diff(part.polygon_offsets) for part in parts])
    vertices = np.concatenate([np.diff(part.ring_offsets) for part in parts])
    ring_first = offsets_of(ring_counts)
    rings = ranges(ring_first[:-1][pieces], ring_first[1:][pieces])
    ring_offsets, polygon_offsets = offsets_of(vertices[rings]), offsets_of(ring_counts[pieces])
    place = np.empty(pieces.size, np.int64)
    place[pieces] = ring_offsets[polygon_offsets[:-1]]
    coords, done = np.empty((int(ring_offsets[-1]), 2)), 0
    for part in parts:
        count = part.polygon_offsets.size - 1
        where = place[done : done + count]
        ragged_polygons.lay(part.coords, part.ring_offsets, part.polygon_offsets, where, coords)
        done += count
    return coords, ring_offsets, polygon_offsets


def combine(
    parts: Iterable[SplitPart], gsd: float, min_area_m2: float, level: float, min_score: float = 0.0
) -> BuildingTable:
    """The buildings of all parts as the published columns, sorted by id.

    `gsd` is metres a px of level 1, `level` the level that the parts are in. Buildings under
    `min_area_m2` go, and so do pieces under it of a building that keeps a larger one; and so do buildings
    whose mean score is under `min_score`. This is the only place where size and score decide: a tile cannot
    know what lies beyond its edge.
    """
    import pyarrow as pa

    part = concatenate(parts)
    pa.default_memory_pool().release_unused()  # it keeps what the parts were read into
    polygons = part.coords, part.ring_offsets, part.polygon_offsets
    areas = polygon_areas(polygons) * float(level * level) * gsd**2
    owner = np.repeat(np.arange(len(part)), np.diff(part.building_offsets))
    pieces = np.flatnonzero((areas >= min_area_m2) & (areas > 0))
    scores = part.score_sum / (255.0 * part.pixels)
    pieces = pieces[scores[owner[pieces]] >= min_score]
    counts = np.bincount(owner[pieces], minlength=len(part)).astype(np.int64)
    keep = counts > 0
    if pieces.size < areas.size:
        polygons = take_polygons(polygons, pieces)
    coords, ring_offsets, polygon_offsets = polygons
    published = np.asarray(np.bincount(owner[pieces], areas[pieces], len(part)), np.float64)
    return BuildingTable(
        part.building_id[keep],
        scores[keep],
        published[keep],
        part.edge_sum[keep] / (255.0 * np.maximum(part.edge_count[keep], 1)),
        part.touches_nodata[keep],
        coords if level == 1 else coords * level,
        ring_offsets,
        polygon_offsets,
        offsets_of(counts[keep]),
    )


def to_wkb(
    table: BuildingTable, origin: tuple[float, float] = (0.0, 0.0), pixel: tuple[float, float] = (1.0, 1.0)
) -> tuple[npt.NDArray[np.uint8], Integers]:
    """Geometry of each building as WKB: the buffer, and (n + 1,) where each starts in it.

    World = origin + pixel · px, x and y apart (north-up rasters have a negative `pixel[1]`). A Polygon, or a
    MultiPolygon where an instance hangs together by a corner only.
    """
    rings = table.ring_offsets, table.polygon_offsets
    return wkb.encode_polygons(table.coords, *rings, table.building_offsets, (pixel, origin))


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """One-row Arrow IPC file with a list column for each array: the same arrays give the same bytes.

    Written beside `path` and renamed, so that a part is whole or not there.
    """
    import pyarrow as pa

    columns = []
    for array in arrays.values():
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        columns.append(pa.LargeListArray.from_arrays(pa.array([0, len(flat)], pa.int64()), flat))
    batch = pa.record_batch(columns, names=list(arrays))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
        with open(beside, "wb") as file:
            with pa.ipc.new_file(file, batch.schema, options=options) as writer:
                writer.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error


def read_arrays(path: Path, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of `write_arrays` whose name starts with `prefix`, without it."""
    import pyarrow as pa

    try:
        with pa.OSFile(str(path)) as file:
            reader = pa.ipc.open_file(file)
            wanted = [i for i, name in enumerate(reader.schema.names) if name.startswith(prefix)]
            file.seek(0)
            options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
            batch = pa.ipc.open_file(file, options=options).get_batch(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(f"{path}: not a readable part ({error}); remove it and run again") from error
    return {
        name[len(prefix) :]: batch.column(i).flatten().to_numpy(zero_copy_only=False)
        for i, name in enumerate(batch.schema.names)
    }


def part_arrays(part: SplitPart) -> dict[str, npt.NDArray[Any]]:
    """The part's arrays by column name, for `write_arrays`."""
    return {f"part_{field.name}": getattr(part, field.name) for field in fields(part)}


def read_part(path: Path) -> SplitPart:
    """The buildings of a part file."""
    arrays = read_arrays(path, "part_")
    arrays["coords"] = arrays["coords"].reshape(-1, 2)
    return SplitPart(**arrays)
