"""Greedy matching and F1 against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon, Polygon, box

from training.metrics_instances import InstanceScores, label_overlaps, match, mean_f1, polygon_overlaps, score


def test_by_hand() -> None:
    truth = [box(0, 0, 10, 10), box(20, 0, 30, 10), box(40, 0, 50, 10)]
    predicted = [
        box(0, 0, 10, 8),  # IoU .8: found
        box(20, 0, 30, 4),  # IoU .4: too little
        box(21, 5, 30, 10),  # IoU .45: too little
        box(60, 0, 70, 10),  # nothing there
        box(38, 0, 50, 10),  # 100 / 120: found
    ]
    got = score(polygon_overlaps(truth, predicted))
    assert got == InstanceScores(2, 3, 1)
    assert (got.precision, got.recall, got.f1) == pytest.approx((0.4, 2 / 3, 0.5))


def test_each_truth_is_used_once_and_order_decides() -> None:
    truth = [box(0, 0, 10, 10)]
    predicted = [box(0, 0, 10, 6), box(0, 0, 10, 9)]
    overlaps = polygon_overlaps(truth, predicted)
    assert match(overlaps).tolist() == [0, -1]
    assert match(overlaps, order=[1, 0]).tolist() == [-1, 0]
    assert score(overlaps) == InstanceScores(1, 1, 0)


def test_the_threshold_is_inclusive() -> None:
    overlaps = polygon_overlaps([box(0, 0, 10, 10)], [box(0, 0, 10, 5)])
    assert overlaps.iou.tolist() == [0.5]
    assert score(overlaps, 0.5).true_positives == 1 and score(overlaps, 0.51).true_positives == 0


def test_bad_geometry_is_repaired_or_counted() -> None:
    bow = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    two = MultiPolygon([box(20, 0, 30, 10), box(32, 0, 42, 10)])
    got = score(polygon_overlaps([bow, two], [bow, two, None, Polygon()]))
    assert got == InstanceScores(2, 2, 0)


def test_empty_sides() -> None:
    assert score(polygon_overlaps([], [box(0, 0, 1, 1)])) == InstanceScores(0, 1, 0)
    assert score(polygon_overlaps([box(0, 0, 1, 1)], [])) == InstanceScores(0, 0, 1)
    nothing = score(polygon_overlaps([], []))
    assert (nothing.f1, nothing.precision, nothing.recall) == (0, 0, 0)
    assert mean_f1([]) == 0


def test_cities_sum_their_images_and_average_their_f1() -> None:
    vegas = InstanceScores(8, 2, 2) + InstanceScores(1, 0, 1)
    assert vegas == InstanceScores(9, 2, 3)
    assert mean_f1([vegas, InstanceScores(0, 1, 1)]) == pytest.approx(18 / 23 / 2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5))
def test_label_images_and_polygons_agree(seed: int, a: int, b: int) -> None:
    rng = np.random.default_rng(seed)

    def scene(count: int) -> tuple[np.ndarray, list[Polygon]]:
        labels, shapes = np.zeros((24, 60), np.int32), []
        for i in range(count):  # boxes in columns of their own, so that none hides another
            y0, x0 = rng.integers(0, 12), i * 12 + rng.integers(0, 4)
            y1, x1 = y0 + rng.integers(2, 12), x0 + rng.integers(2, 8)
            labels[y0:y1, x0:x1] = 7 * i + 3
            shapes.append(box(x0, y0, x1, y1))
        return labels, shapes

    (truth, truth_shapes), (predicted, predicted_shapes) = scene(a), scene(b)
    pixels, polygons = label_overlaps(truth, predicted), polygon_overlaps(truth_shapes, predicted_shapes)
    assert (pixels.truths, pixels.predictions) == (polygons.truths, polygons.predictions) == (a, b)

    def table(o: object) -> dict[tuple[int, int], float]:
        return {(int(t), int(p)): float(i) for t, p, i in zip(o.truth, o.predicted, o.iou, strict=True)}  # type: ignore[attr-defined]

    assert table(pixels) == pytest.approx(table(polygons))
    for threshold in (0.3, 0.5, 0.7):
        assert score(pixels, threshold) == score(polygons, threshold)


def test_label_images_without_background() -> None:
    labels = np.array([[1, 1, 2, 2]])
    assert score(label_overlaps(labels, labels)) == InstanceScores(2, 0, 0)
    assert score(label_overlaps(labels, np.zeros_like(labels))) == InstanceScores(0, 0, 2)
