"""Vertex errors and their summary."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.metrics import accuracy_curve, summary, vertex_errors


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
