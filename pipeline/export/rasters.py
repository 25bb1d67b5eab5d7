"""Raster layers on disk: cloud-optimised GeoTIFFs, written in one pass from whatever can read a window.

Tiles go into a plain tiled GeoTIFF first, then GDAL's COG driver orders it and builds the overviews:
asking that driver to take tiles in any other order loses overviews. Memory is one strip of blocks and
GDAL's cache; bytes depend on the pixels only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.grid import TileGrid, Window

BLOCK = 512
_CHUNK = 2048  # side of what is asked of `read` at once: whole blocks
_CACHE_MB = 256


def write_cog(
    path: Path,
    read: Callable[[Window], np.ndarray],
    shape: tuple[int, int],
    *,
    bands: int,
    dtype: str,
    crs: Any,
    transform: Any,
    nodata: float | None,
    band_names: Sequence[str] = (),
    colours: Mapping[int, tuple[int, int, int]] | None = None,
    class_names: Mapping[int, str] | None = None,
    resampling: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Write a COG of `shape` (height, width) and return its path.

    `read(window)` gives (bands, height, width) of `dtype` for a window inside the raster; it is called
    once a window of 2 048 px, row by row. `colours`: RGB per value, single uint8 band only. `class_names`
    go into the band's metadata as `class_<value>` and, as JSON, `class_names`. `resampling` of overviews:
    `mode` where there are classes, else `average`. The file appears under its name only when whole;
    StoreError where the disk refuses, errors of `read` pass through.
    """
    import rasterio
    import rasterio.shutil
    from rasterio.errors import RasterioError
    from rasterio.windows import Window as Pixels

    path = Path(path)
    plain, draft = path.with_name(f".{path.name}.plain"), path.with_name(f".{path.name}.part")
    resampling = resampling or ("mode" if class_names or colours else "average")
    grid = TileGrid(shape, _CHUNK, 0)
    options = {"NUM_THREADS": "1", "GDAL_CACHEMAX": _CACHE_MB, "GDAL_PAM_ENABLED": "NO"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.Env(**options):
            with rasterio.open(
                plain, "w", driver="GTiff", height=shape[0], width=shape[1], count=bands, dtype=dtype,
                crs=crs, transform=transform, nodata=nodata, tiled=True, blockxsize=BLOCK, blockysize=BLOCK,
                compress="ZSTD", zstd_level=1, interleave="band", BIGTIFF="IF_SAFER",
            ) as out:  # fmt: skip
                for tile in grid:
                    pixels = _checked(read(tile.core), (bands, tile.core.height, tile.core.width), dtype)
                    window = Pixels(tile.core.x0, tile.core.y0, tile.core.width, tile.core.height)
                    out.write(pixels, window=window)
                for i, name in enumerate(band_names, start=1):
                    out.set_band_description(i, name)
                if colours:
                    out.write_colormap(1, {value: (*rgb, 255) for value, rgb in colours.items()})
                if class_names:
                    named = {f"class_{value}": name for value, name in sorted(class_names.items())}
                    out.update_tags(1, class_names=json.dumps(dict(sorted(class_names.items()))), **named)
                out.update_tags(**(tags or {}))
            rasterio.shutil.copy(
                plain, draft, driver="COG", COMPRESS="DEFLATE", LEVEL="6", PREDICTOR="YES", BLOCKSIZE=BLOCK,
                OVERVIEW_RESAMPLING=resampling.upper(), BIGTIFF="IF_SAFER",
            )  # fmt: skip
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except (OSError, RasterioError) as error:
        raise StoreError(f"{path}: cannot be written ({error}); free space and rerun") from error
    finally:
        for leftover in (plain, draft):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
    return path


def _checked(pixels: np.ndarray, shape: tuple[int, int, int], dtype: str) -> np.ndarray:
    """`pixels` if they are what was promised: a wrong shape would shift the layer without an error."""
    if pixels.shape != shape or pixels.dtype != np.dtype(dtype):
        raise ValueError(f"read gave {pixels.dtype} {pixels.shape}, expected {dtype} {shape}")
    return pixels
