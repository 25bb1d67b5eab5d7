"""Ragged polygons: taken, moved, measured and boxed as shapely has them; noding the same by counting and comparing."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from pipeline.kernels import instances, nodes, polygons, trace


def traced(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outlines of blobs with holes and shared walls."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 4, (9, 14)), np.ones((3, 2))).astype(np.int32)
    return trace.trace_runs(instances.runs(labels), (7, 300))[:3]


def shapes(ragged: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, ragged[0], ragged[1:])


@pytest.mark.parametrize("seed", range(3))
def test_taken_moved_measured_and_boxed(seed: int) -> None:
    before = traced(seed)
    order = np.random.default_rng(seed).permutation(before[2].size - 1)[: 4 * seed]
    some = polygons.take(*before, order)
    assert shapely.equals_exact(shapes(some), shapes(before)[order]).all()
    laid, sizes = np.zeros((len(some[0]) + 4, 2)), np.diff(some[1][some[2]])
    polygons.lay(*some, np.cumsum(sizes[::-1])[::-1] - sizes + 4, laid)  # last polygon first
    backwards = polygons.take(*some, np.arange(order.size)[::-1])
    np.testing.assert_array_equal(laid[4:], backwards[0])
    shift = np.random.default_rng(seed).normal(size=(order.size, 2))
    expected = [shapely.affinity.translate(*pair) for pair in zip(shapes(some), *shift.T, strict=True)]
    polygons.move(*some, shift)
    assert shapely.equals_exact(shapes(some), expected).all()
    np.testing.assert_allclose(polygons.areas(*some), shapely.area(shapes(some)))
    np.testing.assert_array_equal(polygons.boxes(*some), shapely.bounds(shapes(some)).reshape(-1, 4))


def test_what_is_not_there_is_not_taken() -> None:
    before = traced(0)
    for wrong in (-1, before[2].size - 1):
        with pytest.raises(IndexError, match="of"):
            polygons.take(*before, np.array([wrong]))
    with pytest.raises(IndexError, match="of 3"):
        polygons.lay(*before, np.zeros(before[2].size - 1, np.int64), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="in place"):
        polygons.move(before[0].astype(np.float32), *before[1:], np.zeros((before[2].size - 1, 2)))


@pytest.mark.parametrize("seed", range(3))
def test_nodes_by_counting_are_those_by_comparing(seed: int) -> None:
    coords, rings, _ = traced(seed)
    x, y, points, offsets = nodes.noded(coords, rings)
    # Halves are not whole, and a whole place far off is too wide to count: both are compared.
    for scale, shift in ((0.5, 0.25), (2.0**20, 0.0)):
        other = nodes.noded(coords * scale + shift, rings)
        np.testing.assert_array_equal(other[0], x * scale + shift)
        np.testing.assert_array_equal(other[1], y * scale + shift)
        np.testing.assert_array_equal(other[2], points)
        np.testing.assert_array_equal(other[3], offsets)
    assert len({*zip(x, y, strict=True)}) == x.size
    assert (np.lexsort((y, x)) == np.arange(x.size)).all()
