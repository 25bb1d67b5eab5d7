"""The learned steps' arithmetic: drawing, weighted sums, smoothing and moving, whatever the window."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.drawing import INSIDE, OUTLINE, draw_cadaster
from pipeline.grid import Window
from pipeline.stages import align
from pipeline.stages.align import CELL, Drawing, FieldNetwork, Step


def drawing(rng: np.random.Generator, count: int = 12, side: float = 400) -> Drawing:
    """Random boxes, some with a hole."""
    coords, rings, polygons, boxes = [], [0], [0], []
    for i in range(count):
        x, y = rng.random(2) * side
        w, h = 15 + rng.random(2) * 60
        shapes = [(x, y, w, h)] + ([(x + w / 3, y + h / 3, w / 3, h / 3)] if i % 3 == 0 else [])
        for a, b, c, d in shapes:
            coords += [(a, b), (a + c, b), (a + c, b + d), (a, b + d), (a, b)]
            rings.append(len(coords))
        polygons.append(len(rings) - 1)
        boxes.append((x, y, x + w, y + h))
    return Drawing(np.array(coords), np.array(rings), np.array(polygons), np.array(boxes))


@given(st.integers(0, 10_000), st.integers(0, 300), st.integers(0, 300))
@example(17, 65, 115)  # an outline a hair's breadth outside the window, rounded into it
def test_a_pixel_is_drawn_alike_whatever_the_window(seed: int, y0: int, x0: int) -> None:
    city = drawing(np.random.default_rng(seed))
    whole = draw_cadaster(city.coords, city.ring_offsets, city.polygon_offsets, (480, 480))
    window = Window(y0, x0, 120, 140)
    seen = city.inside(window)
    part = np.zeros((120, 140), np.float32)
    if seen is not None:
        part = draw_cadaster(seen.coords, seen.ring_offsets, seen.polygon_offsets, (120, 140))
    assert (part == whole[window.slices()]).all()


def test_holes_stay_open_and_outlines_closed() -> None:
    coords = np.array([[4.0, 4], [40, 4], [40, 40], [4, 40], [4, 4], [14, 14], [30, 14], [30, 30], [14, 30], [14, 14]])
    raster = draw_cadaster(coords, np.array([0, 5, 10]), np.array([0, 2]), (48, 48))
    assert raster[8, 8] == INSIDE and raster[22, 22] == 0 and raster[0, 0] == 0
    assert (raster == OUTLINE).any()


def test_a_constant_answer_moves_every_vertex_by_it() -> None:
    city, step, window = drawing(np.random.default_rng(1), side=150), Step(2, 1), Window(0, 0, 256, 256)

    def network(image: torch.Tensor, cadaster: torch.Tensor) -> torch.Tensor:
        answer = torch.zeros(1, 2, image.shape[2] - 64, image.shape[3] - 64)
        answer[:, 0], answer[:, 1] = 3.0, -1.5
        return answer

    gray = np.zeros((256 + 64, 256 + 64), np.float32)
    sums = align.predict_window(FieldNetwork(network), gray, city, window, 32, step.factor, "cpu")
    assert sums is not None and sums.shape == (4, 64, 64)
    region = Window(-42, -42, 148, 148)
    padded = np.zeros((4, 148, 148), np.float32)
    padded[:, 42:106, 42:106] = sums
    xy = city.coords * step.factor
    moved, confidence = align.move(xy, align.smooth_field(padded, step.factor), region, step.factor)
    np.testing.assert_allclose(moved - xy, np.tile([6.0, -3.0], (len(xy), 1)), rtol=2e-2)
    assert (confidence > 0.9).all()


def test_disagreement_lowers_confidence() -> None:
    rng = np.random.default_rng(0)
    sums = np.zeros((4, 60, 60), np.float32)
    sums[2] = 1
    calm = sums.copy()
    sums[:2] = rng.standard_normal((2, 60, 60)) * 6
    sums[3] = (sums[:2] ** 2).sum(0)
    at = np.array([[30.0, 30.0]]) * CELL
    loud = align.move(at, align.smooth_field(sums, 1), Window(0, 0, 60, 60), 1)[1]
    assert loud[0] < 0.2 < 0.9 < align.move(at, align.smooth_field(calm, 1), Window(0, 0, 60, 60), 1)[1][0]


def test_nothing_drawn_is_no_window() -> None:
    city = drawing(np.random.default_rng(1), side=50)
    gray = np.zeros((320, 320), np.float32)
    nobody = FieldNetwork(lambda image, cadaster: image)
    assert align.predict_window(nobody, gray, city, Window(2000, 2000, 256, 256), 32, 1, "cpu") is None


def test_a_network_that_reads_rasters_gets_them_of_the_same_polygons() -> None:
    city, read = drawing(np.random.default_rng(1), side=200), Window(-32, -32, 320, 320)
    seen = []

    def rasters(cadaster: torch.Tensor, vertices: torch.Tensor) -> torch.Tensor:
        seen.append((cadaster, vertices))
        return torch.cat([cadaster, vertices], dim=1)

    def network(image: torch.Tensor, polygons: torch.Tensor) -> torch.Tensor:
        assert polygons.shape == (1, 2, 320, 320)
        return torch.ones(1, 2, 256, 256)

    gray = np.zeros((320, 320), np.float32)
    sums = align.predict_window(FieldNetwork(network, rasters), gray, city, Window(0, 0, 256, 256), 32, 1, "cpu")
    ((cadaster, vertices),) = seen
    inside = city.inside(read)
    assert sums is not None and inside is not None and sums[0].any()
    column, row = np.floor(inside.coords).astype(int).T
    there = (column >= 0) & (row >= 0) & (column < 320) & (row < 320)
    marks = np.zeros((320, 320))
    marks[row[there], column[there]] = 1
    assert marks.sum() > 40 and (vertices[0, 0].numpy() == marks).all()
    drawn = draw_cadaster(inside.coords, inside.ring_offsets, inside.polygon_offsets, (320, 320))
    assert (cadaster[0, 0].numpy() == drawn).all()


def test_steps_run_from_coarse_to_fine() -> None:
    rounds = {8: 2, 4: 2, 2: 1, 1: 1}
    names = [step.name for step in align.plan_steps(rounds, 4)]
    assert names == ["align-f4p1", "align-f4p2", "align-f2p1", "align-f1p1"]
    assert [step.factor for step in align.plan_steps({2: 1, 1: 1}, 0)] == [1]
