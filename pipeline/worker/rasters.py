"""Raster products: the class map and the displacement field as COGs, and the field as points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import scene, store
from pipeline.export.rasters import write_cog
from pipeline.export.vectors import write_geoparquet
from pipeline.grid import TileGrid, Window, level_shape
from pipeline.job import SCENE, Job, values_of
from pipeline.job_stages import scaled
from pipeline.worker.align import NODE
from pipeline.worker.scores import scene_of

if TYPE_CHECKING:
    import pyarrow as pa

CLASSES = {0: "building", 1: "road", 2: "background"}
COLOURS = {0: (214, 69, 65), 1: (120, 120, 130), 2: (222, 231, 208)}
UNKNOWN = 255
EVERY = 8
"""Nodes between two points of `displacement.parquet`: 64 px of level 1."""

Products = tuple[list[Path], dict[str, Any]]


def transform_of(job: Job, level: float) -> Any:
    """The affine of a raster whose pixels are `level` px of the working raster wide."""
    from affine import Affine

    a, b, c, d, e, f = job.transform
    return Affine(a * level, b, c, d, e * level, f)


def classes(job: Job, payload: dict[str, Any]) -> Products:
    """`classes.tif`: the most probable class, 255 over nodata and where a tile failed."""
    level = job.levels["classify"]
    name = "refine" if "refine" in job.stages else "classify"
    scores = store.open_array(job.work / SCENE, values_of(name))
    failed = [Window(*box) for box in payload["failed"].get(name, [])]

    def read(window: Window) -> NDArray[np.uint8]:
        found = store.read(scores, window)
        best = found.argmax(axis=0).astype(np.uint8)
        valid = scene.read_valid(scene_of(job), level, window) != 0
        best[~valid | (found.max(axis=0) == 0)] = UNKNOWN
        for hole in failed:
            best[_overlap(scaled(hole, 1, level), window)] = UNKNOWN
        return best[None]

    path = Path(job.folder) / "classes.tif"
    write_cog(
        path,
        read,
        level_shape(job.shape, level),
        bands=1,
        dtype="uint8",
        crs=job.crs,
        transform=transform_of(job, level),
        nodata=UNKNOWN,
        band_names=("class",),
        colours=COLOURS,
        class_names=CLASSES,
    )
    return [path], {}


def displacement(job: Job, payload: dict[str, Any]) -> Products:
    """`displacement.tif` (dx_m east, dy_m north, confidence; NaN without evidence) and its points."""
    folder = Path(job.folder)
    shape = level_shape(job.shape, NODE)
    failed = [Window(*box) for boxes in payload["failed"].values() for box in boxes]
    raster, points = folder / "displacement.tif", folder / "displacement.parquet"
    write_cog(
        raster,
        lambda window: read_field(job, window, failed),
        shape,
        bands=3,
        dtype="float32",
        crs=job.crs,
        transform=transform_of(job, NODE),
        nodata=float("nan"),
        band_names=("dx_m", "dy_m", "confidence"),
    )
    schema = _schema()
    count = write_geoparquet(points, _points(job, shape, schema, failed), job.crs, schema=schema)
    return [raster, points], {"points": count}


def read_field(job: Job, window: Window, failed: list[Window]) -> NDArray[np.float32]:
    """The stitched field over a window of nodes: (3, h, w) dx_m, dy_m, confidence; NaN without evidence.

    `failed` (px of level 1) is where a stage failed: NaN too.
    """
    field = store.read(store.open_array(job.work / SCENE, values_of("displacement")), window).astype(np.float32)
    field[0] *= np.float32(job.gsd)
    field[1] *= np.float32(-job.gsd)
    field[:, field[2] == 0] = np.nan
    for hole in failed:
        field[(slice(None), *_overlap(scaled(hole, 1, NODE), window))] = np.nan
    return field


def _schema() -> pa.Schema:
    import pyarrow as pa

    floats = [pa.field(name, pa.float32()) for name in ("dx_m", "dy_m", "confidence")]
    return pa.schema([*floats, pa.field("geometry", pa.large_binary())])


def _points(
    job: Job, shape: tuple[int, int], schema: pa.Schema, failed: list[Window]
) -> Iterator[pa.Table]:
    """The field at every `EVERY`-th node as points, strip by strip."""
    import pyarrow as pa
    import shapely

    affine = transform_of(job, NODE)
    for tile in TileGrid(shape, EVERY * 32, 0):
        field = read_field(job, tile.core, failed)[:, EVERY // 2 :: EVERY, EVERY // 2 :: EVERY]
        rows, columns = np.nonzero(np.isfinite(field[2]))
        if rows.size == 0:
            continue
        x = affine.c + affine.a * (tile.core.x0 + columns * EVERY + EVERY // 2 + 0.5)
        y = affine.f + affine.e * (tile.core.y0 + rows * EVERY + EVERY // 2 + 0.5)
        places = shapely.to_wkb(shapely.points(x, y))
        values = [pa.array(band[rows, columns]) for band in field]
        yield pa.table([*values, pa.array(places, pa.large_binary())], schema=schema)


def _overlap(box: Window, window: Window) -> tuple[slice, slice]:
    """Index, in an array over `window`, of the part that `box` covers."""
    y0, x0 = max(box.y0 - window.y0, 0), max(box.x0 - window.x0, 0)
    y1, x1 = min(box.y1 - window.y0, window.height), min(box.x1 - window.x0, window.width)
    return slice(y0, max(y1, y0)), slice(x0, max(x1, x0))
