"""Training targets of the instance network: building mask and touching borders, from instance polygons.

    python -m training.targets --buildings FILE --like IMAGE.tif --out TARGETS.tif

writes both as a GeoTIFF of two bands on the image's grid (`training.targets_file`). The second channel is what the
published project's users ask for most, so here is the recipe in full:

1. label image: every instance its own number (`label_image`);
2. grow the labels into the background until they meet: each background pixel goes to its nearest instance;
3. the line between them: pixels one of whose four neighbours belongs to another instance;
4. keep the line only where instances really are close: at least two different labels within `near` px;
5. thicken by a 3×3 dilation, so that the network can learn it and the splitter can cut along it.

    labels            grown + line        touching (near = 3)
    1 1 1 . 2 2 2     1 1 1|1 2|2 2       . . # # # # .

A party wall gives a band 4 px wide, two on each side; a gap of a few pixels gives a band over the gap. The
band is not taken out of the mask: the mask channel keeps whole buildings, and the splitter floods back over
the band after it has used it to part the seeds (paper, section 4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int32]

BLOCK = 512
"""Side of the squares that touching borders are found in: what lies between is in the cache, and most of a city
has no two buildings close to each other and needs no distances."""

MOST = 2**24
"""Labels reach cv2 as float32, exact up to here; the published code wraps at 255."""


def label_image(
    coords: NDArray[np.float64],
    ring_offsets: NDArray[np.int64],
    polygon_offsets: NDArray[np.int64],
    shape: tuple[int, int],
    scale: float = 1.0,
) -> Labels:
    """(h, w) int32: polygon i covers a pixel's centre -> i + 1, else 0. Holes stay 0.

    `coords` (n, 2) float64 are (x, y) px with (0, 0) the outer corner of the first pixel; `scale` multiplies
    them first. A polygon may have several shells: all its rings count, even-odd. Where polygons overlap, the one
    whose largest ring is smaller wins: it would otherwise vanish from the targets.
    """
    from pipeline.kernels.rasterise import fill

    labels = np.zeros(shape, np.int32)
    ring_offsets, polygon_offsets = np.asarray(ring_offsets), np.asarray(polygon_offsets)
    xy = np.asarray(coords, np.float64).reshape(-1, 2) * scale
    starts = ring_offsets[polygon_offsets]
    largest = _largest_ring(xy, ring_offsets, polygon_offsets)
    for i in np.argsort(largest, kind="stable")[::-1].tolist():
        first, last = int(starts[i]), int(starts[i + 1])
        if first == last:
            continue
        low, high = xy[first:last].min(axis=0), xy[first:last].max(axis=0)
        x0, y0 = np.clip(np.floor(low), 0, shape[::-1]).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(high), 0, shape[::-1]).astype(int).tolist()
        if x0 >= x1 or y0 >= y1:
            continue
        rings = ring_offsets[polygon_offsets[i] : polygon_offsets[i + 1] + 1] - first
        box = fill(xy[first:last] - (x0, y0), rings, np.array([0, len(rings) - 1]), (y1 - y0, x1 - x0))
        np.copyto(labels[y0:y1, x0:x1], i + 1, where=box.view(bool))
    return labels


def touching_borders(labels: Labels, near: int = 3) -> NDArray[np.bool_]:
    """Where instances touch or come close: (h, w) bool from (h, w) int32 labels (0 = background).

    near   px; the line is kept where two labels lie within `near` px of it along each axis, so that gaps of
           up to about 2 · near px count as touching. The band is 4 px wide (see the module's head).
    """
    out = np.zeros(labels.shape, bool)
    # A pixel on a line near two labels lies within 1.5 · near of the nearest, and so do its neighbours plus one.
    halo = 2 * near + 8
    for y in range(0, labels.shape[0], BLOCK):
        for x in range(0, labels.shape[1], BLOCK):
            top, left = max(y - halo, 0), max(x - halo, 0)
            block = np.ascontiguousarray(labels[top : y + BLOCK + halo, left : x + BLOCK + halo], np.int32)
            inner = out[y : y + BLOCK, x : x + BLOCK]
            found = _touching(block, near)
            if found is not None:
                inner[:] = found[y - top :, x - left :][: inner.shape[0], : inner.shape[1]]
    return out


def mask_and_touching(labels: Labels, near: int = 3) -> NDArray[np.uint8]:
    """Both targets, (2, h, w) uint8 0/1: building mask, touching borders."""
    return np.stack([labels > 0, touching_borders(labels, near)]).astype(np.uint8)


def _touching(labels: Labels, near: int) -> NDArray[np.bool_] | None:
    """Touching borders of one block; None where no two labels are close."""
    import cv2

    inside = labels > 0
    if not inside.any():
        return None
    values = labels.astype(np.float32)
    around = np.ones((2 * near + 1, 2 * near + 1), np.uint8)
    highest = cv2.dilate(values, around)
    # The lowest label as a highest one, counted from above: background must not be the lowest.
    lowest = np.float32(MOST) - cv2.dilate(np.where(inside, np.float32(MOST) - values, np.float32(0)), around)
    close = (highest > 0) & (lowest < highest)
    if not close.any():
        return None
    line = _line(_grown(labels)) & close
    return np.asarray(cv2.dilate(line.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def _grown(labels: Labels) -> Labels:
    """Every background pixel takes the label of its nearest instance (chamfer distance, 5×5)."""
    import cv2

    background = (labels == 0).astype(np.uint8)
    if not background.any():
        return labels
    _, nearest = cv2.distanceTransformWithLabels(
        background, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # cv2 numbers the instance pixels; the table says which label each number stands for.
    table = np.zeros(int(nearest.max()) + 1, np.int32)
    inside = labels > 0
    table[nearest[inside]] = labels[inside]
    return np.asarray(table[nearest])


def _line(owner: Labels) -> NDArray[np.bool_]:
    """Pixels one of whose four neighbours has another owner."""
    line = np.zeros(owner.shape, bool)
    differ = owner[1:] != owner[:-1]
    line[1:] |= differ
    line[:-1] |= differ
    differ = owner[:, 1:] != owner[:, :-1]
    line[:, 1:] |= differ
    line[:, :-1] |= differ
    return line


def _largest_ring(
    xy: NDArray[np.float64], ring_offsets: NDArray[np.int64], polygon_offsets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(polygons,) area of each one's largest ring, px²; 0 without a ring."""
    areas = np.zeros(len(ring_offsets) - 1)
    full = np.flatnonzero(np.diff(ring_offsets) > 0)
    if len(full):
        starts = ring_offsets[full]
        x, y = (xy - np.repeat(xy[starts], np.diff(ring_offsets)[full], axis=0)).T
        cross = np.zeros(len(x))
        cross[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
        cross[ring_offsets[full + 1] - 1] = 0  # from a ring's last vertex to the next ring's first
        areas[full] = np.abs(np.add.reduceat(cross, starts)) / 2
    largest = np.zeros(len(polygon_offsets) - 1)
    some = np.diff(polygon_offsets) > 0
    if some.any():
        largest[some] = np.maximum.reduceat(areas, polygon_offsets[:-1][some])
    return largest


if __name__ == "__main__":
    import sys

    from training.targets_file import main

    sys.exit(main())
