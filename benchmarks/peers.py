"""What people run today on scores, labels and polygons: peers and references of `benchmarks.kernels` and `.tail`."""

from __future__ import annotations

import heapq
from typing import Any

import cv2
import numba
import numpy as np
import rasterio.features
import shapely
import skimage.measure
import skimage.segmentation
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks.cities import Scene

EIGHT = np.ones((3, 3))
Labels = NDArray[np.int32]


@numba.njit(cache=True)
def heap_flood(mask: Any, touching: Any, labels: Any, bar: int) -> None:
    """The reference: one heap of (value, age) over the whole scene, seeds first."""
    height, width = mask.shape
    heap = [(0, 0, 0, 0)]
    heap.pop()
    age = 0
    for y in range(height):
        for x in range(width):
            if labels[y, x] > 0:
                heap.append((-256, age, y, x))
                age += 1
    while len(heap) > 0:
        _, _, y, x = heapq.heappop(heap)
        for v in range(max(0, y - 1), min(y + 2, height)):
            for u in range(max(0, x - 1), min(x + 2, width)):
                if mask[v, u] > bar and labels[v, u] == 0:
                    labels[v, u] = labels[y, x]
                    score = np.int64(mask[v, u]) * (255 - np.int64(touching[v, u])) // 255
                    heapq.heappush(heap, (-score, age, v, u))
                    age += 1


def seeds(scene: Scene) -> tuple[NDArray[np.bool_], Labels]:
    """Mask, and its seeds labelled with SciPy; components without one are a seed as a whole."""
    mask = scene.mask > 127
    seed = mask & (scene.mask.astype(np.uint16) * (255 - scene.touching) > 127 * 255)
    labels, count = ndimage.label(seed, EIGHT)
    whole, components_found = ndimage.label(mask, EIGHT)
    seeded = np.zeros(components_found + 1, bool)
    seeded[whole[seed]] = True
    lost = mask & ~seeded[whole]
    labels[lost] = count + whole[lost]
    return mask, labels


def split_skimage(scene: Scene) -> Labels:
    """What a Python user writes: SciPy's labels, scikit-image's watershed. Ties go another way than ours."""
    mask, markers = seeds(scene)
    scores = scene.mask.astype(np.int32) * (255 - scene.touching.astype(np.int32)) // 255
    return np.asarray(skimage.segmentation.watershed(-scores, markers, mask=mask, connectivity=2), np.int32)


def split_distance(scene: Scene) -> Labels:
    """Without a use for the scores: maxima of the distance to the nearest border as seeds."""
    mask = scene.mask > 127
    distance = ndimage.distance_transform_edt(mask & (scene.touching < 128))
    markers, _ = ndimage.label(distance > 0.5 * ndimage.maximum_filter(distance, 21), EIGHT)
    return np.asarray(skimage.segmentation.watershed(-distance, markers, mask=mask, connectivity=2))


def split_cv2(scene: Scene) -> Labels:
    """OpenCV's own: markers and a watershed on an 8-bit colour image, with lines between instances."""
    mask = cv2.threshold(scene.mask, 127, 255, cv2.THRESH_BINARY)[1]
    score = cv2.multiply(scene.mask, cv2.bitwise_not(scene.touching), scale=1 / 255)
    seed = cv2.threshold(score, 127, 255, cv2.THRESH_BINARY)[1]
    _, markers = cv2.connectedComponents(seed, connectivity=8)
    markers[mask == 0] = markers.max() + 1
    return np.asarray(cv2.watershed(cv2.merge([score, score, score]), markers))


def trace_gdal(labels: Labels) -> list[Any]:
    """GDAL's polygoniser, as rasterio gives it: (GeoJSON, label) pairs."""
    return list(rasterio.features.shapes(labels, mask=labels != 0, connectivity=4))


def trace_cv2(labels: Labels) -> list[Any]:
    """Contours of every label in its own crop: through pixel centres, so half a pixel too small all round."""
    out = []
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            crop = (labels[box] == value).astype(np.uint8)
            out.append(cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0])
    return out


def trace_skimage(labels: Labels) -> list[Any]:
    """Level lines of every label in its own crop: they cut corners."""
    out = []
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            out.append(skimage.measure.find_contours(np.pad(labels[box] == value, 1), 0.5))
    return out


def fill_cv2(coords: NDArray, rings: NDArray, out: NDArray[np.uint8]) -> None:
    """OpenCV's filled polygons, one by one: holes are filled, and outlines burnt too."""
    for first, last in zip(rings[:-1], rings[1:], strict=True):
        cv2.fillPoly(out, [coords[first:last].astype(np.int32)], 1)


def fill_pil(coords: NDArray, rings: NDArray, shape: tuple[int, int]) -> None:
    """Pillow's filled polygons, one by one."""
    drawing = ImageDraw.Draw(Image.new("L", shape[::-1]))
    for first, last in zip(rings[:-1], rings[1:], strict=True):
        drawing.polygon(coords[first:last].ravel().tolist(), fill=1)


def to_shapes(coords: NDArray, rings: NDArray, polygons: NDArray) -> NDArray[Any]:
    """Ragged polygons as shapely objects."""
    return np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, coords, (rings, polygons)))


def partition(labels: Labels) -> NDArray[np.int64]:
    """Labels renumbered by first pixel, to compare two labelings of the same pixels."""
    flat = labels.reshape(-1)
    first = np.full(int(flat.max()) + 1, flat.size)
    first[flat[::-1]] = np.arange(flat.size - 1, -1, -1)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[labels]
