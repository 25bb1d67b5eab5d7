"""Scores of instances against a case worked by hand, and against a second implementation that shares nothing."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from shapely import box

from training.metrics_instances import (
    ABOVE_HALF,
    THRESHOLDS,
    InstanceScores,
    Overlaps,
    match,
    parts,
    polygon_overlaps,
    restrict,
    score,
)

Rectangle = tuple[int, int, int, int]
Rectangles = list[Rectangle]

# Six truths and seven predictions on a line, y from 0 to 10 unless said; areas in m².
TRUTHS: Rectangles = [
    (0, 0, 10, 10),  # A, 100
    (20, 0, 40, 10),  # B, 200
    (50, 0, 60, 10),  # C, 100
    (60, 0, 70, 10),  # D, 100; wall to wall with C
    (80, 0, 90, 10),  # E, 100
    (100, 0, 110, 10),  # F, 100
]
PREDICTIONS: Rectangles = [
    (0, 0, 10, 8),  # a, 80: in A; IoU 80 / (100 + 80 - 80) = .8
    (20, 0, 29, 10),  # b, 90: in B; 90 / 200 = .45
    (30, 0, 40, 10),  # c, 100: in B; 100 / 200 = .5: found, though only just; B is split in two
    (50, 0, 70, 11),  # m, 220: with C and with D 100 / 220 = .4545; merges the two
    (100, 0, 110, 9),  # f, 90: in F; 90 / 100 = .9, but it comes after g:
    (100, 0, 110, 6),  # g, 60: in F; 60 / 100 = .6, surer; F is split in two
    (200, 0, 210, 10),  # h, 100: nothing there
]
CONFIDENCE = (0.7, 0.7, 0.7, 0.7, 0.4, 0.9, 0.7)
#          IoU   .5 .55 .6 .65 .7 .75 .8 .85 .9 .95
# found          A   A   A  A   A  A   A
#                B
#                F   F   F by g; from .65 on g is too poor and f takes F: up to .9
FOUND = (3, 2, 2, 2, 2, 2, 2, 1, 1, 0)


def overlaps_of(truths: Rectangles, predictions: Rectangles) -> Overlaps:
    """Overlaps by the implementation under test."""
    return polygon_overlaps([box(*each) for each in truths], [box(*each) for each in predictions])


def test_the_case_by_hand() -> None:
    overlaps = overlaps_of(TRUTHS, PREDICTIONS)
    order = np.argsort(-np.array(CONFIDENCE), kind="stable")
    assert match(overlaps, 0.5, order).tolist() == [0, -1, 1, -1, -1, 5, -1]
    at = score(overlaps, 0.5, order)
    assert at == InstanceScores(3, 7 - 3, 6 - 3)
    # P 3/7, R 3/6, F1 = 2 · 3 / (2 · 3 + 4 + 3) = 6/13; the matches' IoU (.8 + .5 + .6) / 3
    assert (at.precision, at.recall, at.f1) == pytest.approx((3 / 7, 3 / 6, 6 / 13))
    assert at.mean_iou == pytest.approx(1.9 / 3)
    assert tuple(score(overlaps, iou, order).true_positives for iou in THRESHOLDS) == FOUND
    # F1 is 2 · TP / (7 + 6) at each threshold; the TP sum to 17, so its mean is 34/130
    assert np.mean([score(overlaps, iou, order).f1 for iou in THRESHOLDS]) == pytest.approx(34 / 130)
    # PQ leaves out B, whose IoU is not above .5: (.8 + .6) / (2 + 5/2 + 4/2) = 1.4/6.5; SQ .7, RQ 4/13
    above = score(overlaps, ABOVE_HALF, order)
    assert (above.panoptic, above.mean_iou, above.f1) == pytest.approx((1.4 / 6.5, 0.7, 4 / 13))
    in_truths, in_predictions = parts(overlaps)
    assert in_truths.tolist() == [1, 2, 0, 0, 0, 2]
    # f and g hold 90 and 60 of F's 100, c exactly half of B's 200, which is not more than half
    assert in_predictions.tolist() == [1, 0, 0, 2, 1, 1, 0]
    # In the order of rows f comes first: F at .9 at once
    assert score(overlaps).mean_iou == pytest.approx(2.2 / 3)


def test_counts_of_images_sum() -> None:
    overlaps = overlaps_of(TRUTHS, PREDICTIONS)
    both = score(overlaps) + score(overlaps_of([(0, 0, 2, 2)], [(0, 0, 2, 2)]))
    assert both == InstanceScores(4, 4, 3)
    assert both.mean_iou == pytest.approx(3.2 / 4) and both.panoptic == pytest.approx(3.2 / (4 + 4 / 2 + 3 / 2))


def shared_area(a: Rectangle, b: Rectangle) -> int:
    """Whole square metres that two rectangles share."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def area(a: Rectangle) -> int:
    return (a[2] - a[0]) * (a[3] - a[1])


def exact_iou(a: Rectangle, b: Rectangle) -> Fraction:
    both = shared_area(a, b)
    return Fraction(both, area(a) + area(b) - both)


def brute_force(truths: Rectangles, predictions: Rectangles, iou: Fraction, order: list[int]) -> list[Fraction]:
    """IoU of the matches as SpaceNet's own tool finds them: each prediction in its turn against all truths left."""
    left, matches = list(range(len(truths))), []
    for p in order:
        ious = [exact_iou(truths[t], predictions[p]) for t in left]
        if ious and max(ious) >= iou:
            matches.append(max(ious))
            del left[ious.index(max(ious))]
    return matches


RECTANGLES = st.lists(
    st.tuples(st.integers(0, 14), st.integers(0, 14), st.integers(1, 8), st.integers(1, 8)).map(
        lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3])
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(RECTANGLES, RECTANGLES, st.randoms(use_true_random=False))
def test_a_second_implementation_agrees(truths: Rectangles, predictions: Rectangles, random: object) -> None:
    order = list(range(len(predictions)))
    random.shuffle(order)  # type: ignore[attr-defined]
    overlaps = overlaps_of(truths, predictions)
    for percent, threshold in zip(range(50, 100, 5), THRESHOLDS, strict=True):
        expected = brute_force(truths, predictions, Fraction(percent, 100), order)
        got = score(overlaps, threshold, order)
        assert got == InstanceScores(len(expected), len(predictions) - len(expected), len(truths) - len(expected))
        assert got.iou_sum == pytest.approx(float(sum(expected)))
    above = brute_force(truths, predictions, Fraction(1, 2) + Fraction(1, 10**9), order)
    quality = sum(above) / (len(above) + Fraction(len(truths) + len(predictions) - 2 * len(above), 2)) if above else 0
    assert score(overlaps, ABOVE_HALF, order).panoptic == pytest.approx(float(quality))
    in_truths, in_predictions = parts(overlaps)
    assert in_truths.tolist() == [sum(2 * shared_area(t, p) > area(p) for p in predictions) for t in truths]
    assert in_predictions.tolist() == [sum(2 * shared_area(t, p) > area(t) for t in truths) for p in predictions]


def largest_matching(overlaps: Overlaps, threshold: float) -> int:
    """How many pairs the best assignment has."""
    good = overlaps.iou >= threshold
    where = (overlaps.predicted[good], overlaps.truth[good])
    graph = coo_array((np.ones(good.sum()), where), shape=(overlaps.predictions + 1, overlaps.truths + 1))
    return int((maximum_bipartite_matching(graph.tocsr(), perm_type="column") >= 0).sum())


def apart(rectangles: Rectangles) -> Rectangles:
    """Those that overlap none before them."""
    kept: Rectangles = []
    for each in rectangles:
        if not any(shared_area(each, other) for other in kept):
            kept.append(each)
    return kept


@settings(max_examples=60, deadline=None)
@given(RECTANGLES, RECTANGLES)
def test_greedy_and_optimal(truths: Rectangles, predictions: Rectangles) -> None:
    """From IoU .5 on they agree where neither side overlaps itself; else greedy finds half of the optimum or more."""
    overlaps = overlaps_of(apart(truths), apart(predictions))
    for threshold in (0.5, 0.75):
        backwards = np.arange(overlaps.predictions)[::-1]
        best = largest_matching(overlaps, threshold)
        assert best == score(overlaps, threshold).true_positives == score(overlaps, threshold, backwards).true_positives
    overlaps = overlaps_of(truths, predictions)
    for threshold in (0.1, 0.5, 0.75):
        best = largest_matching(overlaps, threshold)
        assert best / 2 <= score(overlaps, threshold).true_positives <= best


def test_greedy_may_find_less_than_the_optimum() -> None:
    """The first prediction takes the truth that the second needs, though it had another: .8 and .7 against .6."""
    overlaps = overlaps_of([(0, 0, 10, 10), (0, 3, 10, 13)], [(0, 1, 10, 11), (0, 0, 10, 7)])
    assert score(overlaps, 0.6).true_positives == 1 and largest_matching(overlaps, 0.6) == 2


def test_large_polygons_are_cut_without_a_change() -> None:
    """A comb with 500 teeth over a grid of houses: the same overlaps as from whole polygons."""
    teeth = [(x, y) for i in range(500) for x, y in ((i * 0.4, 50), (i * 0.4 + 0.2, 0))]
    comb = shapely.Polygon([*teeth, (200, 50), (200, 60), (0, 60)])
    houses = [box(x, y, x + 6, y + 6) for x in range(0, 200, 10) for y in range(0, 60, 10)]
    overlaps = polygon_overlaps(houses, [comb, houses[0]])
    expected = shapely.area(shapely.intersection(np.array(houses), comb))
    got = np.zeros(len(houses))
    got[overlaps.truth[overlaps.predicted == 0]] = overlaps.shared[overlaps.predicted == 0]
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    assert (expected > 0).all() and overlaps.truths == 120 and overlaps.predictions == 2


def test_restricted_is_as_if_the_rest_were_not_there() -> None:
    truths, predictions = np.array([1, 1, 0, 1, 0, 1], bool), np.array([1, 0, 1, 1, 1, 0, 1], bool)
    got = restrict(overlaps_of(TRUTHS, PREDICTIONS), truths, predictions)
    alone = overlaps_of(*([each for each, kept in zip(side, flags, strict=True) if kept]
                          for side, flags in ((TRUTHS, truths), (PREDICTIONS, predictions))))  # fmt: skip
    order = np.lexsort((got.truth, got.predicted))
    for name in ("truth", "predicted", "iou", "shared"):
        np.testing.assert_allclose(getattr(got, name)[order], getattr(alone, name))
    np.testing.assert_array_equal(got.truth_areas, alone.truth_areas)
    np.testing.assert_array_equal(got.predicted_areas, alone.predicted_areas)


def test_collections_lines_and_points() -> None:
    mixed = shapely.GeometryCollection([box(0, 0, 10, 10), shapely.LineString([(0, 0), (50, 50)])])
    nothing = shapely.GeometryCollection([shapely.Point(1, 1)])
    overlaps = polygon_overlaps([box(0, 0, 10, 10)], [shapely.LineString([(0, 0), (9, 9)]), mixed, nothing, None])
    assert match(overlaps).tolist() == [-1, 0, -1, -1] and overlaps.iou.tolist() == [1]
    assert overlaps.predicted_areas.tolist() == [0, 100, 0, 0]
