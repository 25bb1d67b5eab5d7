"""Conflate: the aligned cadaster against the buildings in the image, one verdict for each of both.

    confirmed   each is the other's best by IoU, which is CONFIRMED_IOU or more
    moved       the same, but the cadaster had to be shifted by more than MOVED_M to get there
    changed     they overlap, but not as one to one: reshaped, split or merged
    missing     in the cadaster, nothing in the image where it was looked for
    new         in the image, nothing in the cadaster

The rule of exactly once. A change has a row of the cadaster, a building, or both. Every usable row is the
subject of exactly one change (`row_primary`), every building of exactly one (`building_primary`):

    1. mutual-best pairs: one change that is primary for both;
    2. a row that is left, with overlap: `changed` with its best building, primary for the row only;
    3. a building that is left, with overlap: `changed` with its best row, primary for the building only;
    4. what overlaps nothing: `missing` or `new`, primary for the one that it has.

So a row may be named again, by a building that it was split into (3), but never counted twice. Overlaps
below MIN_SHARE of the smaller of the two are party walls and drawing noise, and no overlap here.
A row that is not `checked` (invalid, outside, nodata, or on a tile that failed) is never missing, but its
geometry still counts: a building on it is not new.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.pieces import pieces

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

CONFIRMED_IOU = 0.5
"""Where SpaceNet and the mapping literature count a building as found. An outline one pixel off all
around a 10 m house at 0.3 m still has 0.88; two houses merged into one have 0.5 at most."""

MOVED_M = 1.0
"""Metres: cadasters of cities state 0.1 to 1 m, so a larger shift is a finding, a smaller one is noise."""

MIN_SHARE = 0.1
"""Of the smaller polygon's area: a neighbour behind a party wall overlaps by less after alignment."""

CHUNK = 20_000
"""Rows of the cadaster that are held as geometries at a time: about 50 MB with the buildings around them."""

CHANGES = ("confirmed", "moved", "changed", "missing", "new")
REASONS = ("", "reshaped", "split", "merged")


@dataclass(frozen=True, slots=True)
class Changes:
    """One record a change, m of them: by cadaster row, then those of buildings without a row, by id."""

    change: npt.NDArray[np.int8]  # (m,) index into CHANGES
    reason: npt.NDArray[np.int8]  # (m,) index into REASONS; for `changed` only
    row: Integers  # (m,) of the cadaster, -1 if none
    building: Integers  # (m,) position among the buildings, -1 if none
    iou: Floats  # (m,) 0 without a partner
    row_primary: Flags  # (m,)
    building_primary: Flags  # (m,)
    from_image: Flags  # (m,) geometry: the building's where there is one, else the cadaster's

    def __len__(self) -> int:
        return int(self.change.size)


def _shapes(wkb: Any, rows: Integers) -> npt.NDArray[np.object_]:
    """Polygonal geometries of `rows`; None where there is nothing to overlay. Invalid ones are repaired."""
    import shapely

    if isinstance(wkb, np.ndarray):
        values = wkb[rows]
    else:
        import pyarrow as pa

        values = wkb.take(pa.array(rows)).to_numpy(zero_copy_only=False)
    shapes = shapely.force_2d(shapely.from_wkb(np.asarray(values, dtype=object), on_invalid="ignore"))
    shapes[~np.isfinite(shapely.bounds(shapes)).all(axis=1)] = None
    broken = ~shapely.is_valid(shapes) & ~shapely.is_missing(shapes)
    shapes[broken] = shapely.make_valid(shapes[broken])
    mixed = shapely.get_type_id(shapes) == 7  # a collection: its polygons as one
    shapes[mixed] = shapely.buffer(shapes[mixed], 0.0)
    shapes[~(shapely.area(shapes) > 0)] = None
    return np.asarray(shapes, dtype=object)


def _boxes(wkb: Any, count: int) -> tuple[Floats, Floats]:
    """Bounds (n, 4) with NaN where there is no area, and areas (n,), a chunk of geometries at a time."""
    import shapely

    bounds, areas = np.full((count, 4), np.nan), np.zeros(count)
    for start in range(0, count, CHUNK):
        rows = np.arange(start, min(start + CHUNK, count))
        shapes = _shapes(wkb, rows)
        bounds[rows], areas[rows] = shapely.bounds(shapes), shapely.area(shapes)
    return bounds, np.nan_to_num(areas)


def _chunks(bounds: Floats) -> Iterator[Integers]:
    """Rows that have bounds, in groups that lie together: strips by y, cut by x."""
    rows = np.flatnonzero(~np.isnan(bounds[:, 0]))
    across = max(1, int(np.sqrt(rows.size / CHUNK)))
    by_y = rows[np.argsort(bounds[rows, 1], kind="stable")]
    for strip in np.array_split(by_y, across) if rows.size else ():
        by_x = strip[np.argsort(bounds[strip, 0], kind="stable")]
        yield from (chunk for chunk in np.array_split(by_x, -(-by_x.size // CHUNK)) if chunk.size)


def _pieces(wkb: Any, rows: Integers) -> tuple[npt.NDArray[np.object_], Integers]:
    """Geometries of `rows` cut to be overlaid, and which of `rows` each is from; none for what has no area."""
    import shapely

    shapes = _shapes(wkb, rows)
    index = np.flatnonzero(~shapely.is_missing(shapes))
    cut, of = pieces(shapes[index])
    return cut, index[of]


def overlaps(cadaster: Any, buildings: Any, rows: int, count: int) -> tuple[Integers, Integers, Floats]:
    """Pairs (row, building) that overlap by MIN_SHARE or more, sorted, and their IoU.

    Held at a time: the geometries of one chunk of rows and of the buildings around it; for the whole, the
    bounds and the pairs.
    """
    import shapely

    row_bounds, row_areas = _boxes(cadaster, rows)
    bounds, areas = _boxes(buildings, count)
    found: list[tuple[Integers, Integers, Floats]] = []
    for chunk in _chunks(row_bounds):
        x0, y0 = row_bounds[chunk, :2].min(axis=0)
        x1, y1 = row_bounds[chunk, 2:].max(axis=0)
        near = np.flatnonzero((bounds[:, 0] <= x1) & (bounds[:, 2] >= x0) & (bounds[:, 1] <= y1) & (bounds[:, 3] >= y0))
        if not near.size:
            continue
        left, left_of = _pieces(cadaster, chunk)
        right, right_of = _pieces(buildings, near)
        a, b = shapely.STRtree(right).query(left, predicate="intersects")
        shared = np.zeros(a.size)
        for start in range(0, a.size, CHUNK):
            some = slice(start, start + CHUNK)
            shared[some] = shapely.area(shapely.intersection(left[a[some]], right[b[some]]))
        pair, inverse = np.unique(chunk[left_of[a]] * np.int64(count) + near[right_of[b]], return_inverse=True)
        area = np.bincount(inverse, weights=shared, minlength=pair.size)
        row, building = np.divmod(pair, count)
        keep = area >= MIN_SHARE * np.minimum(row_areas[row], areas[building])
        keep &= area > 0
        row, building, area = row[keep], building[keep], area[keep]
        found.append((row, building, area / (row_areas[row] + areas[building] - area)))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    row, building, iou = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = np.lexsort((building, row))
    return row[order], building[order], iou[order]


def _best(of: Integers, other: Integers, iou: Floats, count: int) -> Integers:
    """For each of `count`, the pair with the highest IoU (of equals the lowest partner), or -1."""
    best = np.full(count, -1, np.int64)
    order = np.lexsort((-other, iou, of))  # the last of each group wins
    best[of[order]] = order
    return best


def conflate(
    cadaster: Any,
    buildings: Any,
    *,
    checked: Flags,
    shift_m: Floats,
    iou_at_least: float = CONFIRMED_IOU,
    moved_m: float = MOVED_M,
) -> Changes:
    """What changed between the aligned cadaster and the buildings, both in the same projected CRS.

    cadaster, buildings   WKB, a NumPy object array or a pyarrow binary array; nulls and anything without
                          an area are allowed and overlap nothing
    checked    (rows,) bool: the row is usable, lies over valid imagery, and its tiles were split: only
               then can it be `missing`, and only then does it have to appear
    shift_m    (rows,) length of the shift that alignment gave the row, metres; NaN counts as none
    """
    rows, count = len(cadaster), len(buildings)
    row, building, iou = overlaps(cadaster, buildings, rows, count)
    best_of_row, best_of_building = _best(row, building, iou, rows), _best(building, row, iou, count)
    partners_of_row, partners_of_building = np.bincount(row, minlength=rows), np.bincount(building, minlength=count)

    of_row = best_of_row[best_of_row >= 0]
    of_building = best_of_building[best_of_building >= 0]
    pairs = np.union1d(of_row, of_building)
    is_best_of_row, is_best_of_building = np.isin(pairs, of_row), np.isin(pairs, of_building)
    row, building, iou = row[pairs], building[pairs], iou[pairs]

    same = is_best_of_row & is_best_of_building & (iou >= iou_at_least)
    far = np.nan_to_num(shift_m)[row] > moved_m
    change = np.where(same, np.where(far, 1, 0), 2)
    # Several buildings on one row: it was split (or drawn as one); several rows under one building: merged.
    reason = np.where(partners_of_row[row] > 1, 2, np.where(partners_of_building[building] > 1, 3, 1))
    reason[same] = 0

    missing = np.flatnonzero((best_of_row < 0) & checked)
    new = np.flatnonzero(best_of_building < 0)
    fill = np.full(missing.size, -1, np.int64), np.full(new.size, -1, np.int64)
    every = Changes(
        change=np.concatenate([change, np.full(missing.size, 3), np.full(new.size, 4)]).astype(np.int8),
        reason=np.concatenate([reason, np.zeros(missing.size + new.size, np.int64)]).astype(np.int8),
        row=np.concatenate([row, missing, fill[1]]),
        building=np.concatenate([building, fill[0], new]),
        iou=np.concatenate([iou, np.zeros(missing.size + new.size)]),
        row_primary=np.concatenate([is_best_of_row, fill[0] < 0, fill[1] > 0]),
        building_primary=np.concatenate([is_best_of_building, fill[0] > 0, fill[1] < 0]),
        from_image=np.concatenate([row >= 0, fill[0] > 0, fill[1] < 0]),
    )
    order = np.lexsort((every.building, np.where(every.row < 0, rows, every.row)))
    return Changes(*(getattr(every, name)[order] for name in Changes.__slots__))


def geometries(changes: Changes, cadaster: Any, buildings: Any, start: int, stop: int) -> list[bytes]:
    """WKB of records `start` to `stop`: the image's building where there is one, else the cadaster's row."""
    chosen = zip(changes.from_image[start:stop], changes.building[start:stop], changes.row[start:stop], strict=True)
    out = []
    for image, building, row in chosen:
        value = buildings[int(building)] if image else cadaster[int(row)]
        out.append(value.as_py() if hasattr(value, "as_py") else value)
    return out
