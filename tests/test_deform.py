"""Published misalignment fields."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.deform import CANVAS, gaussian_field, misalign, undo

FIELD = gaussian_field(np.random.default_rng(3))


def test_a_field_spans_minus_one_to_one_and_is_smooth() -> None:
    s = FIELD.samples
    assert s.shape[0] == 2
    np.testing.assert_allclose(s.min((1, 2)), -1, atol=1e-6)
    np.testing.assert_allclose(s.max((1, 2)), 1, atol=1e-6)
    # deviation about 275 px: over 100 px a component changes by far less than its range
    xy = np.random.default_rng(0).uniform(0, CANVAS - 100, (500, 2))
    assert np.abs(FIELD(xy + (100, 0)) - FIELD(xy)).max() < 0.5


def test_samples_are_met_exactly_and_the_border_is_clamped() -> None:
    np.testing.assert_allclose(FIELD(np.array([[40.0, 60.0]]))[0], FIELD.samples[:, 3, 2], atol=1e-6)
    np.testing.assert_allclose(FIELD(np.array([[-9.0, -9.0]])), FIELD(np.array([[0.0, 0.0]])))
    assert FIELD(np.full((4, 5, 2), CANVAS + 7.0)).shape == (4, 5, 2)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 32), st.integers(0, 10**6))
def test_undo_is_the_inverse_of_moving(largest: float, seed: int) -> None:
    true = np.random.default_rng(seed).uniform(0, CANVAS, (50, 2))
    old = undo(true, lambda xy: largest * FIELD(xy))
    np.testing.assert_allclose(old + largest * FIELD(old), true, atol=1e-3)


def test_misalign_is_seeded_bounded_and_works_on_any_extent() -> None:
    for extent in (300, 4000, 9000):
        coords = np.random.default_rng(1).uniform(700, 700 + extent, (400, 2))
        a, b = (misalign(coords, 32, np.random.default_rng(5)) for _ in range(2))
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - coords).max() <= 32.0001 and np.abs(a - coords).max() > 1
    assert misalign(np.zeros((0, 2)), 32, np.random.default_rng(0)).shape == (0, 2)
