"""What a user could pick instead of our alignment: the peers of `benchmarks.alignment`.

Every peer takes a case, the displaced cadaster's vertices (n, 2) px and the largest displacement to expect, px,
and gives the vertices moved. All of them are told the largest displacement and none moves a vertex further.
Raster peers register the drawn cadaster with the image and are sampled at the vertices, as the polygons' own
field would be. Their settings were chosen on training areas (southern Banepa, massachusetts_us_a and four more),
never on the areas that are scored.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.alignment_flow import (
    Array,
    Peer,
    bounded,
    bspline,
    contrast,
    demons,
    dis,
    farneback,
    global_shift,
    gradient,
    outlines,
    peak,
    surface,
    tvl1,
)
from training.align_chain import Case, sample, smooth


def blockwise(
    case: Case,
    coords: Array,
    largest: float,
    *,
    whitening: float = 0.0,
    sigma: float = 1.0,
    blur: float = 1.0,
    sides: tuple[int, ...] = (512, 256, 128),
    shares: tuple[float, ...] = (1.0, 0.5, 0.25),
) -> Array:
    """Shifts of square blocks, half overlapping, over three sides; the cadaster is drawn again for each.

    A block's shift counts by the outline in it; between blocks' centres shifts are interpolated.
    """
    image = contrast(case, sigma)
    moved = coords
    for side, share in zip(sides, shares, strict=True):
        bound = max(2, int(np.ceil(largest * share)))
        drawn = outlines(case, moved, blur)
        step = side // 2
        padded = np.pad(image, side), np.pad(drawn, side)
        rows, columns = (np.arange(step, length + side + 1, step) for length in image.shape)
        field = np.zeros((2, len(rows), len(columns)), np.float32)
        weight = np.zeros((len(rows), len(columns)), np.float32)
        for i, y in enumerate(rows):
            for j, x in enumerate(columns):
                block = padded[1][y : y + side, x : x + side]
                weight[i, j] = block.sum()
                if weight[i, j] < side * 0.1:
                    continue
                around = padded[0][y - bound : y + side + bound, x - bound : x + side + bound]
                inner = np.pad(block, bound)
                field[:, i, j] = peak(surface(around - around.mean(), inner, bound, whitening))
        field = smooth(field, weight, 0.7)
        at = (moved + side / 2 - step) / step + 0.5
        moved = bounded(coords, moved + sample(field, at), largest)
    return moved


@numba.njit(cache=True, fastmath=True)
def _volumes(gx: Any, gy: Any, at: Any, normals: Any, owners: Any, count: int, bound: int) -> Any:
    """Sum of |gradient . normal| along each building's outline for every integer shift: (count, side, side) float32.

    gx, gy are padded by `bound`; at (m, 2) int64 (x, y) in the unpadded raster.
    """
    side = 2 * bound + 1
    volumes = np.zeros((count, side, side), np.float32)
    for k in range(len(at)):
        x, y = at[k]
        nx, ny = normals[k]
        volume = volumes[owners[k]]
        for i in range(side):
            for j in range(side):
                volume[i, j] += abs(gx[y + i, x + j] * nx + gy[y + i, x + j] * ny)
    return volumes


def outline_samples(case: Case, coords: Array, spacing: float) -> tuple[Array, Array, NDArray[np.int64]]:
    """Points about `spacing` px apart along every outline, unit normals (m, 2) each, and the building of each."""
    following = np.arange(1, len(coords) + 1)
    following[case.ring_offsets[1:] - 1] = case.ring_offsets[:-1]
    along = coords[following] - coords
    length = np.hypot(*along.T)
    pieces = np.where(length > 1e-9, np.maximum(1, np.round(length / spacing)), 0).astype(np.int64)
    ring = np.repeat(np.arange(len(case.ring_offsets) - 1), np.diff(case.ring_offsets))
    building = np.searchsorted(case.polygon_offsets, ring, side="right") - 1
    edge = np.repeat(np.arange(len(coords)), pieces)
    fraction = (np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + 0.5) / pieces[edge]
    normals = along[edge][:, ::-1] * (1.0, -1.0) / length[edge, None]
    return coords[edge] + along[edge] * fraction[:, None], normals, building[edge]


def edge_search(
    case: Case,
    coords: Array,
    largest: float,
    *,
    sigma: float = 0.7,
    power: float = 0.5,
    neighbours: int = 9,
    spacing: float = 1.0,
) -> Array:
    """Each building as a whole to the shift where the image's gradient lies best along its outline's normals,
    with its cost volume averaged over the nearest buildings, itself included, by length of outline.

    At full resolution: coarse to fine (factors 4, 2, 1), a second pass, passes from 25 neighbours to 9, and more or
    fewer neighbours were all no better on the training areas.
    """
    starts = case.ring_offsets[case.polygon_offsets[:-1]]
    ends = np.append(starts[1:], len(coords))
    middles = np.stack([np.add.reduceat(c, starts) for c in coords.T], axis=1) / (ends - starts)[:, None]
    nearest = cKDTree(middles).query(middles, min(neighbours, len(middles)))[1].reshape(len(middles), -1)
    bound = int(np.ceil(largest))
    gx, gy = gradient(case, sigma)
    scale = np.maximum(np.hypot(gx, gy), 1e-6) ** np.float32(power - 1)
    height, width = gx.shape
    gx, gy = (np.pad(g * scale, bound) for g in (gx, gy))
    at, normals, building = outline_samples(case, coords, spacing)
    cell = np.floor(at).astype(np.int64)
    inside = ((cell >= 0) & (cell < (width, height))).all(1)
    across = normals[inside].astype(np.float32)
    volumes = _volumes(gx, gy, cell[inside], across, building[inside], len(starts), bound)
    shifts = np.array([peak(volumes[near].sum(axis=0)) for near in nearest])
    return bounded(coords, coords + np.repeat(shifts, ends - starts, axis=0), largest)


def unmoved(case: Case, coords: Array, largest: float) -> Array:
    """No alignment."""
    return coords.copy()


PEERS: dict[str, Peer] = {
    "none": unmoved,
    "global correlation": global_shift,
    "global phase correlation": partial(global_shift, whitening=0.5),
    "block-wise correlation": partial(blockwise, whitening=0.0),
    "block-wise phase correlation": partial(blockwise, whitening=0.25),
    "DIS flow": dis,
    "Farneback flow": farneback,
    "TV-L1": tvl1,
    "demons": demons,
    "B-spline MI": bspline,
    "edge search, 9 neighbours": edge_search,
}
"""By the names of the tables. Phase correlation flattens the spectrum in part: flattened in full, as phase
correlation is defined, it scored worse on the training areas (block-wise, 32 px: 29 % within 2 px, not 76 %)."""

SLOW = ("TV-L1", "demons", "B-spline MI")
"""Two to ten seconds a megapixel."""
