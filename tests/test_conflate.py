"""Every usable row and every building is the subject of exactly one change."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import conflate as module
from pipeline.conflate import CHANGES, REASONS, Changes, conflate, geometries


def wkb(*shapes: shapely.Geometry | None) -> np.ndarray:
    return shapely.to_wkb(np.array(shapes, dtype=object)).astype(object)


def records(changes: Changes) -> list[tuple]:
    columns = zip(changes.change, changes.reason, changes.row, changes.building, strict=True)
    return [(CHANGES[c], REASONS[r], int(row), int(building)) for c, r, row, building in columns]


def run(cadaster: np.ndarray, buildings: np.ndarray, shift: float = 0.0, **options) -> Changes:
    rows = len(cadaster)
    options = {"checked": np.ones(rows, np.bool_), "shift_m": np.full(rows, shift)} | options
    return conflate(cadaster, buildings, **options)


def check_exactly_once(changes: Changes, rows: int, buildings: int, usable: np.ndarray) -> None:
    primary = np.bincount(changes.row[changes.row_primary], minlength=rows)
    assert (primary <= 1).all() and (primary[usable] == 1).all()
    assert (np.bincount(changes.building[changes.building_primary], minlength=buildings) == 1).all()
    assert (changes.row[changes.row_primary] >= 0).all() and (changes.building[changes.building_primary] >= 0).all()
    assert (changes.row_primary | changes.building_primary).all()
    pairs = np.stack([changes.row, changes.building], axis=1)
    assert np.unique(pairs, axis=0).shape == pairs.shape
    one_sided = (changes.row < 0) | (changes.building < 0)
    np.testing.assert_array_equal(one_sided, changes.change >= 3)
    np.testing.assert_array_equal(one_sided, changes.iou == 0)


box = shapely.box


def test_each_verdict() -> None:
    cadaster = wkb(
        box(0, 0, 10, 10),  # confirmed
        box(20, 0, 30, 10),  # moved
        box(40, 0, 50, 10),  # reshaped: a third of it is left
        box(60, 0, 80, 10),  # split in two
        box(90, 0, 97, 10),  # merged with the next
        box(97, 0, 104, 10),
        box(120, 0, 130, 10),  # missing
    )
    buildings = wkb(
        box(0, 0, 10, 9),
        box(20, 0, 30, 10),
        box(40, 0, 43, 10),
        box(60, 0, 68, 10),
        box(70, 0, 80, 10),
        box(90, 0, 104, 10),
        box(200, 0, 210, 10),  # new
    )
    shift = np.array([0.9, 1.1, 5, 5, 0, 0, 3])
    changes = run(cadaster, buildings, shift_m=shift)
    assert records(changes) == [
        ("confirmed", "", 0, 0),
        ("moved", "", 1, 1),
        ("changed", "reshaped", 2, 2),
        ("changed", "split", 3, 3),
        ("moved", "", 3, 4),  # one half is the mutual best at IoU 1/2
        ("confirmed", "", 4, 5),
        ("changed", "merged", 5, 5),
        ("missing", "", 6, -1),
        ("new", "", -1, 6),
    ]
    check_exactly_once(changes, 7, 7, np.ones(7, np.bool_))
    assert changes.iou[0] == pytest.approx(0.9)
    out = geometries(changes, cadaster, buildings, 0, len(changes))
    assert out[0] == buildings[0] and out[7] == cadaster[6] and out[8] == buildings[6]


def test_party_walls_are_no_overlap() -> None:
    cadaster = wkb(box(0, 0, 10.5, 10), box(10.5, 0, 20, 10))
    buildings = wkb(box(0, 0, 10, 10), box(10, 0, 20, 10))
    assert records(run(cadaster, buildings)) == [("confirmed", "", 0, 0), ("confirmed", "", 1, 1)]


def test_rows_that_were_not_checked_are_not_missing_but_still_count() -> None:
    bow = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    odd = [
        None,
        shapely.Polygon(),
        shapely.Point(1, 1),
        shapely.LineString([(0, 0), (5, 5)]),
        shapely.GeometryCollection([shapely.Point(0, 0), box(100, 0, 110, 10)]),
        shapely.from_wkt("POLYGON Z ((200 0 5, 210 0 5, 210 10 5, 200 10 5, 200 0 5))"),
        shapely.from_wkt("POLYGON ((0 0, inf 0, 1 1, 0 0))"),
        bow,
        box(300, 0, 310, 10),
    ]
    cadaster = np.array([None if s is None else shapely.to_wkb(s) for s in odd] + [b"junk"], dtype=object)
    buildings = wkb(bow.convex_hull, box(100, 0, 110, 10), box(200, 0, 210, 10))
    changes = run(cadaster, buildings, checked=np.zeros(10, np.bool_))
    assert records(changes) == [("confirmed", "", 4, 1), ("confirmed", "", 5, 2), ("confirmed", "", 7, 0)]
    assert records(run(cadaster, buildings))[0] == ("missing", "", 0, -1)
    check_exactly_once(run(cadaster, buildings), 10, 3, np.ones(10, np.bool_))


def test_nothing_on_either_side() -> None:
    none, one = np.zeros(0, object), wkb(box(0, 0, 1, 1))
    assert len(run(none, none)) == 0
    assert records(run(one, none)) == [("missing", "", 0, -1)]
    assert records(run(none, one)) == [("new", "", -1, 0)]


def test_duplicate_rows_share_a_building_but_only_one_confirms() -> None:
    changes = run(wkb(box(0, 0, 9, 9), box(0, 0, 9, 9)), wkb(box(0, 0, 9, 9)))
    assert records(changes) == [("confirmed", "", 0, 0), ("changed", "merged", 1, 0)]


boxes = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 9), st.integers(1, 9)), max_size=25)


@settings(max_examples=60, deadline=None)
@given(cadaster=boxes, buildings=boxes, seed=st.integers(0, 9))
def test_exactly_once_whatever_the_polygons_and_chunks(cadaster: list, buildings: list, seed: int) -> None:
    a = wkb(*(box(x, y, x + w, y + h) for x, y, w, h in cadaster))
    b = wkb(*(box(x, y, x + w, y + h) for x, y, w, h in buildings))
    usable = np.random.default_rng(seed).random(len(a)) < 0.8
    whole = run(a, b, checked=usable)
    check_exactly_once(whole, len(a), len(b), usable)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", 3)
        chunked = run(pa.array(list(a), pa.binary()), pa.array(list(b), pa.binary()), checked=usable)
    for name in Changes.__slots__:
        np.testing.assert_array_equal(getattr(chunked, name), getattr(whole, name), err_msg=name)


def test_a_building_that_covers_everything_is_cut_before_it_is_overlaid() -> None:
    angles = np.linspace(0, 2 * np.pi, 40_000, endpoint=False)
    radius = 1000 + 5 * np.cos(angles * 900)
    giant = shapely.Polygon(np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1))
    houses = [box(x, y, x + 8, y + 8) for x in range(-900, 900, 40) for y in range(-900, 900, 40)]
    inside = np.array([giant.contains(house) for house in houses])
    changes = run(wkb(*houses), wkb(giant))
    check_exactly_once(changes, len(houses), 1, np.ones(len(houses), np.bool_))
    np.testing.assert_allclose(changes.iou[inside], 64 / giant.area, rtol=1e-9)
    assert {record[1] for record, within in zip(records(changes), inside, strict=True) if within} == {"merged"}
