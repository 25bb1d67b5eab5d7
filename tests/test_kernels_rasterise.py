"""The rasteriser against GDAL's, to the pixel."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.kernels import rasterise

SHAPE = (40, 50)
Ring = list[tuple[float, float]]


def ragged(polygons: list[list[Ring]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rings = [np.array([*ring, ring[0]], float) for polygon in polygons for ring in polygon]
    coords = np.vstack(rings) if rings else np.empty((0, 2))
    return coords, np.cumsum([0, *map(len, rings)]), np.cumsum([0, *map(len, polygons)])


def gdal(polygons: list[list[Ring]], shape: tuple[int, int] = SHAPE) -> np.ndarray:
    shapes = [shapely.Polygon(polygon[0], polygon[1:]) for polygon in polygons]
    if not shapes:
        return np.zeros(shape, np.uint8)
    return rasterio.features.rasterize(shapes, shape, dtype="uint8")


def star(rng: np.random.Generator, x: float, y: float, radius: float, corners: int) -> Ring:
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    r = radius * rng.uniform(0.3, 1, corners)
    return [(x + a, y + b) for a, b in zip(r * np.cos(angles), r * np.sin(angles), strict=True)]


def city(rng: np.random.Generator, count: int, radius: float) -> list[list[Ring]]:
    out = []
    for _ in range(count):
        x, y = rng.uniform(-8, 58), rng.uniform(-8, 48)
        holes = [star(rng, x, y, radius * 0.4, 5)] if rng.random() < 0.5 else []
        out.append([star(rng, x, y, radius, int(rng.integers(3, 12))), *holes])
    return out


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("count", "radius"), [(6, 12.0), (30, 1.0), (1, 300.0)])
def test_fill_equals_gdal(seed: int, count: int, radius: float) -> None:
    polygons = city(np.random.default_rng(seed), count, radius)
    np.testing.assert_array_equal(rasterise.fill(*ragged(polygons), SHAPE), gdal(polygons))


@pytest.mark.parametrize("seed", range(20))
def test_fill_equals_gdal_for_self_crossing_rings_with_many_crossings_a_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygons = [[[tuple(point) for point in rng.uniform(-5, 55, (150, 2))]]]
    np.testing.assert_array_equal(rasterise.fill(*ragged(polygons), SHAPE), gdal(polygons))


halves = st.integers(-6, 106).map(lambda n: n / 2)
quarters = st.integers(-12, 212).map(lambda n: n / 4)


@given(st.lists(st.lists(st.tuples(halves, halves), min_size=3, max_size=7), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_vertices_on_pixel_centres_fall_as_in_gdal(rings: list[Ring]) -> None:
    edges = [(a, b) for ring in rings for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)]
    assume(not any(a[1] == b[1] and a[1] % 1 == 0.5 for a, b in edges))
    np.testing.assert_array_equal(rasterise.fill(*ragged([rings]), SHAPE), gdal([rings]))


@given(quarters, quarters, quarters, quarters, st.booleans())
@settings(max_examples=200, deadline=None)
def test_boxes_with_sides_on_pixel_centres_fall_as_in_gdal(
    x0: float, y0: float, x1: float, y1: float, clockwise: bool
) -> None:
    assume(x0 != x1 and y0 != y1)
    ring = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    polygons = [[ring[::-1] if clockwise else ring]]
    np.testing.assert_array_equal(rasterise.fill(*ragged(polygons), SHAPE), gdal(polygons))


def test_a_hole_stays_open_and_neighbours_share_no_pixel() -> None:
    outer = [(2.0, 2.0), (20.0, 2.0), (20.0, 20.0), (2.0, 20.0)]
    hole = [(5.0, 5.0), (9.0, 5.0), (9.0, 9.0), (5.0, 9.0)]
    assert rasterise.fill(*ragged([[outer, hole]]), SHAPE).sum() == 18 * 18 - 16
    for edge in (5.0, 5.5):
        hole = [(edge, edge), (9.0, edge), (9.0, 9.5), (edge, 9.5)]
        parts = rasterise.fill(*ragged([[outer, hole]]), SHAPE) + rasterise.fill(*ragged([[hole]]), SHAPE)
        np.testing.assert_array_equal(parts, rasterise.fill(*ragged([[outer]]), SHAPE))
    left = [(1.0, 1.0), (10.5, 1.0), (10.5, 9.0), (1.0, 9.0)]
    right = [(10.5, 1.0), (19.0, 1.0), (19.0, 9.0), (10.5, 9.0)]
    both = rasterise.fill(*ragged([[left]]), SHAPE) + rasterise.fill(*ragged([[right]]), SHAPE)
    assert both.max() == 1
    assert both.sum() == 18 * 8


def test_out_is_burnt_into_and_checked() -> None:
    arrays = ragged([[[(1.0, 1.0), (4.0, 1.0), (4.0, 4.0), (1.0, 4.0)]]])
    out = np.zeros(SHAPE, np.uint8)
    out[30, 30] = 1
    assert rasterise.fill(*arrays, SHAPE, out=out) is out
    assert out.sum() == 10
    with pytest.raises(ValueError, match="out must be"):
        rasterise.fill(*arrays, SHAPE, out=np.zeros((3, 3), np.uint8))


def test_coordinates_without_sense_do_no_harm() -> None:
    for bad in (np.nan, np.inf, -np.inf, 1e300, -1e300):
        ring = [(3.0, 3.0), (bad, 9.0), (9.0, bad), (bad, bad), (7.0, 1.0)]
        coords, ring_offsets, polygon_offsets = ragged([[ring]])
        assert rasterise.fill(coords, ring_offsets, polygon_offsets, SHAPE).max() <= 1
        assert rasterise.outline(coords, ring_offsets, SHAPE).max() <= 1
    assert rasterise.fill(*ragged([]), SHAPE).sum() == 0
    assert rasterise.fill(*ragged([[[(0, 0), (1, 0), (1, 1)]]]), (0, 5)).shape == (0, 5)


@pytest.mark.parametrize("seed", range(10))
def test_fill_is_the_same_in_a_crop(seed: int) -> None:
    coords, ring_offsets, polygon_offsets = ragged(city(np.random.default_rng(seed), 20, 9.0))
    coords = np.round(coords * 64) / 64
    whole = rasterise.fill(coords, ring_offsets, polygon_offsets, SHAPE)
    crop = rasterise.fill(coords - [13, 7], ring_offsets, polygon_offsets, (20, 22))
    np.testing.assert_array_equal(crop, whole[7:27, 13:35])


@pytest.mark.parametrize("seed", range(20))
def test_outline_equals_gdal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygons = city(rng, 10, 15.0) + city(rng, 10, 2.0)
    if seed % 2:
        polygons = [[[(round(x), round(y)) for x, y in ring] for ring in polygon] for polygon in polygons]
    coords, ring_offsets, _ = ragged(polygons)
    lines = [shapely.LineString(coords[a:b]) for a, b in zip(ring_offsets[:-1], ring_offsets[1:], strict=True)]
    expected = rasterio.features.rasterize(lines, SHAPE, dtype="uint8")
    np.testing.assert_array_equal(rasterise.outline(coords, ring_offsets, SHAPE), expected)
