"""Training targets of the instance network: building mask and touching borders, from instance polygons.

The second channel is what the published project's users ask for most, so here is the recipe in full:

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


def label_image(
    coords: NDArray[np.float64],
    ring_offsets: NDArray[np.int64],
    polygon_offsets: NDArray[np.int64],
    shape: tuple[int, int],
    scale: float = 1.0,
) -> Labels:
    """(h, w) int32: polygon i covers a pixel's centre -> i + 1, else 0. Holes stay 0.

    `coords` (n, 2) float64 are (x, y) px with (0, 0) the outer corner of the first pixel; `scale` multiplies
    them first. Where polygons overlap, the smaller one wins: it would otherwise vanish from the targets.
    """
    from skimage.draw import polygon as fill

    labels = np.zeros(shape, np.int32)
    rings = [coords[a:b] * scale - 0.5 for a, b in zip(ring_offsets[:-1], ring_offsets[1:], strict=True)]
    areas = [_area(rings[first]) for first in polygon_offsets[:-1]]
    for i in np.argsort(areas, kind="stable")[::-1]:
        first, last = int(polygon_offsets[i]), int(polygon_offsets[i + 1])
        shell = rings[first]
        x0, y0 = np.floor(shell.min(axis=0)).astype(int)
        x1, y1 = np.ceil(shell.max(axis=0)).astype(int) + 1
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, shape[1]), min(y1, shape[0])
        if x0 >= x1 or y0 >= y1:
            continue
        box = np.zeros((y1 - y0, x1 - x0), bool)
        for ring, value in ((r, k == 0) for k, r in enumerate(rings[first:last])):
            rows, columns = fill(ring[:, 1] - y0, ring[:, 0] - x0, box.shape)
            box[rows, columns] = value
        labels[y0:y1, x0:x1][box] = i + 1
    return labels


def touching_borders(labels: Labels, near: int = 3) -> NDArray[np.bool_]:
    """Where instances touch or come close: (h, w) bool from (h, w) int32 labels (0 = background).

    near   px; the line is kept where two labels lie within `near` px of it along each axis, so that gaps of
           up to about 2 · near px count as touching. The band is 4 px wide (see the module's head).
    """
    import cv2

    if labels.max(initial=0) < 2:
        return np.zeros(labels.shape, bool)
    # Labels reach cv2 as float32, exact up to 2**24 instances; the published code wraps at 255.
    values = labels.astype(np.float32)
    box = np.ones((2 * near + 1, 2 * near + 1), np.uint8)
    highest = cv2.dilate(values, box)
    lowest = cv2.erode(np.where(labels > 0, values, np.float32(np.inf)), box, borderValue=np.inf)
    close = (highest > 0) & (lowest < highest)
    line = _line(_grown(labels)) & close
    return np.asarray(cv2.dilate(line.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def mask_and_touching(labels: Labels, near: int = 3) -> NDArray[np.uint8]:
    """Both targets, (2, h, w) uint8 0/1: building mask, touching borders."""
    return np.stack([labels > 0, touching_borders(labels, near)]).astype(np.uint8)


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


def _area(ring: NDArray[np.float64]) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2)
