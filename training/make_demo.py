"""Cuts the demo city out of `banepa_np`: `python -m training.make_demo --data DIR` writes catalogs/demo.

Kept so that the demo can be made again, and so that nobody has to guess how it was made. The crop lies inside
the northern labelled block, which no recipe trains on (training/areas.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from training.deform import misalign

SCENE = "banepa_np"
ROW, COLUMN, SIDE = 96, 3120, 2600
"""The crop in the scene, px. Row and column are multiples of the JPEG's 16-px blocks, so that encoding the
crop again with the scene's own quality gives back almost the scene's own pixels."""

LARGEST = 32.0
"""Largest displacement per component over the field's whole canvas of 5 000 px, px (4.8 m)."""

SEED = 2018
"""The field's; the year it was published in."""


def cut_image(source: Path, target: Path) -> None:
    """Write the crop as a tiled JPEG GeoTIFF with the scene's quality, CRS and place on the ground."""
    import rasterio
    from rasterio.windows import Window

    window = Window(COLUMN, ROW, SIDE, SIDE)
    with rasterio.open(source) as scene:
        if not scene.dataset_mask(window=window).all():
            raise SystemExit(f"{source}: the crop has nodata; it would need a mask")
        pixels = scene.read(window=window)
        profile = {
            "driver": "GTiff", "dtype": "uint8", "count": 3, "height": SIDE, "width": SIDE,
            "crs": scene.crs, "transform": scene.window_transform(window),
            "tiled": True, "blockxsize": 256, "blockysize": 256,
            "compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 85, "interleave": "pixel",
        }  # fmt: skip
    with rasterio.open(target, "w", **profile) as crop:
        crop.write(pixels)


def cut_polygons(source: Path, image: Path, truth: Path, cadaster: Path) -> None:
    """Write the polygons that intersect the crop: as they are, and moved off by the seeded field.

    One displacement a place, so walls that two buildings share are still shared.
    """
    import geopandas
    import rasterio
    import shapely

    with rasterio.open(image) as crop:
        extent, to_world = shapely.box(*crop.bounds), crop.transform
    buildings = geopandas.read_parquet(source)
    buildings = buildings[buildings.intersects(extent)].reset_index(drop=True)
    kept = buildings[["building_id", "osm_id", "geometry"]]
    to_px = ~to_world
    xy = shapely.get_coordinates(kept.geometry.values)
    px = np.column_stack(to_px * (xy[:, 0], xy[:, 1]))
    moved = misalign(px, LARGEST, np.random.default_rng(SEED))
    world = np.column_stack(to_world * (moved[:, 0], moved[:, 1]))
    off = kept.set_geometry(
        geopandas.GeoSeries(shapely.set_coordinates(kept.geometry.values.copy(), world), crs=kept.crs)
    )
    if not off.is_valid.all():
        raise SystemExit("the field made a polygon invalid: take another seed")
    kept.to_parquet(truth, compression="zstd", schema_version="1.1.0")
    off.to_parquet(cadaster, compression="zstd", schema_version="1.1.0")


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds banepa_np/")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "catalogs" / "demo")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    image = given.out / "banepa.tif"
    cut_image(given.data / SCENE / f"{SCENE}.tif", image)
    cut_polygons(
        given.data / SCENE / f"{SCENE}_buildings.parquet",
        image,
        given.out / "truth.parquet",
        given.out / "cadaster.parquet",
    )


if __name__ == "__main__":
    main()
