"""The evidence search: planted shifts come back, neighbours overrule an outlier, shared vertices stay shared."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.kernels import edges
from pipeline.stages import search
from pipeline.stages.search import Search, Shifts, plan_searches


def town(side: int = 240, step: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Squares of several sizes on a flat ground: image (1, side, side), outlines, ring offsets, ring rows."""
    image = np.full((1, side, side), 0.2, np.float32)
    rings = []
    for i, y in enumerate(range(20, side - 30, step)):
        for j, x in enumerate(range(20, side - 30, step)):
            h, w = 12 + 3 * ((i + j) % 3), 10 + 4 * (i % 2)
            image[0, y : y + h, x : x + w] = 0.8
            rings.append([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)])
    coords = np.array(rings, float).reshape(-1, 2)
    return image, coords, np.arange(len(rings) + 1) * 5, np.arange(len(rings))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (5.0, -3.0), (-8.4, 6.3)])
def test_a_common_shift_is_found(shift: tuple[float, float]) -> None:
    image, true, offsets, rows = town()
    xy = true - shift
    gx, gy = search.gradients(image, np.ones(image.shape[1:], bool))
    setting = Search(1, 12, 40.0)
    volume, length = edges.evidence(gx, gy, xy, offsets, rows, len(rows), setting.reach)
    found = search.find_shifts(volume, length, search.centres(xy, offsets), len(rows), setting)
    moved, confidence = search.move(xy, found, setting)
    assert np.abs(moved - true).max() < 0.6
    assert (confidence > 0).all()


def test_nodata_gives_no_edges() -> None:
    image, *_ = town()
    valid = np.ones(image.shape[1:], bool)
    valid[:, 100:] = False
    gx, gy = search.gradients(image * valid, valid)
    assert gx[:, :, :90].any()
    assert not gx[:, :, 97:].any() and not gy[:, :, 97:].any()


def test_equal_points_move_equally_and_far_ones_stay() -> None:
    rng = np.random.default_rng(0)
    shifts = Shifts(rng.random((30, 2)) * 100, rng.random(30), rng.standard_normal((30, 2)), rng.random(30))
    xy = np.array([[50.0, 50.0], [10.0, 90.0], [50.0, 50.0], [900.0, 900.0]])
    moved, confidence = search.move(xy, shifts, Search(1, 6, 20.0))
    assert (moved[0] == moved[2]).all()
    assert (moved[3] == xy[3]).all() and confidence[3] == 0


def test_tables_keep_every_column() -> None:
    rng = np.random.default_rng(0)
    shifts = Shifts(rng.random((3, 2)), rng.random(3), rng.random((3, 2)), rng.random(3))
    again = Shifts.of(shifts.table())
    assert all((getattr(again, name) == getattr(shifts, name)).all() for name in Shifts.__slots__)


@pytest.mark.parametrize(
    ("gsd", "factors"), [(0.1, (4, 2, 1)), (0.15, (4, 2, 1)), (0.3, (2, 1)), (0.5, (1,)), (2.0, (1,))]
)
def test_searches_start_where_a_house_still_has_an_outline(gsd: float, factors: tuple[int, ...]) -> None:
    plan = plan_searches(gsd)
    assert tuple(each.factor for each in plan) == factors
    assert plan[0].reach * plan[0].factor >= search.REACH


def test_near_lists_are_sorted_and_complete() -> None:
    rng = np.random.default_rng(3)
    points, around = rng.random((40, 2)), rng.random((7, 2))
    indices, offsets, distance = search.near(points, around, 0.3)
    for i in range(7):
        gap = np.hypot(*(points - around[i]).T)
        assert indices[offsets[i] : offsets[i + 1]].tolist() == np.flatnonzero(gap <= 0.3).tolist()
        np.testing.assert_allclose(distance[offsets[i] : offsets[i + 1]], gap[gap <= 0.3])
