"""Sampling and smoothing of fields, against SciPy, and bit for bit under cropping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.kernels import sample, smooth


@pytest.mark.parametrize("shape", [(2, 20, 30), (1, 1, 7), (3, 5, 1), (1, 1, 1)])
def test_bilinear_equals_scipy(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    field = rng.normal(size=shape).astype(np.float32)
    xy = rng.uniform(-4, 36, (500, 2))
    xy[:50] = np.round(xy[:50])
    xy[50:100] = np.round(xy[50:100]) + 0.5
    expected = [
        ndimage.map_coordinates(band.astype(float), (xy[:, 1] - 0.5, xy[:, 0] - 0.5), order=1, mode="nearest")
        for band in field
    ]
    np.testing.assert_allclose(sample.bilinear(field, xy), np.transpose(expected), rtol=0, atol=1e-12)


def test_bilinear_gives_a_pixel_its_own_value_at_its_centre() -> None:
    field = np.random.default_rng(2).normal(size=(2, 6, 8)).astype(np.float32)
    rows, columns = np.mgrid[:6, :8]
    xy = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    np.testing.assert_array_equal(sample.bilinear(field, xy), field.reshape(2, -1).T)


def test_bilinear_of_points_without_sense() -> None:
    field = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    xy = np.array([[np.nan, 1], [1, np.nan], [np.inf, np.inf], [-np.inf, 1e300], [1.0, 1.0]])
    out = sample.bilinear(field, xy)[:, 0]
    assert np.isnan(out[:2]).all()
    assert out[2:].tolist() == [3.0, 2.0, 1.5]
    assert sample.bilinear(field, np.empty((0, 2))).shape == (0, 1)
    with pytest.raises(ValueError, match="at least one pixel"):
        sample.bilinear(np.empty((1, 0, 4), np.float32), xy)


def test_sampling_reads_memory_that_is_read_only_or_strided() -> None:
    field = np.random.default_rng(2).normal(size=(6, 8, 2)).astype(np.float32).transpose(2, 0, 1)
    xy = np.array([[3.25, 4.5]])
    field.flags.writeable = xy.flags.writeable = False
    np.testing.assert_array_equal(sample.bilinear(field, xy), sample.bilinear(field.copy(), xy.copy()))
    assert not field.flags.writeable


@pytest.mark.parametrize(("sigma", "radius"), [(0.8, 2), (4.0, 12), (2.0, 0), (10.0, 40)])
def test_gaussian_equals_scipy(sigma: float, radius: int) -> None:
    field = np.random.default_rng(3).normal(size=(2, 33, 47)).astype(np.float32)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    expected = ndimage.correlate1d(field.astype(float), taps, axis=1, mode="constant")
    expected = ndimage.correlate1d(expected, taps, axis=2, mode="constant")
    np.testing.assert_allclose(smooth.gaussian(field, sigma, radius), expected, rtol=0, atol=2e-6)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_gaussian_is_bit_equal_in_a_crop(y: int, x: int, height: int, width: int, radius: int) -> None:
    field = np.random.default_rng(4).normal(size=(2, 60, 70)).astype(np.float32)
    field[:, 20:25] = 0
    whole = smooth.gaussian(field, 1.7, radius)
    y, x = y + 7, x + 7
    read = field[:, y - radius : y + height + radius, x - radius : x + width + radius]
    core = smooth.gaussian(read, 1.7, radius)[:, radius : radius + height, radius : radius + width]
    expected = whole[:, y : y + height, x : x + width]
    inside = np.s_[:, : 60 - radius - y, : 70 - radius - x]
    assert core[inside].tobytes() == expected[:, : core.shape[1], : core.shape[2]][inside].tobytes()


def test_gaussian_of_a_mirrored_field_is_the_mirror() -> None:
    field = np.random.default_rng(5).normal(size=(1, 31, 29)).astype(np.float32)
    mirrored = smooth.gaussian(field[:, ::-1, ::-1], 2.0, 6)[:, ::-1, ::-1]
    assert mirrored.tobytes() == smooth.gaussian(field, 2.0, 6).tobytes()


def test_gaussian_refuses_what_is_no_gaussian() -> None:
    with pytest.raises(ValueError, match="sigma > 0"):
        smooth.gaussian(np.zeros((1, 3, 3), np.float32), 0.0, 2)
