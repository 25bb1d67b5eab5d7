from __future__ import annotations

import numpy as np

from training.metrics_classes import count, figures, total
from training.targets_classes import BACKGROUND, BUILDING, NOT_BUILDING, NOT_ROAD, ROAD, UNKNOWN


def test_complete_labels() -> None:
    codes = np.array([[BUILDING, BUILDING, ROAD, BACKGROUND, UNKNOWN]], np.uint8)
    seen = np.array([[0, 2, 1, 1, 0]])
    result = figures(count(seen, codes))
    assert result == {
        "building_iou": 0.5, "road_iou": 0.5, "background_iou": 0.0, "accuracy": 0.5, "building_accuracy": 0.75,
    }  # fmt: skip


def test_buildings_only_say_nothing_of_roads() -> None:
    codes = np.array([[BUILDING, BUILDING, NOT_BUILDING, NOT_BUILDING]], np.uint8)
    result = figures(count(np.array([[0, 1, 1, 0]]), codes))
    assert result == {"building_iou": round(1 / 3, 4), "building_accuracy": 0.5}


def test_roads_only_say_nothing_of_buildings() -> None:
    codes = np.array([[ROAD, NOT_ROAD, NOT_ROAD, UNKNOWN]], np.uint8)
    assert figures(count(np.array([[1, 1, 0, 1]]), codes)) == {"road_iou": 0.5}


def test_counts_add_up_over_scenes() -> None:
    one = count(np.array([[0, 2]]), np.array([[BUILDING, NOT_BUILDING]], np.uint8))
    two = count(np.array([[2, 2]]), np.array([[BUILDING, NOT_BUILDING]], np.uint8))
    assert figures(total([one, two]))["building_iou"] == 0.5
