"""Evidence for where an outline lies: image gradients across it, for every shift at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.kernels.jit import kernel

Floats = npt.NDArray[np.float64]
Planes = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@kernel
def evidence(
    gx: Planes, gy: Planes, xy: Floats, ring_offsets: Integers, ring_row: Integers, rows: int, reach: int
) -> Any:
    """How well each row's outline fits the image's edges at every whole shift of up to `reach` px.

    gx, gy        (bands, h, w) float32 gradients of the image, px
    xy            (n, 2) float64 px of the same raster (pixel centres at +0.5); closed rings
    ring_offsets  (q + 1,) rings into `xy`; `ring_row` (q,) the row, from 0, that each belongs to

    Returns volume (rows, 2 reach + 1, 2 reach + 1) float32, y shift first: the mean over the outline, a
    sample a pixel, of |gradient · normal| summed over bands; and length (rows,) float64 px that was inside
    the raster. Samples that a shift takes outside count as no edge.
    """
    size = 2 * reach + 1
    bands, height, width = gx.shape
    volume = np.zeros((rows, size, size), np.float32)
    length = np.zeros(rows, np.float64)
    for ring in range(ring_offsets.shape[0] - 1):
        row = ring_row[ring]
        for i in range(ring_offsets[ring], ring_offsets[ring + 1] - 1):
            x0, y0, x1, y1 = xy[i, 0], xy[i, 1], xy[i + 1, 0], xy[i + 1, 1]
            side = np.hypot(x1 - x0, y1 - y0)
            if side < 1e-9:
                continue
            nx, ny = (y1 - y0) / side, (x0 - x1) / side
            samples = max(1, int(np.ceil(side)))
            share = side / samples
            for k in range(samples):
                t = (k + 0.5) / samples
                x, y = x0 + (x1 - x0) * t - 0.5, y0 + (y1 - y0) * t - 0.5
                left, top = int(np.floor(x)), int(np.floor(y))
                if left < 0 or top < 0 or left >= width - 1 or top >= height - 1:
                    continue
                length[row] += share
                fx, fy = x - left, y - top
                w00, w01 = (1.0 - fx) * (1.0 - fy) * share, fx * (1.0 - fy) * share
                w10, w11 = (1.0 - fx) * fy * share, fx * fy * share
                for dy in range(max(-reach, -top), min(reach, height - 2 - top) + 1):
                    r = top + dy
                    for dx in range(max(-reach, -left), min(reach, width - 2 - left) + 1):
                        c = left + dx
                        total = 0.0
                        for band in range(bands):
                            ex = w00 * gx[band, r, c] + w01 * gx[band, r, c + 1]
                            ex += w10 * gx[band, r + 1, c] + w11 * gx[band, r + 1, c + 1]
                            ey = w00 * gy[band, r, c] + w01 * gy[band, r, c + 1]
                            ey += w10 * gy[band, r + 1, c] + w11 * gy[band, r + 1, c + 1]
                            total += abs(ex * nx + ey * ny)
                        volume[row, dy + reach, dx + reach] += np.float32(total)
    for row in range(rows):
        if length[row] > 0.0:
            scale = np.float32(1.0 / length[row])
            for a in range(size):
                for b in range(size):
                    volume[row, a, b] *= scale
    return volume, length


@kernel
def mix(volume: Planes, neighbours: Integers, offsets: Integers, weights: Floats) -> Any:
    """Weighted means of volumes: result i over `neighbours[offsets[i]:offsets[i + 1]]`, (m, s, s) float32."""
    count, size = offsets.shape[0] - 1, volume.shape[1]
    mixed = np.zeros((count, size, size), np.float32)
    for i in range(count):
        total = 0.0
        for k in range(offsets[i], offsets[i + 1]):
            total += weights[k]
        if total <= 0.0:
            continue
        for k in range(offsets[i], offsets[i + 1]):
            weight = np.float32(weights[k] / total)
            j = neighbours[k]
            for a in range(size):
                for b in range(size):
                    mixed[i, a, b] += weight * volume[j, a, b]
    return mixed


@kernel
def peaks(volume: Planes, own: Planes) -> Any:
    """The best shift of each volume (m, s, s), to a fraction of a pixel, and how clear it is.

    Volumes are smoothed by a 3 × 3 binomial first; the peak is refined by a parabola in x and in y. Returns
    (m, 4) float64: dx, dy (px), `clear`, standard deviations that the peak stands above the volume's mean,
    and `agree`, where `own` (m, s, s), each row's own volume, stands at that shift between its mean (0) and
    its best (1). All zero where there was no evidence.
    """
    count, size = volume.shape[0], volume.shape[1]
    reach = size // 2
    found = np.zeros((count, 4), np.float64)
    smooth = np.zeros((size, size), np.float64)
    for i in range(count):
        total, squares, best, at_y, at_x = 0.0, 0.0, -1.0, reach, reach
        for a in range(size):
            for b in range(size):
                value, weight = 0.0, 0.0
                for da in range(-1, 2):
                    for db in range(-1, 2):
                        if 0 <= a + da < size and 0 <= b + db < size:
                            w = (2.0 - abs(da)) * (2.0 - abs(db))
                            value += w * volume[i, a + da, b + db]
                            weight += w
                smooth[a, b] = value / weight
                total += smooth[a, b]
                squares += smooth[a, b] ** 2
                if smooth[a, b] > best:
                    best, at_y, at_x = smooth[a, b], a, b
        mean = total / (size * size)
        spread = np.sqrt(max(squares / (size * size) - mean * mean, 0.0))
        if spread <= 1e-12:
            continue
        found[i, 0], found[i, 1] = at_x - reach, at_y - reach
        if 0 < at_x < size - 1:
            found[i, 0] += vertex(smooth[at_y, at_x - 1], best, smooth[at_y, at_x + 1])
        if 0 < at_y < size - 1:
            found[i, 1] += vertex(smooth[at_y - 1, at_x], best, smooth[at_y + 1, at_x])
        found[i, 2] = (best - mean) / spread
        own_mean, own_best = 0.0, 0.0
        for a in range(size):
            for b in range(size):
                own_mean += own[i, a, b]
                own_best = max(own_best, float(own[i, a, b]))
        own_mean /= size * size
        if own_best > own_mean:
            found[i, 3] = (own[i, at_y, at_x] - own_mean) / (own_best - own_mean)
    return found


@kernel
def vertex(before: float, peak: float, after: float) -> float:
    """Where the parabola through three equidistant values has its top, px from the middle one."""
    bend = before - 2.0 * peak + after
    return 0.0 if bend >= 0.0 else 0.5 * (before - after) / bend
