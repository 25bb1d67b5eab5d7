"""Evidence for where outlines lie: how strongly the image changes across them, for every shift at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.kernels.jit import kernel

Floats = npt.NDArray[np.float64]
Planes = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@kernel
def vote(
    tensor: Planes, xy: Floats, ring_offsets: Integers, reach: int, piece: float, origin: Floats, spacing: float,
    votes: Planes, weight: Planes,
) -> None:  # fmt: skip
    """Adds the votes of outlines for every whole shift of up to `reach` px to the four nodes around each piece.

    tensor        (3, h, w) float32: xx, xy, yy of the image's structure; across a normal n it says √(nᵀTn)
    xy            (n, 2) float64 px of the same raster (pixel centres at +0.5)
    ring_offsets  (q + 1,) runs of vertices in `xy`: closed rings or open lines
    piece         px: outlines are cut into pieces no longer, each with a place of its own
    origin, spacing   px, x first: node (row, column) lies at origin + (column, row) * spacing
    votes         (rows, columns, 2 reach + 1, 2 reach + 1) float32, y shift first: added to
    weight        (rows, columns) float32: added to, the px of outline that voted

    A sample a pixel, taken at the nearest pixel: over an outline the halves of a pixel cancel. Samples that a
    shift takes outside the raster count as no edge. Pieces between nodes that are not there are left out.
    """
    size = 2 * reach + 1
    rows, columns = weight.shape
    said = np.zeros((size, size), np.float32)
    for ring in range(ring_offsets.shape[0] - 1):
        for i in range(ring_offsets[ring], ring_offsets[ring + 1] - 1):
            x0, y0, wide, tall = xy[i, 0], xy[i, 1], xy[i + 1, 0] - xy[i, 0], xy[i + 1, 1] - xy[i, 1]
            side = np.hypot(wide, tall)
            if not 1e-9 < side < np.inf:
                continue
            nx, ny = tall / side, -wide / side
            parts = int(np.ceil(side / piece))
            for part in range(parts):
                u = (x0 + wide * (part + 0.5) / parts - origin[0]) / spacing
                v = (y0 + tall * (part + 0.5) / parts - origin[1]) / spacing
                column, row = int(np.floor(u)), int(np.floor(v))
                if column < -1 or row < -1 or column >= columns or row >= rows:
                    continue
                heard = listen(tensor, x0, y0, wide, tall, nx, ny, part, parts, side, reach, said)
                if heard == 0.0:
                    continue
                for below in range(2):
                    for right in range(2):
                        r, c = row + below, column + right
                        share = (v - row if below else row + 1 - v) * (u - column if right else column + 1 - u)
                        if r < 0 or c < 0 or r >= rows or c >= columns or share <= 0.0:
                            continue
                        weight[r, c] += np.float32(share * heard)
                        part_of = np.float32(share)
                        for a in range(size):
                            for b in range(size):
                                votes[r, c, a, b] += part_of * said[a, b]


@kernel
def rate(tensor: Planes, xy: Floats, ring_offsets: Integers, ring_row: Integers, rows: int, reach: int) -> Any:
    """How well each row's own outline fits the image at every whole shift of up to `reach` px.

    As `vote`, but a row's runs (`ring_row` (q,), from 0) are taken together. Returns the mean over the outline
    (rows, 2 reach + 1, 2 reach + 1) float32, and the px of it that lie inside the raster (rows,) float64.
    """
    size = 2 * reach + 1
    volume, length = np.zeros((rows, size, size), np.float32), np.zeros(rows, np.float64)
    said = np.zeros((size, size), np.float32)
    for ring in range(ring_offsets.shape[0] - 1):
        row = ring_row[ring]
        for i in range(ring_offsets[ring], ring_offsets[ring + 1] - 1):
            x0, y0, wide, tall = xy[i, 0], xy[i, 1], xy[i + 1, 0] - xy[i, 0], xy[i + 1, 1] - xy[i, 1]
            side = np.hypot(wide, tall)
            if 1e-9 < side < np.inf:
                length[row] += listen(tensor, x0, y0, wide, tall, tall / side, -wide / side, 0, 1, side, reach, said)
                for a in range(size):
                    for b in range(size):
                        volume[row, a, b] += said[a, b]
    for row in range(rows):
        if length[row] > 0.0:
            for a in range(size):
                for b in range(size):
                    volume[row, a, b] /= np.float32(length[row])
    return volume, length


@kernel
def listen(
    tensor: Planes, x0: float, y0: float, wide: float, tall: float, nx: float, ny: float, part: int, parts: int,
    side: float, reach: int, said: Planes,
) -> float:  # fmt: skip
    """What one piece of a segment says for every shift, written to `said`; returns its px inside the raster."""
    _, height, width = tensor.shape
    xx, xy, yy = np.float32(nx * nx), np.float32(2.0 * nx * ny), np.float32(ny * ny)
    samples = int(np.ceil(side / parts))
    share = np.float32(side / parts / samples)
    heard = 0.0
    said[:] = np.float32(0.0)
    for k in range(samples):
        t = (part + (k + 0.5) / samples) / parts
        column, row = int(np.floor(x0 + wide * t)), int(np.floor(y0 + tall * t))
        if column < 0 or row < 0 or column >= width or row >= height:
            continue
        heard += side / parts / samples
        left, right = max(-reach, -column), min(reach, width - 1 - column)
        for dy in range(max(-reach, -row), min(reach, height - 1 - row) + 1):
            line = row + dy
            for dx in range(left, right + 1):
                c = column + dx
                across = xx * tensor[0, line, c] + xy * tensor[1, line, c] + yy * tensor[2, line, c]
                said[dy + reach, dx + reach] += share * np.sqrt(max(across, np.float32(0.0)))
    return heard


@kernel
def peaks(volume: Planes) -> Any:
    """The best shift of each volume (m, s, s), to a fraction of a pixel, and how clear it is.

    Volumes are smoothed by a 3 × 3 binomial first; the peak is refined by a parabola in x and in y. Returns
    (m, 5) float64: dx, dy (px); `clear` and `stay`, how many standard deviations the peak and the place
    without any shift stand above the volume's mean; and `best`, the smoothed value at the peak. All zero where
    there was no evidence.
    """
    count, size = volume.shape[0], volume.shape[1]
    reach = size // 2
    found = np.zeros((count, 5), np.float64)
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
        found[i, 2], found[i, 3] = (best - mean) / spread, (smooth[reach, reach] - mean) / spread
        found[i, 4] = best
    return found


@kernel
def vertex(before: float, peak: float, after: float) -> float:
    """Where the parabola through three equidistant values has its top, px from the middle one."""
    bend = before - 2.0 * peak + after
    return 0.0 if bend >= 0.0 else 0.5 * (before - after) / bend
