"""A building's own height: its outline in both images, for every height along the line on which it can stand.

One unknown a building and two images: where the footprint stands on the ground is known from its neighbours,
so a height says where the roof's outline must lie in each image, and both images say how much they change
across it (`kernels.edges.rate` on `stages.search.structure`). First the neighbours agree on where the
ground is: whatever their heights, one small shift must let all of them fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline import scene
from pipeline.grid import LEVELS, Window, level_shape
from pipeline.kernels import edges, scatter
from pipeline.polygons import Points, transformer
from pipeline.ragged import Ints, offsets_of, ranges
from pipeline.scene import Scene
from pipeline.stages.search import structure

Floats = NDArray[np.float64]

LOW = -5.0
"""Metres: the lowest height that is looked for; a house at zero must be able to come out below."""
FINEST_M = 0.5
"""Metres: of a finer image the level is used whose pixels are no wider than this."""
CELL = 1024
"""px of the level: rows are asked cell by cell, and one that is wider than a cell is not asked."""
REACH = 6
"""px of the coarser level: how far the ground is looked for around where the alignments put it."""
SIGMA_M = 40.0
"""Metres: standard deviation of the neighbours' weights when they agree on the ground."""
CUT = 3.0
"""Standard deviations beyond which a neighbour has no say."""
WARMTH = 60.0
"""What a unit of evidence (mean root of the gradient along the outline) is worth as log-likelihood: calibrated on
drawn towns of one height a building, where about 68 % and 95 % of the errors are within one and two sigmas."""
PLACE_PX = 0.3
"""px: standard deviation of where the neighbours put the ground."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One view: its scene, the pyramid `level` that is used, and its parallax (2,), metres east and north."""

    scene: Scene
    level: int
    parallax: Floats

    @property
    def pixel(self) -> float:
        """Metres of a pixel of the level."""
        return self.scene.gsd * self.level

    def shift(self, metres: Floats) -> Floats:
        """Metres east and north, as px of the level."""
        return np.asarray(metres * (1.0, -1.0) / self.pixel)


@dataclass(frozen=True, slots=True)
class Outlines:
    """Closed outlines of some rows: xy of each view (n, 2) px of its level, `ring_offsets` (q + 1), `ring_row` (q,)
    index into `rows`, the input rows."""

    rows: Ints
    xy: tuple[Points, Points]
    ring_offsets: Ints
    ring_row: Ints


def sight(where: Scene, parallax: Floats) -> Sight:
    """A view of a scene at the coarsest level that is still fine enough."""
    level = max((each for each in LEVELS if where.gsd * each <= FINEST_M), default=1)
    return Sight(where, level, parallax)


def outlines(xy: Points, crs: str, ring_offsets: Ints, ring_row: Ints, chosen: NDArray[np.bool_],
             sights: tuple[Sight, Sight]) -> Outlines:  # fmt: skip
    """The rings of `chosen` rows (of all input rows) that are closed, in px of both views; rows that are wider than
    a cell, or have no outline, are left out. `xy` in the cadaster's `crs` (WKT)."""
    starts, stops = ring_offsets[:-1], ring_offsets[1:]
    closed = (stops - starts > 3) & (xy[starts] == xy[stops - 1]).all(axis=1) & chosen[ring_row]
    rings = np.flatnonzero(closed)
    taken = ranges(starts[rings], stops[rings])
    placed = []
    for each in sights:
        project = transformer(crs, each.scene.crs)
        points = xy[taken] if project is None else project(xy[taken])
        a, _, c, _, e, f = each.scene.transform
        placed.append((points - (c, f)) / (a * each.level, e * each.level))
    rows, ring = np.unique(ring_row[rings], return_inverse=True)
    lengths = stops[rings] - starts[rings]
    owner = np.repeat(ring, lengths)
    fits = np.ones(len(rows), bool)
    for points in placed:
        low, high = _boxes(points, owner, len(rows))
        fits &= np.isfinite(low).all(axis=1) & np.isfinite(high).all(axis=1) & (high - low <= CELL).all(axis=1)
    keep = fits[ring]
    number = np.cumsum(fits) - 1
    vertices = fits[owner]
    xys = (placed[0][vertices], placed[1][vertices])
    return Outlines(rows[fits], xys, offsets_of(lengths[keep]), number[ring[keep]])


def _boxes(xy: Points, owner: Ints, count: int) -> tuple[Floats, Floats]:
    low, high = np.full((count, 2), np.inf), np.full((count, 2), -np.inf)
    np.minimum.at(low, owner, xy)
    np.maximum.at(high, owner, xy)
    return low, high


def ground(outlines: Outlines, start: Floats, sights: tuple[Sight, Sight], tallest: float) -> Floats:
    """Where the cadaster must move so that its rows stand on the ground: (r, 2) metres east and north.

    `start` (r, 2): a guess to look around. For every small shift each row says how well it fits at its best height,
    whatever that is; the neighbours' means decide.
    """
    pixel = max(each.pixel for each in sights)
    fit = np.zeros((len(outlines.rows), 2 * REACH + 1, 2 * REACH + 1), np.float32)
    for rows, part, tensors in _cells(outlines, sights, tallest, start):
        for height in steps(sights, tallest, 1.0):
            fit[rows] = np.maximum(fit[rows], _evidence(part, tensors, sights, start[rows], float(height), REACH))
    centre, values = _centres(outlines) * sights[0].pixel, fit.reshape(len(fit), -1).astype(np.float64)
    near = scatter.blend(centre, centre, values, np.ones(len(fit)), SIGMA_M, CUT * SIGMA_M)[:, :-1]
    peak = edges.peaks(np.ascontiguousarray(near.reshape(fit.shape).astype(np.float32)))
    return np.asarray(start + peak[:, :2] * (pixel, -pixel))


def measure(outlines: Outlines, error: Floats, sights: tuple[Sight, Sight], tallest: float) -> tuple[Floats, Floats]:
    """Height and its standard deviation of each row (r,), metres, with its footprint moved by `error` (r, 2).

    The height is the top of a parabola through the best place and those beside it. The deviation is that of all
    heights about it, each weighed by its evidence: wide where the peak is flat, and where another is as high.
    NaN where an image says nothing there.
    """
    heights = steps(sights, tallest, 0.5)
    height, sigma = np.full(len(outlines.rows), np.nan), np.full(len(outlines.rows), np.nan)
    for rows, part, tensors in _cells(outlines, sights, tallest, error):
        profile = [_evidence(part, tensors, sights, error[rows], float(each), 0)[:, 0, 0] for each in heights]
        evidence = np.stack(profile, axis=1).astype(np.float64)
        height[rows], sigma[rows] = read_profile(evidence, heights)
    lean = max(float(np.hypot(*each.parallax)) for each in sights)
    return height, np.hypot(sigma, PLACE_PX * max(each.pixel for each in sights) / lean)


def read_profile(evidence: Floats, heights: Floats) -> tuple[Floats, Floats]:
    """The best height (r,) of each profile (r, n) over equidistant `heights` (n,), and its deviation; NaN where a
    profile is flat."""
    soft = 0.5 * evidence[:, 1:-1] + 0.25 * (evidence[:, :-2] + evidence[:, 2:])
    inner, row = heights[1:-1], np.arange(len(evidence))
    at = np.clip(soft.argmax(axis=1), 1, len(inner) - 2)
    before, peak, after = soft[row, at - 1], soft[row, at], soft[row, at + 1]
    bend = before - 2 * peak + after
    top = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1.0), 0.0)
    height = inner[at] + np.clip(top, -1, 1) * (heights[1] - heights[0])
    chance = np.exp(WARMTH * (soft - soft.max(axis=1, keepdims=True)))
    chance /= chance.sum(axis=1, keepdims=True)
    sigma = np.sqrt((chance * (inner - height[:, None]) ** 2).sum(axis=1))
    seen = np.ptp(soft, axis=1) > 0
    return np.where(seen, height, np.nan), np.where(seen, sigma, np.nan)


def steps(sights: tuple[Sight, Sight], tallest: float, px: float) -> Floats:
    """Heights from LOW to `tallest`, metres, of which none moves an outline by more than `px` from the last."""
    lean = max(float(np.hypot(*each.parallax)) / each.pixel for each in sights)
    return np.arange(LOW, tallest + px / lean, px / lean)


Part = tuple[tuple[Points, Points], Ints, Ints, int]
Tensors = tuple[tuple[NDArray[np.float32], Floats], ...]


def _evidence(
    part: Part, tensors: Tensors, sights: tuple[Sight, Sight], error: Floats, height: float, reach: int
) -> NDArray[np.float32]:
    """What both images together say for each row at `height`, its footprint moved by `error` (r, 2) metres and then
    by every whole shift of up to `reach` px of the coarser level: (r, s, s) float32, y first. What lies outside an
    image says nothing for the row there."""
    placed, ring_offsets, ring_row, count = part
    owner = np.repeat(ring_row, np.diff(ring_offsets))
    pixel = max(each.pixel for each in sights)
    total = np.zeros((count, 2 * reach + 1, 2 * reach + 1), np.float32)
    for xy, (tensor, corner), each in zip(placed, tensors, sights, strict=True):
        step = np.hypot(*np.diff(xy, axis=0).T)
        step[ring_offsets[1:-1] - 1] = 0.0  # from one ring to the next
        perimeter = np.maximum(np.bincount(owner[:-1], weights=step, minlength=count), 1e-9)
        there = xy - corner + each.shift(error)[owner] + each.shift(height * each.parallax)
        at = np.rint(np.arange(-reach, reach + 1) * pixel / each.pixel).astype(np.int64)
        wide = int(at[-1])
        fit, heard = edges.rate(tensor, there, ring_offsets, ring_row, count, wide)
        total += fit[:, at + wide][:, :, at + wide] * (heard / perimeter).astype(np.float32)[:, None, None]
    return total


def _cells(
    outlines: Outlines, sights: tuple[Sight, Sight], tallest: float, start: Floats
) -> Iterator[tuple[Ints, Part, Tensors]]:
    """The rows of each cell, their outlines, and the structure of both images wherever they may show."""
    cell = np.floor(_centres(outlines) / CELL).astype(np.int64)
    _, group = np.unique(cell, axis=0, return_inverse=True)
    for number in range(int(group.max(initial=-1)) + 1):
        rows = np.flatnonzero(group.ravel() == number)
        rings = np.flatnonzero(np.isin(outlines.ring_row, rows))
        begins, ends = outlines.ring_offsets[rings], outlines.ring_offsets[rings + 1]
        taken = ranges(begins, ends)
        ring_row = np.searchsorted(rows, outlines.ring_row[rings])
        placed, tensors = [], []
        for xy, each in zip(outlines.xy, sights, strict=True):
            lean = float(np.hypot(*each.parallax)) * max(tallest, -LOW) / each.pixel
            far = lean + float(np.abs(each.shift(start[rows])).max()) + 2 * REACH + 8
            placed.append(xy[taken])
            tensors.append(_structure(each, xy[taken], far))
        yield rows, ((placed[0], placed[1]), offsets_of(ends - begins), ring_row, len(rows)), tuple(tensors)


def _structure(each: Sight, xy: Points, far: float) -> tuple[NDArray[np.float32], Floats]:
    low, high = np.floor(xy.min(axis=0) - far).astype(int), np.ceil(xy.max(axis=0) + far).astype(int)
    window = Window(int(low[1]), int(low[0]), int(high[1] - low[1]), int(high[0] - low[0]))
    window = window.clip(level_shape(each.scene.shape, each.level))
    corner = np.array([window.x0, window.y0], np.float64)
    if not window.area:
        return np.zeros((3, 0, 0), np.float32), corner
    image = scene.read_stretched(each.scene, each.level, window)
    return structure(image, scene.read_valid(each.scene, each.level, window) != 0), corner


def _centres(outlines: Outlines) -> Floats:
    """(r, 2) px of the first view's level: the middle of each row's vertices."""
    owner = np.repeat(outlines.ring_row, np.diff(outlines.ring_offsets))
    count = np.maximum(np.bincount(owner, minlength=len(outlines.rows)), 1)
    sums = [np.bincount(owner, weights=values, minlength=len(outlines.rows)) for values in outlines.xy[0].T]
    return np.stack(sums, axis=1) / count[:, None]
