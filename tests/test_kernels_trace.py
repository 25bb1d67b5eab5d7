"""The tracer against GDAL's polygoniser: the same pieces, the same rings, all of them valid."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.kernels import rasterise, trace


def polygons_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    coords, ring_offsets, polygon_offsets, label = trace.trace(labels)
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, coords, (ring_offsets, polygon_offsets)), label


def gdal(labels: np.ndarray) -> list[tuple[int, bytes]]:
    shapes = rasterio.features.shapes(labels, mask=labels != 0, connectivity=4)
    return sorted((int(value), shapely.normalize(shapely.geometry.shape(shape)).wkb) for shape, value in shapes)


def check(labels: np.ndarray) -> None:
    labels = np.asarray(labels, np.int32)
    polygons, label = polygons_of(labels)
    assert shapely.is_valid(polygons).all()
    assert sorted(zip(label.tolist(), shapely.to_wkb(shapely.normalize(polygons)), strict=True)) == gdal(labels)
    # Counter-clockwise on screen is clockwise for shapely, which has y pointing up; holes the other way.
    rings, owner = shapely.get_rings(polygons, return_index=True)
    np.testing.assert_array_equal(shapely.is_ccw(rings), np.diff(owner, prepend=-1) == 0)
    firsts = shapely.get_coordinates(shapely.get_point(shapely.get_exterior_ring(polygons), 0))
    assert (np.lexsort(firsts.T) == np.arange(len(firsts))).all()


SMALL = {
    "one pixel": [[1]],
    "full frame": [[1, 1, 1], [1, 1, 1]],
    "two labels": [[1, 2, 2], [1, 1, 2]],
    "frame": [[1, 1, 1], [1, 0, 1], [1, 1, 1]],
    "frame filled by another": [[1, 1, 1], [1, 2, 1], [1, 1, 1]],
    "corner touch": [[1, 0], [0, 1]],
    "two labels touch at a corner": [[1, 2], [2, 1]],
    "hole touches the outside at a corner": [[1, 1, 1], [1, 0, 1], [1, 1, 0]],
    "the other corners": [[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 1], [1, 1, 0, 0]],
    "two holes touch": [[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]],
    "two holes touch the other way": [[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 1]],
    "nested": [[1] * 7, [1, 2, 2, 2, 2, 2, 1], [1, 2, 1, 1, 1, 2, 1], [1, 2, 1, 0, 1, 2, 1],
               [1, 2, 1, 1, 1, 2, 1], [1, 2, 2, 2, 2, 2, 1], [1] * 7],
    "ring of holes": [[0, 1, 1, 1, 0], [1, 0, 1, 0, 1], [1, 1, 0, 1, 1], [1, 0, 1, 0, 1], [0, 1, 1, 1, 0]],
    "comb": [[1, 0, 1, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1, 0]],
    "negative": [[-1, -1, 3], [0, -1, 3]],
}


@pytest.mark.parametrize("name", SMALL)
def test_small_shapes_equal_gdal_in_every_pose(name: str) -> None:
    labels = np.array(SMALL[name])
    for turn in range(4):
        for pose in (labels, labels.T):
            check(np.rot90(pose, turn))
            check(np.pad(np.rot90(pose, turn), 1))


@given(
    st.integers(1, 24), st.integers(1, 24), st.integers(1, 4), st.sampled_from([0.1, 0.4, 0.6, 0.95]),
    st.integers(0, 9999),
)
@settings(max_examples=250, deadline=None)
def test_speckle_equals_gdal(height: int, width: int, labels: int, cover: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(rng.integers(1, labels + 1, (height, width)) * (rng.random((height, width)) < cover))


@pytest.mark.parametrize("seed", range(6))
def test_blobs_equal_gdal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(130, 170)), 2.5)
    check(np.digitize(field, np.quantile(field, [0.3, 0.5, 0.8])))


@pytest.mark.parametrize("seed", range(4))
def test_fill_gives_the_raster_back(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (50, 60)).astype(np.int32)
    coords, ring_offsets, polygon_offsets, label = trace.trace(labels)
    back = np.zeros_like(labels)
    for i, value in enumerate(label):
        back += value * rasterise.fill(coords, ring_offsets, polygon_offsets[i : i + 2], labels.shape)
    np.testing.assert_array_equal(back, labels)


def test_nothing_to_trace() -> None:
    for shape in ((0, 0), (0, 5), (5, 0), (4, 7)):
        coords, ring_offsets, polygon_offsets, label = trace.trace(np.zeros(shape, np.int32))
        assert coords.shape == (0, 2)
        assert ring_offsets.tolist() == polygon_offsets.tolist() == [0]
        assert label.size == 0
    with pytest.raises(ValueError, match="two axes"):
        trace.trace(np.zeros(5, np.int32))


def test_negative_labels_are_labels() -> None:
    labels = np.tile(np.array([-2, -1], np.int32), (1, 9))
    *_, label = trace.trace(labels)
    assert label.tolist() == labels[0].tolist()
