"""The demo city is what its README says, and the demo's scores count what they say."""

from __future__ import annotations

import shutil
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from shapely import box

from catalogs.demo import FOLDER, demo_city
from flows import evaluate
from flows.demo import score
from pipeline.errors import InputError

CRS = "EPSG:32645"


def frame(shapes: list[shapely.Geometry], **columns: list[int]) -> geopandas.GeoDataFrame:
    """Polygons in metres."""
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=CRS)


def test_the_city_is_small_and_whole() -> None:
    city = demo_city()
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 5e6
    with rasterio.open(city.image) as image:
        assert (image.shape, image.count, image.crs.to_epsg()) == ((2600, 2600), 3, 32645)
        extent = box(*image.bounds)
    truth, cadaster = geopandas.read_parquet(city.truth), geopandas.read_parquet(city.cadaster)
    assert len(truth) == len(cadaster) == 511
    assert (truth[city.key] == cadaster[city.key]).all()
    assert truth[city.key].is_unique
    assert truth.intersects(extent).all()
    assert truth.within(extent).sum() == 487
    assert cadaster.is_valid.all()
    assert (shapely.get_num_coordinates(truth.geometry) == shapely.get_num_coordinates(cadaster.geometry)).all()


def test_the_cadaster_lies_beside_it_by_a_smooth_field() -> None:
    city = demo_city()
    true, moved = (
        shapely.get_coordinates(geopandas.read_parquet(path).geometry) for path in (city.truth, city.cadaster)
    )
    error = np.hypot(*(moved - true).T) / 0.15
    assert np.median(error) == pytest.approx(11.3, abs=0.1)
    assert np.abs((moved - true) / 0.15).max() <= 32.001
    # Walls that two buildings share are still shared: one displacement a place.
    _, first, inverse = np.unique(true, axis=0, return_index=True, return_inverse=True)
    assert len(first) < len(true) - 511  # beyond the closing vertices
    assert np.allclose(moved, moved[first][inverse.ravel()], atol=1e-6)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "demo")
    (tmp_path / "demo" / "truth.parquet").unlink()
    with pytest.raises(InputError, match=r"truth\.parquet: a file of the demo is missing"):
        demo_city(tmp_path / "demo")


def test_instances_at_the_edge_are_set_aside_on_both_sides() -> None:
    area = box(0, 0, 100, 100)
    truth = frame([box(10, 10, 20, 20), box(40, 40, 50, 50), box(95, 10, 110, 20)])
    seen = frame([
        box(11, 10, 21, 20),  # found
        box(95, 10, 100, 20),  # at the edge: not counted
        box(94, 10, 99, 20),  # lies on a truth that the edge cuts: not counted
        box(70, 70, 80, 80),  # false
    ])  # fmt: skip
    found = evaluate.instances(seen, truth, area=area)
    assert (found["truths"], found["predictions"], found["found"]) == (2, 2, 1)
    assert (found["recall"], found["precision"], found["f1"]) == (0.5, 0.5, 0.5)


def test_scores_of_a_perfect_run(tmp_path: Path) -> None:
    city = demo_city()
    shutil.copy(city.truth, tmp_path / "cadaster_aligned.parquet")
    with rasterio.open(city.image) as image:
        extent = box(*image.bounds)
    truth = geopandas.read_parquet(city.truth)
    truth.set_geometry(truth.intersection(extent)).to_parquet(tmp_path / "buildings.parquet")
    figures = score(city, tmp_path)
    assert figures["before"]["buildings"] == 487
    assert figures["before"]["median_px"] > 10
    assert figures["after"]["median_px"] == 0
    assert figures["buildings"]["recall"] == figures["buildings"]["precision"] == 1


def test_classes_against_a_raster_or_polygons(tmp_path: Path) -> None:
    grid = {"driver": "GTiff", "height": 8, "width": 8, "count": 1, "dtype": "uint8", "crs": CRS,
            "transform": rasterio.Affine(1, 0, 0, 0, -1, 8)}  # fmt: skip
    seen = np.full((8, 8), 2, np.uint8)
    seen[:4, :4], seen[7] = 0, 255
    true = seen.copy()
    true[:4, :2] = 1
    for name, values in (("seen", seen), ("true", true)):
        with rasterio.open(tmp_path / f"{name}.tif", "w", **grid) as file:
            file.write(values, 1)
    found = evaluate.classification(tmp_path / "seen.tif", tmp_path / "true.tif")
    assert (found["building_iou"], found["road_iou"], found["background_iou"]) == (0.5, 0, 1)
    frame([box(0, 4, 4, 8)]).to_parquet(tmp_path / "true.parquet")
    frame([box(0, 0, 4, 8)]).to_parquet(tmp_path / "area.parquet")
    found = evaluate.classification(
        tmp_path / "seen.tif", tmp_path / "true.parquet", area=tmp_path / "area.parquet"
    )
    assert found == {"building_iou": 1, "building_accuracy": 1}
