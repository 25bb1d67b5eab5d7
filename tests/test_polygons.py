"""Cadasters as they come: every row and column kept, and each bad one refused in a line."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from pipeline.errors import InputError, SettingsError
from pipeline.polygons import Cadaster, check_overlap, read_cadaster, to_px, to_world, transformer
from pipeline.raster import open_raster
from pipeline.working import working_raster
from tests.images import write

HOLE = shapely.Polygon(shapely.box(0, 0, 9, 9).exterior, [shapely.box(2, 2, 4, 4).exterior])
GEOMETRIES = [
    shapely.box(0, 0, 5, 5),
    None,
    shapely.from_wkt("POLYGON EMPTY"),
    HOLE,
    shapely.from_wkt("MULTIPOLYGON Z (((0 0 7, 1 0 8, 1 1 9, 0 0 7)))"),
    shapely.from_wkt("GEOMETRYCOLLECTION (POINT (1 1), LINESTRING (0 0, 4 4))"),
]


def frame(crs: str | None = "EPSG:32645") -> geopandas.GeoDataFrame:
    columns = {"id": [7, 7, 1, 2, 3, 4], "name": ["a", None, "c", "d", "e", "f"], "value": [1.5, np.nan, 1, 2, 3, 4]}
    moved = [
        g if g is None or g.is_empty else shapely.transform(g, lambda p: p + (353005, 3057985)) for g in GEOMETRIES
    ]
    # transform drops Z
    moved[4] = shapely.from_wkt(
        "MULTIPOLYGON Z (((353005 3057985 7, 353006 3057985 8, 353006 3057986 9, 353005 3057985 7)))"
    )
    return geopandas.GeoDataFrame(columns, geometry=moved, crs=crs)


def same(cadaster: Cadaster, expected: geopandas.GeoDataFrame) -> None:
    assert len(cadaster) == len(expected)
    assert cadaster.table.column("id").to_pylist() == expected["id"].tolist()
    found = shapely.from_wkb(cadaster.wkb.to_numpy(zero_copy_only=False))
    for got, wanted in zip(found, expected.geometry, strict=True):
        if wanted is None or got is None:
            assert got is None or got.is_empty
        else:
            assert shapely.equals_exact(shapely.force_2d(got), shapely.force_2d(wanted), 0) or wanted.is_empty
            assert got.has_z == wanted.has_z
    assert cadaster.wkb.type == pa.large_binary()
    assert cadaster.buffer()[1][0] >= 0


def refused(path: Path, words: str, kind: type[Exception] = InputError, **options: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        read_cadaster(path, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.parquet", "a.gpkg", "a.geojsonl"])
def test_every_row_in_order(tmp_path: Path, name: str) -> None:
    expected = frame()
    if name.endswith("parquet"):
        expected.to_parquet(tmp_path / name)
    elif name.endswith("gpkg"):
        expected.to_file(tmp_path / name, driver="GPKG")
    else:
        expected = expected.to_crs(4326)
        expected.to_file(tmp_path / name, driver="GeoJSONSeq")
    cadaster = read_cadaster(tmp_path / name)
    assert cadaster.table.column_names[:3] == ["id", "name", "value"]
    if name != "a.geojsonl":
        same(cadaster, expected)
        assert cadaster.wkb.null_count == 1
    assert len(cadaster) == 6
    assert cadaster.source_id == read_cadaster(tmp_path / name).source_id


def test_parquet_with_covering_native_encoding_and_sliced_rows(tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "a.parquet", write_covering_bbox=True)
    assert "bbox" not in read_cadaster(tmp_path / "a.parquet").table.column_names
    polygons = frame().iloc[[0, 3]]
    polygons.to_parquet(tmp_path / "b.parquet", geometry_encoding="geoarrow")
    same(read_cadaster(tmp_path / "b.parquet"), polygons)
    frame().to_parquet(tmp_path / "c.parquet", row_group_size=2)
    same(read_cadaster(tmp_path / "c.parquet"), frame())


def test_geometry_name_and_place(tmp_path: Path) -> None:
    renamed = frame().rename_geometry("outline")[["id", "outline", "name"]]
    renamed.to_parquet(tmp_path / "a.parquet")
    cadaster = read_cadaster(tmp_path / "a.parquet")
    assert (cadaster.geometry_name, cadaster.geometry_index) == ("outline", 1)


@pytest.mark.parametrize("name", ["a.parquet", "a.shp"])
def test_without_crs(tmp_path: Path, name: str) -> None:
    bare = frame(None).iloc[[0, 3]]
    if name.endswith("parquet"):
        bare.to_parquet(tmp_path / name)
    else:
        with pytest.warns(UserWarning, match="crs"):
            bare.to_file(tmp_path / name)
    refused(tmp_path / name, "--cadaster-crs")
    assert "32645" in read_cadaster(tmp_path / name, crs="EPSG:32645").crs
    refused(tmp_path / name, "not a CRS", SettingsError, crs="EPSG:nonsense")


def test_parquet_without_a_word_on_crs_is_in_degrees(tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    geo = json.loads(table.schema.metadata[b"geo"])
    del geo["columns"]["geometry"]["crs"]
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), tmp_path / "b.parquet")
    assert "CRS84" in read_cadaster(tmp_path / "b.parquet").crs


def test_layers(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    for layer in ("houses", "sheds"):
        frame().iloc[[0, 3]].to_file(path, layer=layer)
    refused(path, "houses, sheds.*--cadaster-layer", SettingsError)
    refused(path, "'barns'.*houses, sheds", SettingsError, layer="barns")
    assert len(read_cadaster(path, layer="sheds")) == 2


def test_unreadable(tmp_path: Path) -> None:
    refused(tmp_path / "none.gpkg", "no such file")
    (tmp_path / "a.gpkg").write_text("no layer")
    refused(tmp_path / "a.gpkg", "not a vector layer")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    refused(tmp_path / "a.parquet", "cannot be read as Parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "b.parquet")
    refused(tmp_path / "b.parquet", "without GeoParquet")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    refused(tmp_path / "a.csv", "no geometry")
    write(tmp_path / "a.tif")
    refused(tmp_path / "a.tif", "a.tif")


@pytest.mark.parametrize("name", ["a.parquet", "a.gpkg"])
def test_no_rows(tmp_path: Path, name: str) -> None:
    empty = frame().iloc[:0]
    if name.endswith("parquet"):
        empty.to_parquet(tmp_path / name)
    else:
        empty.to_file(tmp_path / name)
    cadaster = read_cadaster(tmp_path / name)
    assert len(cadaster) == 0
    check_overlap(working_raster(open_raster(write(tmp_path / "a.tif"))), cadaster)


def test_overlap(tmp_path: Path) -> None:
    working = working_raster(open_raster(write(tmp_path / "a.tif")))
    frame().to_parquet(tmp_path / "a.parquet")
    check_overlap(working, read_cadaster(tmp_path / "a.parquet"))
    frame().to_crs(4326).to_parquet(tmp_path / "b.parquet")
    check_overlap(working, read_cadaster(tmp_path / "b.parquet"))
    away = frame()
    away.geometry = away.translate(1e5)
    away.to_crs(4326).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(InputError, match=r"cadaster \(86\.5.*image \(85\.5.*WGS 84") as caught:
        check_overlap(working, read_cadaster(tmp_path / "c.parquet"))
    assert "\n" not in str(caught.value)


def test_pixels_and_back(tmp_path: Path) -> None:
    working = working_raster(open_raster(write(tmp_path / "a.tif")))
    points = np.array([[353000.0, 3058000.0], [353000.25, 3057999.75]])
    assert (to_px(points, working) == [[0, 0], [0.5, 0.5]]).all()
    assert to_world(to_px(points, working), working) == pytest.approx(points)
    assert transformer(working.crs, working.crs) is None


def test_reprojecting_a_point_does_not_depend_on_the_others() -> None:
    import pyproj

    project = transformer(pyproj.CRS("EPSG:32645").to_wkt(), pyproj.CRS("EPSG:4326").to_wkt())
    assert project is not None
    points = np.random.default_rng(0).uniform((3.5e5, 3.05e6), (3.6e5, 3.06e6), (1000, 2))
    together = project(points)
    assert all((project(points[i : i + 1]) == together[i]).all() for i in range(0, 1000, 37))
