"""Scenes as arrays: reading, stretch, pyramid."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from shapely.geometry import LineString, MultiPolygon, Polygon, box

from pipeline.errors import InputError
from training.chips import halve, load_scenes, ragged, stretch


def write_scene(data: Path, name: str) -> None:
    folder = data / name
    folder.mkdir(parents=True)
    image = np.arange(3 * 40 * 60, dtype=np.uint8).reshape(3, 40, 60)
    mask = np.full((40, 60), 255, np.uint8)
    mask[:, :5] = 0
    profile = {"driver": "GTiff", "height": 40, "width": 60, "count": 3, "dtype": "uint8", "crs": "EPSG:32645"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(folder / f"{name}.tif", "w", transform=Affine(0.5, 0, 1000, 0, -0.5, 2000), **profile) as sink,
    ):
        sink.write(image)
        sink.write_mask(mask)

    def frame(geometries: list, **columns: list) -> geopandas.GeoDataFrame:
        return geopandas.GeoDataFrame(columns, geometry=geometries, crs="EPSG:32645")

    hole = Polygon(box(1005, 1985, 1015, 1995).exterior.coords, [box(1008, 1988, 1010, 1990).exterior.coords])
    frame([hole, box(1020, 1990, 1025, 1995)]).to_parquet(folder / f"{name}_buildings.parquet")
    frame([box(1000, 1980, 1020, 2000)]).to_file(folder / f"{name}_aoi.gpkg")
    frame([MultiPolygon([box(1000, 1980, 1002, 2000)])], class_id=[3]).to_file(folder / f"{name}_classes.gpkg")
    frame([LineString([(1000, 1990), (1030, 1990)])]).to_file(folder / f"{name}_roads.gpkg")


def test_a_scene_comes_back_in_pixels_with_holes_and_lines(tmp_path: Path) -> None:
    write_scene(tmp_path, "here_np")
    (scene,) = load_scenes(tmp_path)
    assert scene.image.shape == (3, 40, 60) and scene.gsd == 0.5 and scene.polygons == 2
    assert not scene.valid[:, :5].any() and scene.valid[:, 5:].all()
    assert scene.labelled[:, :40].all() and not scene.labelled[:, 40:].any()
    np.testing.assert_array_equal(scene.polygon_offsets, [0, 2, 3])
    np.testing.assert_array_equal(scene.ring_offsets, [0, 5, 10, 15])
    np.testing.assert_allclose(scene.coords[:5].min(0), [10, 10])
    np.testing.assert_allclose(scene.coords[:5].max(0), [30, 30])
    np.testing.assert_allclose(scene.roads[0], [[0, 20], [60, 20]])
    np.testing.assert_allclose(scene.class_polygons["road"][0].max(0), [4, 40])


def test_a_missing_scene_is_named(tmp_path: Path) -> None:
    write_scene(tmp_path, "here_np")
    with pytest.raises(InputError, match="elsewhere_np"):
        load_scenes(tmp_path, ["elsewhere_np"])
    with pytest.raises(InputError, match="no scene"):
        load_scenes(tmp_path / "empty")


def test_ragged_of_nothing_is_empty() -> None:
    coords, rings, polygons = ragged([], None)
    assert coords.shape == (0, 2) and list(rings) == [0] and list(polygons) == [0]


def test_stretch_looks_at_valid_pixels_only() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(50, 100, (3, 30, 30)).astype(np.uint8)
    valid = np.ones((30, 30), bool)
    valid[:10], image[:, :10] = False, 255
    out = stretch(image, valid)
    assert out.dtype == np.float32 and (out[:, :10] == 0).all() and out.min() == 0 and out.max() == 1
    assert 0.4 < out[:, 10:].mean() < 0.6
    assert (stretch(image, np.zeros_like(valid)) == 0).all()


def test_halving_averages_valid_pixels_and_keeps_odd_edges() -> None:
    image = np.arange(15, dtype=np.float32).reshape(1, 3, 5)
    valid = np.ones((3, 5), bool)
    valid[0, 0] = False
    valid[2, 4] = False
    half, known = halve(image, valid)
    assert half.shape == (1, 2, 3) and known.shape == (2, 3)
    assert half[0, 0, 0] == pytest.approx((1 + 5 + 6) / 3)
    assert half[0, 1, 1] == pytest.approx(12.5) and half[0, 1, 2] == 0 and not known[1, 2]
