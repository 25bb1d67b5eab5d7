"""Small GeoTIFFs and scenes for tests."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import Affine

from pipeline.raster import open_raster
from pipeline.scene import Scene, blocks, create_scene, ingest_tile, open_scene
from pipeline.statistics import statistics
from pipeline.working import WorkingRaster, working_raster

UTM = "EPSG:32645"


def north_up(x: float, y: float, width: float, height: float) -> Affine:
    """The affine of a raster with its corner at x, y (rasterio's from_origin multiplies, which affine 3 deprecates)."""
    return Affine(width, 0, x, 0, -height, y)


def write(path: Path, data: np.ndarray | None = None, crs: str | None = UTM, **options: Any) -> Path:
    """A GeoTIFF of `data` (bands, height, width), noise of (3, 40, 60) if None, 0.5 m unless told otherwise."""
    if data is None:
        data = np.random.default_rng(0).integers(1, 255, (3, 40, 60), dtype=np.uint8)
    transform = options.pop("transform", north_up(353000, 3058000, 0.5, 0.5))
    tags = options.pop("tags", {})
    profile = {"driver": "GTiff", "count": data.shape[0], "dtype": data.dtype.name, "crs": crs, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", height=data.shape[1], width=data.shape[2], transform=transform, **profile) as f:
            f.write(data)
            f.update_tags(**tags)
    return path


def ingest(folder: Path, data: np.ndarray, **options: Any) -> tuple[Scene, WorkingRaster]:
    """An ingested scene with statistics, of `data` (bands, height, width) at 0.5 m, and its working raster."""
    transform = north_up(353000, 3058000, 0.5, 0.5)
    photometric = "RGB" if data.shape[0] == 3 else "MINISBLACK"
    path = write(folder / "image.tif", data, transform=transform, photometric=photometric, **options)
    working = working_raster(open_raster(path))
    root = folder / "scene.zarr"
    create_scene(root, working)
    for tile in blocks(working.shape):
        ingest_tile(working, root, tile.key)
    statistics(root)
    return open_scene(root), working
