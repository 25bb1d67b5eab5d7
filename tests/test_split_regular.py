"""Regular outlines of building instances: the same bytes for every tiling, and nothing overlaps."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.buildings import SplitPart
from tests.scores import blobs
from tests.test_split import SCENES, assert_equal, holes, tiled, whole


def shapes_of(part: SplitPart) -> np.ndarray:
    offsets = (part.ring_offsets, part.polygon_offsets)
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, part.coords, offsets)


def check(part: SplitPart) -> None:
    """Valid polygons whose areas add up to that of their union, also between components."""
    shapes = shapes_of(part)
    assert shapely.is_valid(shapes).all()
    assert shapely.union_all(shapes).area == pytest.approx(shapely.area(shapes).sum(), rel=1e-9)


@pytest.mark.parametrize("kind", SCENES)
@pytest.mark.parametrize(("core", "halo"), [(32, 8), (64, 0), (48, 40)])
def test_regular_outlines_are_the_same_for_every_tiling(kind: str, core: int, halo: int) -> None:
    shape = (115, 130)
    scores, valid = SCENES[kind](shape, 3), holes(shape, 4)
    part = whole(scores, valid, outlines="regular")
    assert_equal(tiled(scores, valid, core, halo, outlines="regular"), part)
    check(part)


@settings(max_examples=25)
@given(
    core=st.integers(8, 40),
    halo=st.integers(0, 20),
    seed=st.integers(0, 999),
    spread=st.sampled_from([1.0, 2.0, 3.5]),
    cover=st.sampled_from([0.2, 0.4, 0.6]),
)
def test_regular_outlines_for_any_grid(core: int, halo: int, seed: int, spread: float, cover: float) -> None:
    shape = (70, 64)
    scores, valid = blobs(shape, seed, spread, cover), holes(shape, seed)
    part = whole(scores, valid, outlines="regular", min_pixels=12)
    assert_equal(tiled(scores, valid, core, halo, outlines="regular", min_pixels=12), part)
    check(part)


def walls(seed: int) -> np.ndarray:
    """Scores (2, h, w) of houses with thin walls and courtyards, some within each other, under a grain of noise."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(60, 160)), int(rng.integers(60, 160)))
    mask = np.zeros(shape, np.bool_)
    for _ in range(int(rng.integers(4, 25))):
        height, width = rng.integers(3, 60, 2)
        top, left = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        mask[top : top + height, left : left + width] = True
        if min(height, width) > 8:
            a, b = rng.integers(1, 4, 2)
            mask[top + a : top + height - a, left + b : left + width - b] = False
            if rng.random() < 0.5:
                mask[top + a + 2 : top + height - a - 2, left + b + 2 : left + width - b - 2] = True
    mask ^= rng.random(shape) < 0.01 * rng.integers(0, 4)
    scores = np.zeros((2, *shape), np.uint8)
    scores[0] = np.where(mask, rng.integers(150, 255, shape), rng.integers(0, 100, shape))
    for _ in range(int(rng.integers(0, 8))):
        scores[1][:, int(rng.integers(0, shape[1]))] = 255
    return scores


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), core=st.integers(20, 70), halo=st.integers(0, 60))
def test_thin_noisy_walls_stay_valid_and_the_same_for_every_tiling(seed: int, core: int, halo: int) -> None:
    scores = walls(seed)
    valid = np.ones(scores.shape[1:], np.bool_)
    part = whole(scores, valid, outlines="regular", min_pixels=12)
    assert_equal(tiled(scores, valid, core, halo, outlines="regular", min_pixels=12), part)
    check(part)


def test_what_differs_from_the_simplified_is_the_geometry_alone() -> None:
    shape = (90, 100)
    scores, valid = blobs(shape, 11), holes(shape, 12)
    plain, part = whole(scores, valid, min_pixels=20), whole(scores, valid, min_pixels=20, outlines="regular")
    np.testing.assert_array_equal(part.building_id, plain.building_id)
    np.testing.assert_array_equal(part.edge_sum, plain.edge_sum)
    np.testing.assert_array_equal(np.diff(part.polygon_offsets), np.diff(plain.polygon_offsets))
    assert part.coords.shape[0] < plain.coords.shape[0]
    one, other = shapes_of(part), shapes_of(plain)
    both = shapely.area(shapely.intersection(one, other))
    assert (both / (shapely.area(one) + shapely.area(other) - both) > 0.7).all()
