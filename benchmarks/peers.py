"""Made-up scores, and what people run on them today: the peers and references of `benchmarks.kernels`."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numba
import numpy as np
import rasterio.features
import shapely
import skimage.segmentation
from scipy import ndimage

EIGHT = np.ones((3, 3))


@dataclass(frozen=True, slots=True)
class Scene:
    """Scores of a made-up city, uint8 (size, size): mask and touching borders."""

    name: str
    mask: np.ndarray
    touching: np.ndarray


def city(size: int, seed: int = 0, dense: bool = False) -> Scene:
    """Terraces of one to four houses with party walls, about 18 % cover; `dense`: blocks over most of it."""
    rng = np.random.default_rng(seed)
    mask, border = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    step, fill = (60, 1.0) if dense else (90, 0.75)
    for y in range(4, size - step, step):
        for x in range(4, size - 2 * step, 2 * step):
            houses = int(rng.integers(1, 5))
            depth, width = rng.integers(step // 3, step - 8), rng.integers(step // 4, step // 2 - 2)
            if rng.random() > fill:
                continue
            y0, x0 = y + rng.integers(0, 4), x + rng.integers(0, 4)
            mask[y0 : y0 + depth, x0 : x0 + houses * width] = 255
            for house in range(1, houses):
                wall = x0 + house * width
                border[y0 : y0 + depth, wall - 2 : wall + 2] = 255
    scores = cv2.GaussianBlur(mask, (0, 0), 1.5).astype(int) + rng.integers(-9, 10, mask.shape)
    touching = cv2.GaussianBlur(border, (0, 0), 1.0).astype(int) + rng.integers(0, 9, mask.shape)
    scores, touching = (np.clip(band, 0, 255).astype(np.uint8) for band in (scores, touching))
    return Scene("dense" if dense else "city", scores, touching)


def speckle(size: int, seed: int = 0) -> Scene:
    """Scores without any spatial order, 1000 px at most: the worst case for whatever works on runs.

    scikit-image's region properties take minutes on its 80 000 instances of two pixels.
    """
    size = min(size, 1000)
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 256, (size, size), np.uint8)
    return Scene("speckle", np.where(mask > 170, mask, 0).astype(np.uint8), rng.integers(0, 160, mask.shape, np.uint8))


INPUTS: dict[str, Callable[[int], Scene]] = {
    "city": city,
    "dense": lambda size: city(size, dense=True),
    "speckle": speckle,
}


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


def seeds(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
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


def split_skimage(scene: Scene) -> np.ndarray:
    """What a Python user writes: SciPy's labels, scikit-image's watershed."""
    mask, markers = seeds(scene)
    scores = scene.mask.astype(np.int32) * (255 - scene.touching.astype(np.int32)) // 255
    return np.asarray(skimage.segmentation.watershed(-scores, markers, mask=mask, connectivity=2))


def split_cv2(scene: Scene) -> np.ndarray:
    """OpenCV's own: markers and a watershed on an 8-bit colour image, with lines between instances."""
    mask = cv2.threshold(scene.mask, 127, 255, cv2.THRESH_BINARY)[1]
    score = cv2.multiply(scene.mask, cv2.bitwise_not(scene.touching), scale=1 / 255)
    seed = cv2.threshold(score, 127, 255, cv2.THRESH_BINARY)[1]
    _, markers = cv2.connectedComponents(seed, connectivity=8)
    markers[mask == 0] = markers.max() + 1
    return np.asarray(cv2.watershed(cv2.merge([score, score, score]), markers))


def trace_cv2(labels: np.ndarray) -> list[Any]:
    """Contours of every label in its own crop."""
    out = []
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            crop = (labels[box] == value).astype(np.uint8)
            out.append(cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0])
    return out


def trace_gdal(labels: np.ndarray) -> list[Any]:
    """GDAL's polygoniser, as rasterio gives it."""
    return list(rasterio.features.shapes(labels, mask=labels != 0, connectivity=4))


def partition(labels: np.ndarray) -> np.ndarray:
    """Labels renumbered by first pixel, to compare two labelings of the same pixels."""
    values, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(values.size, np.int64)
    rank[np.argsort(first)] = np.arange(values.size)
    return rank[inverse.reshape(labels.shape)]


def usual_tail(scene: Scene) -> Any:
    """The same with SciPy, scikit-image, rasterio and shapely."""
    labels = split_skimage(scene).astype(np.int32)
    return shapely.to_wkb([shapely.geometry.shape(shape) for shape, _ in trace_gdal(labels)])
