"""Vertex errors, their summary, and what confidence foretells of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.metrics import (
    CURVE,
    accuracy_curve,
    more_confident,
    polygon_means,
    reliability,
    summary,
    vertex_errors,
)

SHORT = st.integers(0, 10).map(lambda tenth: tenth / 10)
"""Numbers with many equal ones."""


def test_errors_are_distances_and_orders_must_agree() -> None:
    errors = vertex_errors(np.array([[3.0, 4.0], [1.0, 1.0]]), np.array([[0.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_allclose(errors, [5, 0])
    with pytest.raises(ValueError, match="in order"):
        vertex_errors(np.zeros((3, 2)), np.zeros((2, 2)))


def test_the_curve_counts_thresholds_in_and_missing_out() -> None:
    errors = np.array([0.5, 2.0, 3.0, np.nan])
    np.testing.assert_allclose(accuracy_curve(errors, (0, 0.5, 2, 10)), [0, 0.25, 0.5, 0.75])


def test_summary() -> None:
    figures = summary(np.array([0.5, 1.5, 3.0, 7.0]))
    assert figures["mean"] == 3.0 and figures["median"] == 2.25
    assert [figures[f"within_{t}"] for t in (1, 2, 4, 8)] == [0.25, 0.5, 0.75, 1.0]
    assert math.isnan(summary(np.zeros(0))["mean"])


def test_means_are_one_a_polygon() -> None:
    means = polygon_means(np.array([1.0, 3.0, np.nan, 2.0, 6.0]), np.array([2, 0, 1, 1, 1]))
    np.testing.assert_equal(means, [2, np.nan, np.nan, 2, 6])
    with pytest.raises(ValueError, match="2 errors for 3 vertices"):
        polygon_means(np.zeros(2), np.array([3]))


@given(st.lists(st.tuples(SHORT, SHORT), max_size=60), st.integers(1, 12))
def test_reliability_equals_counting(pairs: list[tuple[float, float]], bins: int) -> None:
    """Against going through the polygons one by one."""
    sure, errors = (np.array([pair[side] for pair in pairs], float) for side in (0, 1))
    found = reliability(sure, errors, within=0.5, bins=bins)
    assert sum(each.count for each in found) == len(pairs)
    assert len(found) <= bins
    edges = sorted({float(np.quantile(sure, step)) for step in np.linspace(0, 1, bins + 1)}) if pairs else []
    inner = edges[1:-1]
    groups: dict[int, list[tuple[float, float]]] = {}
    for pair in pairs:
        groups.setdefault(sum(pair[0] >= edge for edge in inner), []).append(pair)
    for each, (_, group) in zip(found, sorted(groups.items()), strict=True):
        assert each.count == len(group)
        assert each.confidence == pytest.approx(sum(pair[0] for pair in group) / len(group))
        assert each.share_within == pytest.approx(sum(pair[1] <= 0.5 for pair in group) / len(group))


def test_reliability_of_distinct_confidences_has_bins_of_equal_number() -> None:
    sure = np.random.default_rng(1).permutation(100) / 100
    found = reliability(sure, 1 - sure, within=0.305)
    assert [each.count for each in found] == [10] * 10
    np.testing.assert_allclose([each.confidence for each in found], np.arange(10) / 10 + 0.045)
    np.testing.assert_allclose([each.share_within for each in found], [0] * 7 + [1] * 3)


@given(st.lists(SHORT, max_size=40))
def test_the_more_confident_half_is_above_the_rest_and_near_a_half(values: list[float]) -> None:
    sure = np.array(values, float)
    half = more_confident(sure)
    if half.any() and not half.all():
        assert sure[half].min() > sure[~half].max()
    # No other cut between distinct values comes nearer to a half.
    cuts = [abs(2 * int((sure >= cut).sum()) - len(sure)) for cut in {*values, np.inf}]
    assert abs(2 * int(half.sum()) - len(sure)) == min(cuts)


@given(st.lists(st.floats(0, 40), max_size=50))
def test_the_curve_equals_counting(values: list[float]) -> None:
    shares = accuracy_curve(np.array(values, float), CURVE)
    expected = [sum(value <= at for value in values) / max(len(values), 1) for at in CURVE]
    np.testing.assert_allclose(shares, expected)
    assert (CURVE[0], CURVE[4], CURVE[-1]) == (0.25, 0.5, 32)
