"""WKB kernels against shapely: every vertex found, moved and written, and no buffer that breaks them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.kernels import wkb, wkb_rows

WKT = [
    "POINT (1 2)",
    "POINT EMPTY",
    "POINT Z (1 2 3)",
    "POINT M (1 2 4)",
    "POINT ZM (1 2 3 4)",
    "LINESTRING (0 0, 1 1, 2 5)",
    "LINESTRING EMPTY",
    "POLYGON ((0 0, 4 0, 4 4, 0 0))",
    "POLYGON ((0 0, 9 0, 9 9, 0 9, 0 0), (1 1, 2 1, 2 2, 1 1), (4 4, 5 4, 5 5, 4 4))",
    "POLYGON EMPTY",
    "POLYGON Z ((0 0 7, 4 0 8, 4 4 9, 0 0 7))",
    "POLYGON M ((0 0 7, 4 0 8, 4 4 9, 0 0 7))",
    "POLYGON ZM ((0 0 7 1, 4 0 8 2, 4 4 9 3, 0 0 7 4))",
    "MULTIPOINT ((1 2), (3 4))",
    "MULTIPOINT ((1 2), EMPTY, (3 4))",
    "MULTILINESTRING ((0 0, 1 1), EMPTY, (2 2, 3 3, 4 4))",
    "MULTIPOLYGON (((0 0, 4 0, 4 4, 0 0)), EMPTY, ((6 6, 9 6, 9 9, 6 6), (7 6.5, 8 6.5, 8 7, 7 6.5)))",
    "MULTIPOLYGON Z (((0 0 1, 4 0 2, 4 4 3, 0 0 1)))",
    "MULTIPOLYGON EMPTY",
    "GEOMETRYCOLLECTION (POINT (1 2), POLYGON ((0 0, 4 0, 4 4, 0 0)), GEOMETRYCOLLECTION (POINT (5 6)))",
    "GEOMETRYCOLLECTION Z (MULTIPOINT Z ((1 2 3), (4 5 6)), POLYGON Z ((0 0 1, 4 0 2, 4 4 3, 0 0 1)))",
    "GEOMETRYCOLLECTION EMPTY",
    "POLYGON ((0 0, 4 4, 4 0, 0 4, 0 0))",
]
DIALECTS = [
    {"byte_order": order, "flavor": flavour, "include_srid": srid}
    for order in (0, 1)
    for flavour, srid in (("iso", False), ("extended", False), ("extended", True))
]


def column(rows: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer(b"".join(rows), np.uint8), np.cumsum([0, *map(len, rows)])


def geometries() -> np.ndarray:
    return shapely.set_srid(shapely.from_wkt(WKT), 32633)


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_walk_finds_the_vertices_that_shapely_sees(dialect: dict) -> None:
    shapes = geometries()
    buffer, offsets = column(list(shapely.to_wkb(shapes, output_dimension=4, **dialect)))
    position, row, ring_offsets, ring_row, kind, code = wkb.walk(buffer, offsets)
    expected, index = shapely.get_coordinates(shapes, return_index=True)
    np.testing.assert_array_equal(wkb.read_xy(buffer, position), expected)
    np.testing.assert_array_equal(row, index)
    np.testing.assert_array_equal(code == wkb.EMPTY, shapely.is_empty(shapes))
    assert not (code == wkb.UNREADABLE).any()
    np.testing.assert_array_equal(np.repeat(ring_row, np.diff(ring_offsets)), row)
    assert np.sum(kind == wkb.POINT) == 4 + 2 + 2 + 2 + 2
    parts = shapely.get_parts(shapely.get_parts(shapely.get_parts(shapes)))
    assert np.sum(kind == wkb.HOLE) == shapely.get_num_interior_rings(parts).sum()
    assert np.sum(kind == wkb.LINE) == np.sum((shapely.get_type_id(parts) == 1) & ~shapely.is_empty(parts))


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_write_moves_x_and_y_and_leaves_everything_else(dialect: dict) -> None:
    shapes = geometries()
    buffer, offsets = column(list(shapely.to_wkb(shapes, output_dimension=4, **dialect)))
    position = wkb.walk(buffer, offsets)[0]
    moved = buffer.copy()
    wkb.write_xy(moved, position, wkb.read_xy(buffer, position) * [2, -3] + [1e6, 0.1])
    back = shapely.from_wkb([moved[a:b].tobytes() for a, b in zip(offsets[:-1], offsets[1:], strict=True)])
    for include in ({"include_z": True}, {"include_m": True}):
        old = shapely.get_coordinates(shapes, **include)
        new = shapely.get_coordinates(back, **include)
        np.testing.assert_array_equal(new[:, :2], old[:, :2] * [2, -3] + [1e6, 0.1])
        np.testing.assert_array_equal(new[:, 2], old[:, 2])
    assert (shapely.get_type_id(back) == shapely.get_type_id(shapes)).all()
    assert (shapely.get_srid(back) == shapely.get_srid(shapes)).all() or not dialect["include_srid"]


def test_rows_in_between_may_be_null_or_broken() -> None:
    good = shapely.to_wkb(shapely.box(0, 0, 1, 1))
    unclosed = good[:-16] + struct.pack("<dd", 5.0, 5.0)
    huge = struct.pack("<BII", 1, 6, 0xFFFFFFFF)
    curve = struct.pack("<BII", 1, 8, 0)
    one_point_line = struct.pack("<BIIdd", 1, 2, 1, 0.0, 0.0)
    wrong_member = struct.pack("<BII", 1, 6, 1) + shapely.to_wkb(shapely.Point(0, 0))
    deep = struct.pack("<BII", 1, 7, 1) * 5000 + good
    rows = [good, b"", good[:-1], good + b"tail", b"\x02" + good[1:], unclosed, huge, curve, one_point_line]
    rows += [wrong_member, deep, b"\x01", good]
    buffer, offsets = column(rows)
    position, row, _, _, _, code = wkb.walk(buffer, offsets)
    assert code.tolist() == [0, 1, 2, 0, 2, 2, 2, 2, 2, 2, 2, 2, 0]
    assert row.tolist() == [0] * 5 + [3] * 5 + [12] * 5
    box = shapely.get_coordinates(shapely.box(0, 0, 1, 1))
    np.testing.assert_array_equal(wkb.read_xy(buffer, position), np.vstack([box] * 3))
    empty = wkb.walk(np.empty(0, np.uint8), np.zeros(1, np.int64))
    assert [part.size for part in empty] == [0, 0, 1, 0, 0, 0]


def test_offsets_and_positions_outside_the_buffer_are_refused() -> None:
    good = np.frombuffer(shapely.to_wkb(shapely.Point(1, 2)), np.uint8)
    assert wkb.walk(good, np.array([0, 500]))[5].tolist() == [wkb.UNREADABLE]
    assert wkb.walk(good, np.array([-40, 21]))[5].tolist() == [wkb.UNREADABLE]
    with pytest.raises(ValueError, match="past the end"):
        wkb.read_xy(good, np.array([6]))
    with pytest.raises(ValueError, match="writable"):
        wkb.write_xy(good, np.array([5]), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="coordinates"):
        wkb.write_xy(good.copy(), np.array([5]), np.zeros((2, 2)))


def check_against_shapely(row: bytes) -> None:
    """What we can read shapely can too, with the same vertices; what shapely cannot, we refuse."""
    position, _, _, _, _, code = wkb.walk(*column([row]))
    shape = shapely.from_wkb(row, on_invalid="ignore") if row else None
    if shape is None:
        assert code[0] == (wkb.UNREADABLE if row else wkb.EMPTY)
    elif code[0] != wkb.UNREADABLE:
        expected = shapely.get_coordinates(shape)
        np.testing.assert_array_equal(wkb.read_xy(np.frombuffer(row, np.uint8), position), expected)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_garbage_does_no_harm(row: bytes) -> None:
    check_against_shapely(row)


@given(st.integers(0, len(WKT) - 1), st.sampled_from(DIALECTS), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_geometries_are_refused_where_shapely_refuses_them(index: int, dialect: dict, data) -> None:
    row = bytearray(shapely.to_wkb(geometries()[index], output_dimension=4, **dialect))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(row) - 1))
        row[place] = data.draw(st.sampled_from([0, 1, 2, 3, 5, 127, 128, 255]))
    check_against_shapely(bytes(row[: data.draw(st.integers(0, len(row)))]))


def test_encode_gives_the_bytes_of_shapely() -> None:
    rng = np.random.default_rng(3)
    rings, polygons, shapes = [], [0], []
    for holes in (0, 2, 0, 300, 1):
        parts = [rng.normal(size=(rng.integers(3, 9), 2)) for _ in range(1 + holes)]
        parts = [np.vstack([part, part[:1]]) for part in parts]
        rings += parts
        polygons.append(len(rings))
        shapes.append(shapely.Polygon(parts[0], parts[1:]))
    shapes.insert(2, shapely.Polygon())
    polygons.insert(2, polygons[2])
    offsets = np.cumsum([0, *map(len, rings)])
    buffer, starts = wkb.encode_polygons(np.vstack(rings), offsets, np.array(polygons))
    assert buffer.tobytes() == b"".join(shapely.to_wkb(shapes))
    np.testing.assert_array_equal(np.diff(starts), [len(shapely.to_wkb(shape)) for shape in shapes])
    none, zero = wkb.encode_polygons(np.empty((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert none.size == 0
    assert zero.tolist() == [0]


def test_a_slice_of_the_polygons_is_encoded_alone() -> None:
    coords = np.arange(60.0).reshape(-1, 2)
    coords[4::5] = coords[::5]
    offsets = np.arange(0, 31, 5)
    whole, starts = wkb.encode_polygons(coords, offsets, np.arange(7))
    part, _ = wkb.encode_polygons(coords, offsets, np.arange(2, 5))
    assert part.tobytes() == whole[starts[2] : starts[4]].tobytes()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_boxes_of_plain_rows_are_those_of_shapely(data: st.DataObject) -> None:
    shapes = geometries()
    rows = [bytearray(shapely.to_wkb(shape, output_dimension=4, **DIALECTS[0])) for shape in shapes]
    for row in rows[data.draw(st.integers(0, 5)) :: 3]:
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.sampled_from([0, 1, 3, 6, 127, 128, 255]))
    rows += [bytearray(shapely.to_wkb(shape, byte_order=1)) for shape in shapes]
    buffer, offsets = column([bytes(row) for row in rows])
    boxes, known = wkb_rows.boxes(buffer, offsets)
    expected = shapely.bounds(shapely.from_wkb([bytes(row) for row in rows], on_invalid="ignore"))
    np.testing.assert_array_equal(boxes[known], expected[known])
    assert np.isnan(boxes[~known]).all()
    assert known[len(shapes) + 7]  # a polygon
    assert known[len(shapes) + 8]  # one with holes
    codes = [int.from_bytes(row[1:5], "big" if row[0] != 1 else "little") for row in rows]
    assert wkb_rows.types(buffer, offsets).tolist() == codes


def test_placed_rows_of_several_polygons_are_multipolygons() -> None:
    one, two, three = (shapely.box(x, 0, x + 1, 2) for x in (0, 5, 9))
    _, coords, (rings, polygons) = shapely.to_ragged_array([one, two, three])
    args = coords, np.asarray(rings, np.int64), np.asarray(polygons, np.int64), np.array([0, 2, 3])
    buffer, starts = wkb.encode_polygons(*args, placed=((0.5, -0.5), (7.0, 8.0)))
    shapes = shapely.transform([shapely.MultiPolygon([one, two]), three], lambda xy: xy * [0.5, -0.5] + [7.0, 8.0])
    assert [buffer[a:b].tobytes() for a, b in zip(starts, starts[1:], strict=False)] == shapely.to_wkb(shapes).tolist()
