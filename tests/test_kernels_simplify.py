"""Simplified layers: shared walls stay shared, valid stays valid, nothing moves farther than allowed."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.kernels import simplify, trace

Ragged = tuple[np.ndarray, np.ndarray, np.ndarray]


def shapes(ragged: Ragged) -> np.ndarray:
    coords, ring_offsets, polygon_offsets = ragged
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, coords, (ring_offsets, polygon_offsets))


def ragged(polygons: list[shapely.Polygon]) -> Ragged:
    _, coords, (ring_offsets, polygon_offsets) = shapely.to_ragged_array(np.array(polygons))
    return coords, ring_offsets.astype(np.int64), polygon_offsets.astype(np.int64)


def blobs(seed: int, shape: tuple[int, int] = (90, 110), grain: float = 4.0, labels: int = 4) -> Ragged:
    """A coverage: regions of several labels that share curved walls, with background between some."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), grain)
    levels = np.digitize(field, np.quantile(field, np.linspace(0.3, 0.9, labels)))
    return trace.trace(levels.astype(np.int32))[:3]


def speckle(seed: int, shape: tuple[int, int] = (30, 40)) -> Ragged:
    return trace.trace(np.random.default_rng(seed).integers(0, 3, shape).astype(np.int32))[:3]


def check(before: Ragged, tolerance: float) -> np.ndarray:
    """What must hold for a layer of valid polygons without overlaps; returns the simplified shapes."""
    after = simplify.simplify(*before, tolerance)
    old, new = shapes(before), shapes(after)
    assert len(new) == len(old)
    assert shapely.is_valid(new).all()
    assert (shapely.get_num_interior_rings(new) == shapely.get_num_interior_rings(old)).all()
    # No overlaps: areas add up to that of the union. No slivers: coverage edges match exactly.
    union = shapely.union_all(new)
    assert shapely.area(new).sum() == pytest.approx(union.area, rel=1e-9)
    assert shapely.coverage_is_valid(new)
    for a, b in zip(shapely.get_rings(old), shapely.get_rings(new), strict=True):
        assert shapely.distance(shapely.points(shapely.get_coordinates(a)), b).max() <= tolerance + 1e-9
    return new


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tolerance", [0.0, 0.8, 1.5, 4.0, 50.0])
def test_a_coverage_stays_one(seed: int, tolerance: float) -> None:
    before = blobs(seed)
    new = check(before, tolerance)
    if tolerance >= 0.8:
        assert shapely.get_num_coordinates(new).sum() < 0.8 * len(before[0])


@given(st.integers(0, 9999), st.sampled_from([0.5, 0.8, 1.2, 2.0, 9.0]))
@settings(max_examples=80, deadline=None)
def test_speckle_stays_valid(seed: int, tolerance: float) -> None:
    check(speckle(seed), tolerance)


@pytest.mark.parametrize("seed", range(6))
def test_turned_and_scaled_coverages_stay_one_too(seed: int) -> None:
    """Only level and upright edges are noded, so vertices that lie on others' edges must be in both first."""
    coords, ring_offsets, polygon_offsets = simplify.simplify(*blobs(seed), 0.0)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    for scale, shift in ((0.3, (0, 0)), (0.3, (683_000.5, 5_412_345.25))):
        check((coords @ turn * scale + shift, ring_offsets, polygon_offsets), 0.36)


def test_row_houses_keep_their_common_walls_and_a_street_front_its_corners() -> None:
    labels = np.zeros((20, 40), np.int32)
    labels[5:12, 2:10], labels[5:12, 10:18], labels[5:12, 18:30] = 1, 2, 3
    labels[12:15, 2:30] = 4
    new = check(trace.trace(labels)[:3], 1.0)
    assert [len(shapely.get_coordinates(shape)) for shape in new] == [5, 5, 5, 7]
    assert shapely.area(new).tolist() == [56, 56, 84, 84]


def test_a_filled_hole_comes_out_alike_on_both_sides() -> None:
    yy, xx = np.mgrid[:60, :60]
    labels = np.ones((60, 60), np.int32)
    labels[(yy - 30) ** 2 + (xx - 28) ** 2 < 350] = 2
    for part in (labels, np.where(labels == 1, 0, labels), np.where(labels == 2, 0, labels)):
        new = check(trace.trace(part)[:3], 1.3)
        assert shapely.get_num_coordinates(new).sum() < 50
    outer, inner = check(trace.trace(labels)[:3], 1.3)
    assert shapely.Polygon(shapely.get_interior_ring(outer, 0)).equals(inner)
    alone = check(trace.trace(np.where(labels == 1, 0, labels))[:3], 1.3)[0]
    assert alone.equals(inner)


def test_order_and_direction_of_rings_do_not_matter() -> None:
    polygons = shapes(blobs(3))
    expected = shapely.normalize(shapes(simplify.simplify(*ragged(list(polygons)), 1.4)))
    turned = [shapely.reverse(shape) for shape in polygons[::-1]]
    found = shapely.normalize(shapes(simplify.simplify(*ragged(turned), 1.4)))[::-1]
    assert (shapely.to_wkb(found) == shapely.to_wkb(expected)).all()


def test_a_small_neighbour_is_not_swallowed() -> None:
    """A dent with a small building in it: the straight line across the dent would swallow the building."""
    dented = shapely.Polygon([(0, 0), (40, 0), (40, 20), (24, 20), (20, 14), (16, 20), (0, 20)])
    small = shapely.Polygon([(19, 17), (21, 17), (21, 19), (19, 19)])
    new = check(ragged([dented, small]), 7.0)
    assert shapely.area(shapely.intersection(new[0], new[1])) == 0
    alone = check(ragged([dented]), 7.0)
    assert len(shapely.get_coordinates(alone)) == 5


def test_what_is_invalid_before_does_no_harm() -> None:
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    spike = shapely.Polygon([(0, 0), (5, 0), (9, 0), (5, 0), (5, 5), (0, 5)])
    over = [shapely.Point(i, 0).buffer(3) for i in range(5)]
    dot = shapely.Polygon([(1, 1), (1, 1), (1, 1)])
    after = simplify.simplify(*ragged([bow_tie, spike, dot, *over, *over]), 0.5)
    assert after[1].size == 1 + 13
    empty = simplify.simplify(np.empty((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64), 1.0)
    assert [part.size for part in empty] == [0, 1, 1]
    with pytest.raises(ValueError, match="finite"):
        simplify.simplify(np.full((4, 2), np.nan), np.array([0, 4]), np.array([0, 1]), 1.0)
