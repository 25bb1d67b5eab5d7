"""A corner of the demo city, cut small enough to be surveyed in seconds, as files of its own."""

from __future__ import annotations

from pathlib import Path

from catalogs.demo import demo_city


def cut(folder: Path, side: int, x0: int = 700, y0: int = 700, true: bool = False) -> tuple[Path, Path]:
    """Write `side` × `side` px of the demo image and the cadaster rows that touch them, or the `true` outlines;
    image and cadaster."""
    import geopandas
    import rasterio
    import shapely
    from rasterio.windows import Window

    city = demo_city()
    folder.mkdir(parents=True, exist_ok=True)
    image, cadaster = folder / "image.tif", folder / "cadaster.parquet"
    with rasterio.open(city.image) as source:
        window = Window(x0, y0, side, side)
        profile = {
            "driver": "GTiff", "height": side, "width": side, "count": source.count, "dtype": "uint8",
            "crs": source.crs, "transform": source.window_transform(window), "tiled": True,
            "blockxsize": 256, "blockysize": 256, "compress": "deflate",
        }  # fmt: skip
        with rasterio.open(image, "w", **profile) as out:
            out.write(source.read(window=window))
        bounds = rasterio.windows.bounds(window, source.transform)
    rows = geopandas.read_parquet(city.truth if true else city.cadaster)
    rows[rows.intersects(shapely.box(*bounds))].to_parquet(cadaster, schema_version="1.1.0")
    return image, cadaster


def spoil(image: Path) -> None:
    """Put noise in place of an image's pixels."""
    import numpy as np
    import rasterio

    with rasterio.open(image, "r+") as file:
        noise = np.random.default_rng(0).integers(1, 255, (file.count, *file.shape), dtype=np.uint8)
        file.write(noise)


PRODUCTS = ("cadaster_aligned.parquet", "buildings.parquet", "changes.parquet", "classes.tif", "displacement.tif")
"""What two runs over the same inputs must share to the byte."""
