"""Rigid motions: the nearest one to a field, for rows and for blocks of rows; right angles stay right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import shapely

from pipeline import footprints
from pipeline.footprints import index_cadaster
from pipeline.kernels import wkb
from pipeline.polygons import Cadaster
from pipeline.putback import STATUSES, PutBack, put_back
from pipeline.rigid import TOUCH, TURN, hang_together, rigid_steps
from pipeline.settings import Move
from pipeline.working import WorkingRaster
from tests.cadasters import cadaster_of, check, moved_by, noise, raster, rows_of, smooth, vertices

RIGHT = 0.01
"""Degrees that an angle may change by where rows move rigidly: the rounding of coordinates, with room."""


def kabsch(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The least-squares rotation and shift of `old` onto `new`, by singular values."""
    a, b = old - old.mean(axis=0), new - new.mean(axis=0)
    u, _, v = np.linalg.svd(a.T @ b)
    turn = u @ np.diag([1, np.sign(np.linalg.det(u @ v))]) @ v
    return a @ turn + new.mean(axis=0)


def test_each_group_takes_the_nearest_rigid_motion() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 300, 4000)
    middle = rng.uniform(0, 1e5, (300, 2))
    px = middle[group] + rng.uniform(-60, 60, (4000, 2))
    step = rng.normal(3, 1, (4000, 2))
    got = px + rigid_steps(px, step, group, np.ones(300, bool))
    for each in range(300):
        mine = group == each
        np.testing.assert_allclose(got[mine], kabsch(px[mine], (px + step)[mine]), atol=1e-7)


@pytest.mark.parametrize("degrees", [0.0, 0.5, -4.9, 12.0, -170.0])
def test_a_turn_is_found_and_limited(degrees: float) -> None:
    px = np.array([[0.0, 0], [30, 0], [30, 12], [0, 12]]) + 5000
    angle = np.radians(degrees)
    middle = px.mean(axis=0)
    turned = (px - middle) @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + middle + 7
    step = rigid_steps(px, turned - px, np.zeros(4, np.int64), np.ones(1, bool))
    if abs(angle) <= TURN:
        np.testing.assert_allclose(px + step, turned, atol=1e-9)
    side = (px + step)[1] - (px + step)[0]
    assert np.arctan2(side[1], side[0]) == pytest.approx(np.clip(angle, -TURN, TURN))
    still = rigid_steps(px, turned - px, np.zeros(4, np.int64), np.zeros(1, bool))
    np.testing.assert_allclose(still, np.full((4, 2), 7.0), atol=1e-9)


def test_rows_hang_together_by_points_and_by_near_ones() -> None:
    row, point = np.array([0, 0, 1, 1, 2, 3, 4]), np.array([0, 1, 1, 2, 3, 4, 5])
    groups = hang_together(row, point, (6, 6))
    assert groups.tolist() == [0, 0, 1, 2, 3, 4]
    at = np.array([[0.0, 0], [9, 0], [9, 9], [9, 9 + TOUCH / 2], [50, 0], [50, 2 * TOUCH]])
    assert hang_together(row, point, (6, 6), (np.arange(6), at)).tolist() == [0, 0, 0, 1, 2, 3]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cadaster, WorkingRaster, Path]:
    """4 000 rows of a city, terraces and courtyards among them, and everything that can be wrong with a row."""
    from training.city import cadaster_rows

    rows, _ = cadaster_rows(4000, seed=8)
    folder = tmp_path_factory.mktemp("city")
    cadaster, working = cadaster_of(rows), raster(1600, 1600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(footprints, "BLOCK", 256)  # blocks of houses lie across them
        index_cadaster(cadaster, working, folder)
    return cadaster, working, folder


def angles(cadaster: Cadaster, result: PutBack) -> np.ndarray:
    """Degrees by which the angle at each corner of a moved row's rings and lines changed."""
    buffer, offsets = cadaster.buffer()
    _, row, ring_offsets, _, _, _ = wkb.walk(buffer, offsets)
    middle = np.ones(len(row), bool)
    middle[ring_offsets[:-1]] = middle[ring_offsets[1:] - 1] = False
    at = np.flatnonzero(middle & (result.status[row] == STATUSES.index("moved")))

    def turn(xy: np.ndarray) -> np.ndarray:
        one, other = (xy[at - 1] - xy[at]).T, (xy[at + 1] - xy[at]).T
        return np.arctan2(one[0] * other[1] - one[1] * other[0], (one * other).sum(axis=0))

    change = turn(vertices(cadaster, result.wkb)[0]) - turn(vertices(cadaster, cadaster.wkb)[0])
    return np.abs(np.degrees((change + np.pi) % (2 * np.pi) - np.pi))


@pytest.mark.parametrize("how", get_args(Move))
def test_right_angles_stay_right(city: tuple[Cadaster, WorkingRaster, Path], how: Move) -> None:
    cadaster, working, folder = city
    bent = smooth(12, 150)
    result = put_back(cadaster, working, folder, moved_by(folder, lambda xy: bent(xy) + noise(0.3)(xy)), how=how)
    check(cadaster, result, apart=how == "building")
    change = angles(cadaster, result)
    assert len(change) > 5000
    if how == "vertex":
        assert np.median(change) > 100 * RIGHT
    else:
        assert change.max() < RIGHT
    old, row = vertices(cadaster, cadaster.wkb)
    new, _ = vertices(cadaster, result.wkb)
    moved = result.status == STATUSES.index("moved")
    assert moved.sum() > (0.5 if how == "block" else 0.9) * (result.status < 2).sum()
    # the published shift is the final motion's
    _, _, ring_offsets, _, kind, _ = wkb.walk(*cadaster.buffer())
    counted = np.ones(len(row), bool)
    counted[ring_offsets[1:][kind <= wkb.HOLE] - 1] = False
    counted &= moved[row]
    count = np.bincount(row[counted], minlength=len(cadaster))[moved]
    for axis, published in enumerate((result.dx_m, result.dy_m)):
        total = np.bincount(row[counted], (new - old)[counted, axis], len(cadaster))
        np.testing.assert_allclose(published[moved], total[moved] / count, atol=1e-6)
    if how != "vertex":  # all sides of a row keep their length
        same = row[1:] == row[:-1]
        before, after = np.hypot(*np.diff(old, axis=0).T), np.hypot(*np.diff(new, axis=0).T)
        np.testing.assert_allclose(after[same], before[same], atol=1e-6)


Planted = Callable[[list[shapely.Geometry], Move], tuple[list[shapely.Geometry], PutBack]]


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    """Geometries in px, moved by a field that turns and stretches and is a little restless; where they are then."""

    def field(xy: np.ndarray) -> np.ndarray:
        return np.column_stack([4 - 0.02 * xy[:, 1], 0.03 * xy[:, 0]]) + noise(0.2, 4)(xy)

    def move(shapes: list[shapely.Geometry], how: Move) -> tuple[list[shapely.Geometry], PutBack]:
        cadaster, working = cadaster_of(rows_of(shapes)), raster(300, 300)
        index_cadaster(cadaster, working, tmp_path)
        result = put_back(cadaster, working, tmp_path, moved_by(tmp_path, field), how=how)
        check(cadaster, result, apart=how == "building")
        assert (angles(cadaster, result) < RIGHT).all()
        return [shapely.from_wkb(each.as_py()) for each in result.wkb], result

    return move


HOUSES = [shapely.box(x, 20, x + 12, 40) for x in (20, 32, 44)]


def test_walls_part_by_building_and_hold_by_block(planted: Planted) -> None:
    apart, _ = planted(HOUSES, "building")
    assert len(np.unique(shapely.get_coordinates(apart), axis=0)) == 12
    together, result = planted([*HOUSES, shapely.box(100, 100, 110, 110)], "block")
    assert together[0].intersection(together[1]).length == pytest.approx(20, abs=1e-6)
    assert len(np.unique(shapely.get_coordinates(together[:3]), axis=0)) == 8
    shift = np.column_stack([result.dx_m, result.dy_m])
    assert not np.allclose(shift[0], shift[3], atol=0.1)


def test_corners_drawn_twice_are_one_block(planted: Planted) -> None:
    rounded = shapely.transform(HOUSES[1], lambda xy: xy + 0.04)
    together, _ = planted([HOUSES[0], rounded], "block")
    gap = shapely.get_coordinates(together[1])[:4] - shapely.get_coordinates(together[0])[:4]
    start = shapely.get_coordinates(rounded)[:4] - shapely.get_coordinates(HOUSES[0])[:4]
    np.testing.assert_allclose(np.hypot(*gap.T), np.hypot(*start.T), atol=1e-6)


def test_a_block_beside_a_row_that_must_stay_stays(planted: Planted) -> None:
    outside = shapely.box(-20, 20, 0, 40)
    inside = shapely.box(0, 20, 12, 40)
    beyond = shapely.box(-60, 20, -20, 40)
    _, result = planted([beyond, outside, inside, *HOUSES], "block")
    assert [STATUSES[code] for code in result.status[:3]] == ["outside", "unmoved", "unmoved"]
    assert [STATUSES[code] for code in result.status[3:]] == ["moved"] * 3
    _, result = planted([beyond, outside, inside, *HOUSES], "building")
    assert [STATUSES[code] for code in result.status] == ["outside", *["moved"] * 5]


def test_lines_turn_and_points_only_shift(planted: Planted) -> None:
    line = shapely.LineString([(30, 200), (90, 200), (90, 240)])
    trees = shapely.MultiPoint([(150, 150), (180, 150), (180, 170)])
    (road, moved, tree), result = planted([line, trees, shapely.Point(250, 30)], "building")
    assert road.length == pytest.approx(line.length, abs=1e-6)
    (x0, y0), (x1, y1) = shapely.get_coordinates(road)[:2]
    assert np.degrees(np.arctan2(y1 - y0, x1 - x0)) == pytest.approx(-1.5, abs=0.8)
    shift = shapely.get_coordinates(moved) - shapely.get_coordinates(shapely.from_wkb(rows_of([trees])[0]))
    np.testing.assert_allclose(shift, np.tile([result.dx_m[1], result.dy_m[1]], (3, 1)), atol=1e-6)
    assert tree.x == pytest.approx(500_000 + 250 + result.dx_m[2])
