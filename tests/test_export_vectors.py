"""GeoParquet: other people's readers, skipped row groups, every column type, the same bytes twice."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError, StoreError
from pipeline.export import sort as export_sort
from pipeline.export.copies import write_copy
from pipeline.export.sort import hilbert
from pipeline.export.vectors import default_row_group, free_names, wkb_array, write_geoparquet
from pipeline.export.wkb import boxes_of

gpd = pytest.importorskip("geopandas")


def squares(n: int, seed: int = 0, side: float = 1000.0) -> np.ndarray:
    xy = np.random.default_rng(seed).uniform(0, side, (n, 2))
    return shapely.box(xy[:, 0], xy[:, 1], xy[:, 0] + 5, xy[:, 1] + 5)


def table(geometries: Any, **columns: Any) -> pa.Table:
    return pa.table({"geometry": pa.array(shapely.to_wkb(geometries), pa.binary()), **columns})


def test_geopandas_reads_back_what_was_written(tmp_path: Path) -> None:
    boxes = squares(500)
    path = tmp_path / "a.parquet"
    assert write_geoparquet(path, table(boxes, n=np.arange(500)), "EPSG:32645", sort="hilbert") == 500
    frame = gpd.read_parquet(path)
    assert frame.crs.to_epsg() == 32645
    assert list(frame.columns) == ["geometry", "n"]
    frame = frame.sort_values("n")
    assert frame.geometry.geom_equals(gpd.GeoSeries(boxes, crs=frame.crs, index=frame.index)).all()
    geo = json.loads(pq.read_metadata(path).metadata[b"geo"])
    loose = json.loads(pq.read_schema(path).metadata[b"geo"])
    assert loose["columns"]["geometry"]["crs"] == geo["columns"]["geometry"]["crs"]
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["geometry_types"] == ["Polygon"]
    assert geo["columns"]["geometry"]["crs"]["id"] == {"authority": "EPSG", "code": 32645}
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]


def test_a_bbox_filter_reads_fewer_row_groups(tmp_path: Path) -> None:
    boxes = squares(3000)
    path = tmp_path / "a.parquet"
    write_geoparquet(path, table(boxes, n=np.arange(3000)), "EPSG:32645", sort="hilbert")
    wanted = (100.0, 100.0, 250.0, 250.0)
    near = (
        (ds.field("bbox", "xmin") <= wanted[2])
        & (ds.field("bbox", "xmax") >= wanted[0])
        & (ds.field("bbox", "ymin") <= wanted[3])
        & (ds.field("bbox", "ymax") >= wanted[1])
    )
    (fragment,) = ds.dataset(path).get_fragments()
    assert len(fragment.row_groups) == 16
    assert len(fragment.subset(near).row_groups) <= 6
    expected = set(np.flatnonzero(shapely.intersects(boxes, shapely.box(*wanted))).tolist())
    assert set(gpd.read_parquet(path, bbox=wanted)["n"]) == expected
    assert set(fragment.to_table(filter=near).column("n").to_pylist()) == expected


def test_bytes_depend_on_rows_not_on_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = table(squares(1000), n=np.arange(1000), name=[f"house {i % 7}" for i in range(1000)])
    for sort in (None, "hilbert"):
        one = tmp_path / "one.parquet"
        write_geoparquet(one, whole, 32645, sort=sort, row_group=100)
        for cut in (1, 37, 999):
            two = tmp_path / "two.parquet"
            write_geoparquet(two, whole.to_batches(max_chunksize=cut), 32645, sort=sort, row_group=100)
            assert one.read_bytes() == two.read_bytes()
    monkeypatch.setattr(export_sort, "BUCKET", 200)
    for most in (256, 3):  # buckets; fewer are larger
        monkeypatch.setattr(export_sort, "BUCKETS", most)
        write_geoparquet(two, whole.to_batches(max_chunksize=64), 32645, sort="hilbert", row_group=100)
        assert one.read_bytes() == two.read_bytes()


def test_unsorted_keeps_the_order_of_input(tmp_path: Path) -> None:
    write_geoparquet(tmp_path / "a.parquet", table(squares(300), n=np.arange(300)), None)
    back = pq.read_table(tmp_path / "a.parquet")
    assert back.column("n").to_pylist() == list(range(300))
    assert json.loads(back.schema.metadata[b"geo"])["columns"]["geometry"]["crs"] is None


def test_every_kind_of_attribute_survives(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "text": pa.array(["a", None, "ü"]),
        "big text": pa.array(["a", None, "b"], pa.large_string()),
        "flag": pa.array([True, None, False]),
        "u8": pa.array([1, None, 255], pa.uint8()),
        "half": pa.array(np.array([1, 2, 3], np.float16)),
        "money": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")]),
        "day": pa.array([datetime.date(2026, 1, 2), None, datetime.date(1970, 1, 1)]),
        "when": pa.array([1, None, 3], pa.timestamp("us", tz="UTC")),
        "span": pa.array([1, None, 3], pa.duration("s")),
        "kind": pa.array(["x", None, "x"]).dictionary_encode(),
        "tags": pa.array([["a"], None, []]),
        "who": pa.array([{"name": "a", "age": 3}, None, {"name": "b", "age": None}]),
        "blob": pa.array([b"\0", None, b""]),
        "nothing": pa.nulls(3),
    }
    given = table(squares(3), **columns)
    write_geoparquet(tmp_path / "a.parquet", given, 4326)
    back = pq.read_table(tmp_path / "a.parquet").drop_columns(["bbox"])
    assert back.column_names == given.column_names
    for name in given.column_names:
        assert back.column(name).to_pylist() == given.column(name).to_pylist(), name
    for suffix in ("gpkg", "fgb"):
        copy = gpd.read_file(write_copy(tmp_path / "a.parquet", suffix))
        assert len(copy) == 3
        assert copy.crs.to_epsg() == 4326
        assert sorted(copy["text"].dropna()) == ["a", "ü"]
        assert "bbox" not in copy


def test_a_copy_has_the_same_bytes_twice(tmp_path: Path) -> None:
    write_geoparquet(tmp_path / "a.parquet", table(squares(50), n=np.arange(50)), 32645)
    for suffix in ("gpkg", "fgb"):
        first = write_copy(tmp_path / "a.parquet", suffix).read_bytes()
        assert write_copy(tmp_path / "a.parquet", suffix).read_bytes() == first


def test_odd_geometries_pass_through(tmp_path: Path) -> None:
    tall = shapely.force_3d(shapely.box(0, 0, 1, 1), 7.0)
    rows = [
        shapely.to_wkb(tall, flavor="iso", output_dimension=3),
        shapely.to_wkb(tall, flavor="extended", output_dimension=3),
        shapely.to_wkb(shapely.set_srid(shapely.box(2, 2, 3, 3), 4326), flavor="extended", include_srid=True),
        shapely.to_wkb(shapely.MultiPolygon([shapely.box(4, 4, 5, 5)]), byte_order=0),
        shapely.to_wkb(shapely.Polygon()),
        None,
        b"\x01\x03",
    ]
    given = pa.table({"geometry": pa.array(rows, pa.large_binary()), "n": range(7)})
    write_geoparquet(tmp_path / "a.parquet", given, 4326, sort="hilbert")
    back = pq.read_table(tmp_path / "a.parquet")
    metadata = pq.read_metadata(tmp_path / "a.parquet").metadata
    by = {n: (g, b) for n, g, b in zip(*(back.column(c).to_pylist() for c in ("n", "geometry", "bbox")), strict=True)}
    assert by[0][0] == by[1][0] == rows[0]
    assert shapely.from_wkb(by[2][0]) == shapely.box(2, 2, 3, 3)
    assert by[3][0] == rows[3]
    assert by[3][1] == {"xmin": 4, "ymin": 4, "xmax": 5, "ymax": 5}
    assert [by[n][1] for n in (4, 5, 6)] == [None, None, None]
    assert (by[5][0], by[6][0]) == (None, rows[6])
    geo = json.loads(metadata[b"geo"])["columns"]["geometry"]
    assert geo["geometry_types"] == ["MultiPolygon", "Polygon", "Polygon Z"]
    assert geo["bbox"] == [0, 0, 5, 5]


def test_no_rows_is_a_layer_all_the_same(tmp_path: Path) -> None:
    schema = pa.schema([("geometry", pa.binary()), ("n", pa.int64())])
    for sort in (None, "hilbert"):
        for rows in (schema.empty_table(), iter([])):
            assert write_geoparquet(tmp_path / "a.parquet", rows, 4326, schema=schema, sort=sort) == 0
            frame = gpd.read_parquet(tmp_path / "a.parquet")
            assert len(frame) == 0
            assert "n" in frame


def test_names_that_collide_are_moved_out_of_the_way() -> None:
    assert free_names(["id", "status", "bbox", "input_status"], ["status", "dx_m"]) == {
        "status": "input_status_2",
        "bbox": "input_bbox",
    }


def test_errors_name_the_file_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_geoparquet(tmp_path / "file" / "a.parquet", table(squares(2)), 4326)
    with pytest.raises(InputError, match="no column"):
        write_geoparquet(tmp_path / "a.parquet", pa.table({"n": [1]}), 4326)
    union = pa.UnionArray.from_dense(pa.array([0, 0], pa.int8()), pa.array([0, 1], pa.int32()), [pa.array([1, 2])])
    with pytest.raises(InputError, match="cannot be stored"):
        write_geoparquet(tmp_path / "a.parquet", table(squares(2), odd=union), 4326)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_wkb_array_wraps_kernel_output() -> None:
    parts = shapely.to_wkb(squares(4))
    offsets = np.cumsum([0, *(len(part) for part in parts)])
    assert wkb_array(np.frombuffer(b"".join(parts), np.uint8), offsets).to_pylist() == list(parts)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6))
def test_the_hilbert_curve_visits_neighbours(order: int) -> None:
    side = 1 << order
    y, x = np.mgrid[:side, :side]
    xy = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    key = hilbert(xy, (0, 0, side - 1, side - 1), order)
    assert sorted(key.tolist()) == list(range(side * side))
    assert (np.abs(np.diff(xy[np.argsort(key)], axis=0)).sum(axis=1) == 1).all()


def test_row_groups_fit_the_table() -> None:
    assert [default_row_group(n) for n in (None, 0, 3000, 10_000_000)] == [4096, 128, 188, 50_000]


def test_a_null_with_bytes_under_it_has_no_box() -> None:
    rows = [shapely.to_wkb(shapely.box(0, 0, 1, 2)), shapely.to_wkb(shapely.box(3, 3, 4, 4))]
    whole = pa.array(rows, pa.large_binary())
    nulls = pa.py_buffer(bytes([0b01]))
    array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 2, [nulls, *whole.buffers()[1:]], null_count=1)
    boxes = boxes_of(array)
    assert boxes[0].tolist() == [0, 0, 1, 2] and np.isnan(boxes[1]).all()
