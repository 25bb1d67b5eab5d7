from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from training.chips import LabelledScene
from training.roads_by_hand import with_roads
from training.targets_classes import (
    BACKGROUND,
    BUILDING,
    NOT_BUILDING,
    NOT_ROAD,
    ROAD,
    UNKNOWN,
    draw_lines,
    no_road_by_colour,
    partial_loss,
    scene_codes,
)  # fmt: skip

SQUARE = np.array([(10, 10), (30, 10), (30, 30), (10, 30), (10, 10)], np.float64)
HOLE = np.array([(16, 16), (16, 24), (24, 24), (24, 16), (16, 16)], np.float64)


def scene(**changes: object) -> LabelledScene:
    given = LabelledScene(
        "made", 0.5, np.zeros((3, 60, 80), np.uint8), np.ones((60, 80), bool), np.ones((60, 80), bool),
        np.concatenate([SQUARE, HOLE]), np.array([0, 5, 10]), np.array([0, 2]),
    )  # fmt: skip
    return dataclasses.replace(given, **changes)  # type: ignore[arg-type]


def nothing() -> dict[str, object]:
    return {"coords": np.zeros((0, 2)), "ring_offsets": np.zeros(1, np.int64), "polygon_offsets": np.zeros(1, np.int64)}


def test_buildings_only() -> None:
    made = scene()
    codes = scene_codes(made, made.labelled, 0.5)
    assert codes.shape == (60, 80) and codes.dtype == np.uint8
    assert codes[12, 12] == BUILDING and codes[20, 20] == NOT_BUILDING and codes[50, 70] == NOT_BUILDING
    assert (codes == BUILDING).sum() == 400 - 64


def test_resampled_to_another_gsd() -> None:
    made = scene()
    codes = scene_codes(made, made.labelled, 1.0)
    assert codes.shape == (30, 40) and (codes == BUILDING).sum() == 100 - 16


def test_outside_the_area_and_nodata_are_unknown() -> None:
    made = scene()
    area, valid = made.labelled.copy(), made.valid.copy()
    area[:, 40:], valid[:5] = False, False
    codes = scene_codes(dataclasses.replace(made, valid=valid), area, 0.5)
    assert (codes[:, 40:] == UNKNOWN).all() and (codes[:5] == UNKNOWN).all() and codes[6, 6] == NOT_BUILDING


def test_roads_only_have_verges() -> None:
    made = scene(roads=(np.array([(0.0, 30.0), (80.0, 30.0)]),), **nothing())
    column = scene_codes(made, made.labelled, 0.5)[:, 40]
    assert column[30] == ROAD and column[30 + 10] == UNKNOWN and column[2] == NOT_ROAD
    assert 10 <= (column == ROAD).sum() <= 14


def test_all_classes_known() -> None:
    road = np.array([(0, 40), (80, 40), (80, 50), (0, 50), (0, 40)], np.float64)
    made = scene(class_polygons={"road": (road, np.array([0, 5]), np.array([0, 1]))})
    codes = scene_codes(made, made.labelled, 0.5)
    assert codes[45, 5] == ROAD and codes[12, 12] == BUILDING and codes[55, 5] == BACKGROUND


def test_hand_drawn_roads_complete_only_what_was_partial() -> None:
    made = scene(name="banepa_np", gsd=0.15, image=np.zeros((3, 7758, 10029), np.uint8))
    codes = np.full((1940, 2507), NOT_BUILDING, np.uint8)
    codes[:, 1000:1100] = BUILDING
    done = with_roads(made, codes, 0.6)
    assert (done[:, 1000:1100] == BUILDING).all()
    assert np.array_equal(done[:794], codes[:794]), "the evaluation block must stay as it is"
    assert (done == ROAD).sum() > 10_000 and (done == BACKGROUND).sum() > 100_000
    assert with_roads(scene(), codes, 0.6) is codes


def test_lines_have_their_width() -> None:
    mask = draw_lines((np.array([(5.0, 20.0), (35.0, 20.0)]),), 8.0, (40, 40))
    assert 7 <= mask[:, 20].sum() <= 9 and abs(np.flatnonzero(mask[:, 20]).mean() + 0.5 - 20) <= 1


def test_loss_of_full_labels_is_cross_entropy() -> None:
    scores, codes = torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5))
    expected = torch.nn.functional.cross_entropy(scores, codes)
    assert torch.allclose(partial_loss(scores, codes, torch.ones(6)), expected)


@pytest.mark.parametrize(("code", "allowed"), [(NOT_BUILDING, (1, 2)), (NOT_ROAD, (0, 2))])
def test_loss_of_partial_labels_asks_for_the_sum(code: int, allowed: tuple[int, int]) -> None:
    scores = torch.randn(1, 3, 4, 4)
    p = scores.softmax(1)[:, list(allowed)].sum(1)
    loss = partial_loss(scores, torch.full((1, 4, 4), code), torch.ones(6))
    assert torch.allclose(loss, -p.log().mean(), atol=1e-6)


def test_unknown_pixels_cost_nothing_and_give_no_gradient() -> None:
    scores = torch.randn(1, 3, 4, 4, requires_grad=True)
    codes = torch.full((1, 4, 4), UNKNOWN)
    loss = partial_loss(scores, codes, torch.ones(6))
    loss.backward()
    assert loss.item() == 0 and scores.grad is not None and not scores.grad.isnan().any() and not scores.grad.any()


def test_colour_tells_meadows_and_leafless_woods_from_asphalt() -> None:
    image = np.zeros((3, 30, 90), np.uint8)
    image[:] = 120
    image[:, :, :30] = np.array([90, 130, 70])[:, None, None]
    image[:, :, 60:] = np.array([120, 100, 80])[:, None, None]
    assert no_road_by_colour(image)[15, (5, 45, 85)].tolist() == [True, False, False]
    assert no_road_by_colour(image, brown=True)[15, (5, 45, 85)].tolist() == [True, False, True]
