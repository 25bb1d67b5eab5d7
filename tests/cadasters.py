"""Cadasters in memory on a raster without a file, fields to move them by, and what must hold afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyproj
import shapely

from pipeline.footprints import read_block
from pipeline.kernels import wkb
from pipeline.polygons import Cadaster
from pipeline.putback import STATUSES, PutBack
from pipeline.raster import RasterHeader
from pipeline.working import WorkingRaster

CORNER = (500_000.0, 3_000_000.0)
Field = Callable[[np.ndarray], np.ndarray]


def raster(height: int, width: int, gsd: float = 1.0) -> WorkingRaster:
    """A working raster without a file: px (x, y) is the world's (500000 + x gsd, 3000000 - y gsd)."""
    crs, place = pyproj.CRS("EPSG:32645").to_wkt(), (gsd, 0.0, CORNER[0], 0.0, -gsd, CORNER[1])
    header = RasterHeader(
        "none", "none", "gdal", "", (height, width), 3, "uint8", crs, place, (gsd, gsd), None, False, None, None, "0"
    )
    return WorkingRaster(header, (height, width), place, crs, gsd, False, ())


def cadaster_of(rows: list[bytes | None], crs: str = "EPSG:32645") -> Cadaster:
    table = pa.table({"id": list(range(len(rows)))})
    array = pa.array(rows, pa.large_binary())
    return Cadaster("memory", table, array, pyproj.CRS(crs).to_wkt(), "geometry", 1, "x")


def world(px: np.ndarray) -> np.ndarray:
    return np.column_stack([CORNER[0] + px[:, 0], CORNER[1] - px[:, 1]])


def rows_of(shapes: list[shapely.Geometry | None]) -> list[bytes | None]:
    """WKB of geometries given in px of a 1 m raster."""
    return [None if s is None else shapely.to_wkb(shapely.transform(s, world)) for s in shapes]


def moved_by(folder: Path, field: Field) -> Callable[[str], np.ndarray]:
    def moved(key: str) -> np.ndarray:
        xy = read_block(folder, key).xy
        return xy + field(xy)

    return moved


def vertices(cadaster: Cadaster, array: pa.LargeBinaryArray) -> tuple[np.ndarray, np.ndarray]:
    copy = Cadaster("", cadaster.table, array, cadaster.crs, "geometry", 1, "")
    buffer, offsets = copy.buffer()
    position, row, *_ = wkb.walk(buffer, offsets)
    return wkb.read_xy(buffer, position), row


def check(cadaster: Cadaster, result: PutBack, apart: bool = False) -> None:
    """Everything that DESIGN 2.5 promises, whatever the field was; `apart` where walls may part between rows."""
    before, after = cadaster.wkb, result.wkb
    assert len(after) == len(before)
    assert (np.asarray(after.is_null()) == np.asarray(before.is_null())).all()
    old, row = vertices(cadaster, before)
    new, row_after = vertices(cadaster, after)
    assert (row == row_after).all()
    status = np.array(STATUSES)[result.status]

    # structure, Z and M: all bytes but x and y
    (a, starts), (b, starts_after) = cadaster.buffer(), Cadaster("", None, after, "", "", 0, "").buffer()
    assert (starts == starts_after).all()
    position = np.abs(wkb.walk(a, starts)[0])
    place = (position[:, None] + np.arange(16)).ravel()
    blank_a, blank_b = a.copy(), b.copy()
    blank_a[place], blank_b[place] = 0, 0
    assert (blank_a == blank_b).all()

    # a row that did not move is the same to the byte
    for i in np.flatnonzero(status != "moved").tolist():
        assert before[i] == after[i]
    assert (result.dx_m[status != "moved"] == 0).all()

    # shared points are still shared, and points of rows that must stay did not move
    if len(old):
        place = np.column_stack([old + 0.0, row * apart])
        _, point = np.unique(place, axis=0, return_inverse=True)
        point = point.ravel()
        first = np.full(point.max() + 1, -1)
        first[point[::-1]] = np.arange(len(point))[::-1]
        assert (new == new[first[point]])[~np.isnan(new)].all()
        stays = ~np.isin(status, ("moved", "unmoved"))
        pinned = np.isin(point, point[stays[row]])
        assert (new[pinned] == old[pinned])[~np.isnan(old[pinned])].all()

    # valid stays valid
    was = shapely.is_valid(shapely.from_wkb(before.to_numpy(zero_copy_only=False), on_invalid="ignore"))
    now = shapely.is_valid(shapely.from_wkb(after.to_numpy(zero_copy_only=False), on_invalid="ignore"))
    assert now[was].all()


def smooth(amplitude: float, wavelength: float) -> Field:
    def field(xy: np.ndarray) -> np.ndarray:
        x, y = xy.T / wavelength
        return amplitude * np.column_stack([np.sin(x + 2 * y), np.cos(2 * x - y)])

    return field


def noise(amplitude: float, seed: int = 0) -> Field:
    rng = np.random.default_rng(seed)
    return lambda xy: rng.normal(0, amplitude, xy.shape)
