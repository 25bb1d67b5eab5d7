"""Evaluation areas: which, and that nothing near them is trained on."""

from __future__ import annotations

import numpy as np
import pytest

from training.areas import EVALUATION_SCENES, MARGIN_M, split
from training.chips import LabelledScene


def scene(name: str, labelled: np.ndarray, gsd: float = 1.0) -> LabelledScene:
    empty, image = np.zeros(1, np.int64), np.zeros((3, *labelled.shape), np.uint8)
    return LabelledScene(
        name, gsd, image, np.ones_like(labelled), labelled, np.zeros((0, 2)), empty, empty
    )  # fmt: skip


def test_the_northern_block_is_held_out_whole_and_a_margin_around_it() -> None:
    labelled = np.zeros((120, 80), bool)
    labelled[5:50, 10:60] = True
    labelled[53:110, 20:70] = True
    train, evaluate = split(scene("banepa_np", labelled))
    assert evaluate[5:50, 10:60].all() and not evaluate[50:].any()
    first = np.flatnonzero(train.any(1))[0]
    assert first == 50 + round(MARGIN_M) and train[60:110, 20:70].all()


@pytest.mark.parametrize("name", EVALUATION_SCENES)
def test_scenes_held_out_whole(name: str) -> None:
    train, evaluate = split(scene(name, np.ones((20, 30), bool)))
    assert not train.any() and evaluate.all()


@pytest.mark.parametrize(("name", "share"), [("vegas_us", 0.4), ("vegas_roads_us", 0.3)])
def test_the_right_hand_share_is_held_out(name: str, share: float) -> None:
    train, evaluate = split(scene(name, np.ones((20, 100), bool)))
    assert evaluate.mean() == pytest.approx(share)
    assert train[:, : round(100 * (1 - share)) - 10].all() and not (train & evaluate).any()
    assert train.mean() == pytest.approx(1 - share - 0.1)


def test_everything_else_trains_and_nothing_outside_labels() -> None:
    labelled = np.zeros((20, 30), bool)
    labelled[3:9] = True
    train, evaluate = split(scene("massachusetts_us_a", labelled))
    np.testing.assert_array_equal(train, labelled)
    assert not evaluate.any()
