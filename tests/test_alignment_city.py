"""The alignment's city: what it is made of, and that the comparison sees every kind of damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from benchmarks import alignment_city
from benchmarks.alignment_city import GSD, Files, compare, make_city, wrong_with
from benchmarks.alignment_time import make_scene
from training.city import plan_city
from training.city_draw import draw


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Files:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment_city, "BROKEN", 0.02)  # of so few rows, some
        return make_city(tmp_path_factory.mktemp("town"), 300)


def result_of(town: Files, path: Path, change: Callable[[geopandas.GeoDataFrame], geopandas.GeoDataFrame]) -> dict:
    """What `compare` says of the cadaster itself as a result, after a change to it."""
    after = geopandas.read_parquet(town.cadaster)
    after["status"] = "moved"
    change(after).to_parquet(path / "after.parquet")
    return compare(town.cadaster, path / "after.parquet", town.truth, town.shape)


def east(rows: geopandas.GeoDataFrame, step: float, which: str) -> geopandas.GeoDataFrame:
    """2-D rows with vertices `step` m further east: all of every third row, or the second of each."""
    shapes = np.array(rows.geometry)
    flat = np.flatnonzero(~shapely.has_z(shapes) & (shapely.get_num_coordinates(shapes) > 0))
    for at in flat[::3] if which == "row" else flat:
        xy = shapely.get_coordinates(shapes[at])
        xy[slice(None) if which == "row" else 1, 0] += step
        shapes[at] = shapely.set_coordinates(shapes[at], xy)
    return rows.set_geometry(shapes, crs=rows.crs)


def test_city_is_drawn_in_strips_as_it_is_whole(town: Files) -> None:
    with rasterio.open(town.image) as image:
        assert image.shape == town.shape and image.transform.a == GSD
        assert np.array_equal(image.read(), draw(plan_city(town.shape, GSD, alignment_city.SEED, density=0.9))[0])


def test_cadaster_has_what_real_ones_have_and_lies_beside_the_truth(town: Files) -> None:
    cadaster, truth = geopandas.read_parquet(town.cadaster), geopandas.read_parquet(town.truth)
    assert len(cadaster) >= 300
    assert {"polygon", "hole", "multi", "twisted", "null"} <= {kind.removesuffix("-z") for kind in cadaster["kind"]}
    assert cadaster.has_z.any() and cadaster.geometry.isna().any() and (cadaster.geom_type == "MultiPolygon").any()
    assert not truth[truth["kind"] == "twisted"].is_valid.any()
    assert truth[~truth["kind"].str.startswith(("twisted", "null"))].is_valid.all()
    step = (shapely.get_coordinates(truth.geometry) - shapely.get_coordinates(cadaster.geometry)) / GSD
    assert 2 < np.abs(step).max() <= alignment_city.LARGEST
    points = [np.unique(shapely.get_coordinates(f.geometry), axis=0, return_inverse=True)[1] for f in (cadaster, truth)]
    assert points[0].max() == points[1].max() < 0.8 * len(step)  # what is shared in one is shared in the other


def test_city_is_made_once(town: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment_city, "plan_city", None)
    assert make_city(town.image.parent, 300) == town


def test_nothing_is_wrong_with_the_truth_as_a_result(town: Files) -> None:
    after = geopandas.read_parquet(town.truth)
    after["status"], after["input_kind"] = "moved", after.pop("kind")  # a name the product wanted for itself
    after.to_parquet(town.truth.with_name("right.parquet"))
    found = compare(town.cadaster, town.truth.with_name("right.parquet"), town.truth, town.shape)
    assert wrong_with("displaced", found) == []
    assert found["error_before_px"]["median"] > 2 and found["error_after_px"]["max"] == 0
    assert found["shift_px"]["median"] == found["error_before_px"]["median"]
    assert found["shared_by_rows"] > 100 and found["shared_points"] > found["shared_by_rows"]
    assert "again" in wrong_with("again", found)[0] and wrong_with("true", {**found, "shift_px": {"median": 0.4}}) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.iloc[:-1], "rows are lost, doubled or in another order"),
        (lambda rows: rows.iloc[::-1], "rows are lost, doubled or in another order"),
        (lambda rows: rows.set_geometry(rows.geometry.force_2d()), "a geometry has other parts, vertices or heights"),
        (lambda rows: rows.set_geometry(rows.geometry.reverse()), None),
        (lambda rows: east(rows, 1.0, "row"), "shared points have parted"),
        (lambda rows: east(rows, 60.0, "vertex"), "valid geometries have broken"),
        (lambda rows: rows, "vertices are no nearer than before"),
    ],
    ids=["lost", "reordered", "flattened", "reversed", "parted", "broken", "unmoved"],
)
def test_damage_is_seen(
    town: Files, tmp_path: Path, change: Callable[[geopandas.GeoDataFrame], geopandas.GeoDataFrame], said: str | None
) -> None:
    lines = wrong_with("displaced", result_of(town, tmp_path, change))
    if said is not None:
        assert f"displaced: {said}" in lines
    else:
        assert "displaced: shared points have parted" in lines  # vertices are compared in their order


def test_a_scene_is_mirrored_with_its_polygons(town: Files, tmp_path: Path) -> None:
    """Whatever lies in a mirrored image has its own outline's pixels, turned over."""
    side, (height, width) = town.shape[0] * 2 - 100, town.shape
    image, cadaster = make_scene(town.image, town.truth, side, tmp_path)
    rows, own = geopandas.read_parquet(cadaster), geopandas.read_parquet(town.truth)
    with rasterio.open(image) as large, rasterio.open(town.image) as small:
        pixels, first = large.read(), small.read()
    assert pixels.shape == (3, side, side)
    assert np.array_equal(pixels[:, :height, :width], first)
    assert np.array_equal(pixels[:, :height, width:], first[:, :, ::-1][:, :, : side - width])
    west, north = alignment_city.CORNER
    seam = west + width * GSD
    assert rows["cadaster_id"].duplicated().sum() > 0.5 * len(own)
    beside = rows[(rows.bounds["minx"] >= seam) & (rows.bounds["miny"] > north - height * GSD)]
    match = own.set_index("cadaster_id").loc[beside["cadaster_id"]]
    mirrored = shapely.transform(np.array(match.geometry), lambda xy: np.column_stack([2 * seam - xy[:, 0], xy[:, 1]]))
    assert len(beside) > 50
    assert shapely.equals_exact(mirrored, np.array(beside.geometry), 1e-6).all()

    middle, few = make_scene(image, cadaster, 256, tmp_path / "middle")
    with rasterio.open(middle) as cut:
        at = (side - 256) // 2
        assert np.array_equal(cut.read(), pixels[:, at : at + 256, at : at + 256])
        assert (shapely.intersects(np.array(geopandas.read_parquet(few).envelope), shapely.box(*cut.bounds))).all()


@pytest.mark.slow
def test_the_pipeline_aligns_a_small_city(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = alignment_city.main(
        ["--out", str(tmp_path), "--polygons", "300", "--workers", "1", "--runs", "displaced", "again"]
    )
    found = json.loads(capsys.readouterr().out)
    assert found["wrong"] == [] and status == 0
    assert found["displaced"]["error_after_px"]["median"] < 1 < found["displaced"]["error_before_px"]["median"]
    assert found["again"]["rows_out"] == found["displaced"]["rows_in"]
