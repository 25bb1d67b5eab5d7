"""Edge evidence against a plain loop, peaks against planted ones, blending against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from pipeline.kernels import edges, scatter

SQUARE = np.array([[10.0, 10], [22, 10], [22, 20], [10, 20], [10, 10]])


def test_evidence_is_the_mean_gradient_across_the_outline() -> None:
    rng = np.random.default_rng(0)
    gx, gy = rng.standard_normal((2, 2, 40, 44)).astype(np.float32)
    offsets, rows = np.array([0, 5]), np.zeros(1, np.int64)
    volume, length = edges.evidence(gx, gy, SQUARE, offsets, rows, 1, 3)
    assert length[0] == pytest.approx(44)
    dy, dx = 2, -1
    total = 0.0
    for (x0, y0), (x1, y1) in zip(SQUARE[:-1], SQUARE[1:], strict=True):
        side = np.hypot(x1 - x0, y1 - y0)
        for k in range(int(side)):
            t = (k + 0.5) / side
            at = [[y0 + (y1 - y0) * t - 0.5 + dy], [x0 + (x1 - x0) * t - 0.5 + dx]]
            for a, b in zip(gx, gy, strict=True):
                across = map_coordinates(a, at, order=1)[0] * (y1 - y0) - map_coordinates(b, at, order=1)[0] * (x1 - x0)
                total += abs(across / side)
    assert volume[0, dy + 3, dx + 3] == pytest.approx(total / 44, rel=1e-5)


def test_a_shifted_square_is_found_to_a_fraction_of_a_pixel() -> None:
    image = np.zeros((60, 60), np.float32)
    image[14:24, 13:25] = 1  # the square, 3 px to the right and 4 down
    gy, gx = np.gradient(image)
    volume, _ = edges.evidence(
        gx[None].astype(np.float32), gy[None].astype(np.float32), SQUARE, np.array([0, 5]), np.zeros(1, np.int64), 1, 6
    )
    dx, dy, clear, agree = edges.peaks(volume, volume)[0]
    assert (dx, dy) == (pytest.approx(3, abs=0.2), pytest.approx(4, abs=0.2))
    assert clear > 3 and agree > 0.9


def test_no_evidence_is_no_shift() -> None:
    flat = np.zeros((1, 30, 30), np.float32)
    volume, length = edges.evidence(flat, flat, SQUARE, np.array([0, 5]), np.zeros(1, np.int64), 1, 4)
    assert length[0] > 0 and not edges.peaks(volume, volume).any()


def test_outside_the_raster_nothing_is_read() -> None:
    planes = np.ones((1, 12, 12), np.float32)
    volume, length = edges.evidence(planes, planes, SQUARE + 100, np.array([0, 5]), np.zeros(1, np.int64), 1, 4)
    assert length[0] == 0 and not volume.any()


def test_mix_is_a_weighted_mean() -> None:
    rng = np.random.default_rng(1)
    volume = rng.random((4, 3, 3)).astype(np.float32)
    mixed = edges.mix(volume, np.array([0, 2, 3]), np.array([0, 2, 2, 3]), np.array([1.0, 3.0, 2.0]))
    np.testing.assert_allclose(mixed[0], volume[0] / 4 + volume[2] * 3 / 4, rtol=1e-5)
    assert not mixed[1].any()
    np.testing.assert_allclose(mixed[2], volume[3])


def test_blend_equals_numpy_and_does_not_depend_on_what_is_out_of_reach() -> None:
    rng = np.random.default_rng(2)
    at, places = rng.random((50, 2)) * 100, rng.random((80, 2)) * 100
    values, weights = rng.random((80, 2)), rng.random(80)
    found = scatter.blend(at, places, values, weights, 8.0, 20.0)
    gap = ((at[:, None] - places) ** 2).sum(-1)
    share = np.where(gap <= 400, weights * np.exp(-0.5 * gap / 64), 0)
    np.testing.assert_allclose(found[:, 2], share.sum(1), atol=1e-12)
    np.testing.assert_allclose(found[:, :2], share @ values / np.maximum(share.sum(1), 1e-300)[:, None], atol=1e-12)
    near = (gap.min(0) < 1e9) & ((gap[:5] <= 400).any(0))
    alone = scatter.blend(at[:5], places[near], values[near], weights[near], 8.0, 20.0)
    assert (alone == found[:5]).all()


def test_blend_far_from_everything_is_nothing() -> None:
    one = np.zeros((1, 2))
    assert not scatter.blend(one + 1000, one, one + 1, np.ones(1), 1.0, 3.0).any()
    assert scatter.blend(one, np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), 1.0, 3.0).shape == (1, 3)
