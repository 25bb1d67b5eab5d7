"""The drawn cadaster: polygons with an inside, lines without, alike whatever the window."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.drawing import INSIDE, OUTLINE, draw_cadaster

SQUARE = [(10.0, 10.0), (30, 10), (30, 30), (10, 30), (10, 10)]
ROAD = [(5.0, 40.0), (50, 40), (50, 5)]


def draw(*runs: list[tuple[float, float]], shape: tuple[int, int] = (64, 64)) -> np.ndarray:
    offsets = np.cumsum([0, *map(len, runs)])
    return draw_cadaster(np.concatenate([np.array(run) for run in runs]), offsets, np.arange(len(runs) + 1), shape)


def test_a_line_is_an_outline_without_an_inside() -> None:
    raster = draw(ROAD)
    assert set(np.unique(raster)) == {0, OUTLINE}
    assert (raster[39:41, 5:50] == OUTLINE).any(axis=0).all()
    assert not raster[10:35, 8:45].any()  # the way back is not drawn
    assert (raster == OUTLINE).sum() == pytest.approx(45 + 35, abs=3)


def test_a_polygon_is_drawn_alike_beside_a_line() -> None:
    alone, both = draw(SQUARE), draw(ROAD, SQUARE)
    assert alone[20, 20] == INSIDE
    np.testing.assert_array_equal(both, np.maximum(alone, draw(ROAD)))


def test_a_line_over_a_polygon_is_seen() -> None:
    raster = draw(SQUARE, [(0.0, 20.5), (60, 20.5)])
    assert (raster[20, 5:55] == OUTLINE).all()
    assert raster[15, 20] == INSIDE


@pytest.mark.parametrize("corner", [(0, 0), (37, 20), (200, 150)])
def test_a_long_line_is_drawn_alike_whatever_the_window(corner: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    road = np.cumsum(rng.uniform(-10, 30, (60, 2)), axis=0)
    offsets = np.array([0, 60])
    whole = draw_cadaster(road, offsets, np.array([0, 1]), (700, 700))
    x, y = corner
    part = draw_cadaster(road - corner, offsets, np.array([0, 1]), (100, 120))
    np.testing.assert_array_equal(part, whole[y : y + 100, x : x + 120])
    assert whole.any()


def test_nothing_to_draw() -> None:
    empty = draw_cadaster(np.zeros((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64), (8, 9))
    assert empty.shape == (8, 9) and not empty.any()
    assert not draw([(-500.0, -500.0), (-400, -450)], shape=(8, 9)).any()


def test_vertices_are_marked_as_in_training() -> None:
    import torch

    from models import successor_unet
    from pipeline.drawing import mark_vertices

    xy = np.random.default_rng(4).uniform(-8, 48, (300, 2))
    wanted = successor_unet.mark_vertices(torch.from_numpy(xy), 32, 40)[0].numpy()
    found = mark_vertices(xy, (32, 40))
    assert found.sum() > 100
    np.testing.assert_array_equal(found, wanted)
