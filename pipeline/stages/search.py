"""Evidence search: outlines against the image's edges, agreed among neighbours on a grid of nodes.

Every piece of outline rates every shift of up to `reach` pixels by how strongly the image changes across it,
and gives its rating to the four nodes around it. Ratings are averaged over neighbouring nodes (a field is
smooth, a single outline is easily fooled by its neighbour's roof), each node takes its best shift, and the
nodes' shifts are averaged once more, the clear ones before the unclear. Vertices move by bilinear
interpolation, so vertices that are shared stay shared. Four passes, from wide to narrow: what is left after
one is smaller and can be asked more locally; what the last one still finds says how sure all were.

The nodes lie on one grid over the scene; a block of polygons fills its own part of it, and adds up what each
block around it has to say in the order of their keys: no number depends on how the scene was cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import LEVELS, Window
from pipeline.kernels import edges, sample, smooth

VERSION = 3
COARSE_M = 0.75
"""Metres: the coarsest GSD searched at. A house of 8 m then has outlines of ten pixels."""
REACHES = (36, 10, 6, 4)
"""px: the largest shift each pass looks for. The first in px of level 1 (published fields have 32), the others
in px of their own level; a pass at a finer level than the one before needs no more than FINER."""
FINER = 6
SIGMAS_M = (16.0, 10.0, 8.0, 8.0)
"""Standard deviation of the neighbours' weights, metres, from the first pass to the last."""
SIGMAS_PX = (120.0, 80.0, 80.0, 80.0)
"""px of level 1: at least this, so that coarse images have neighbours too."""
CUT = 3.0
"""Standard deviations beyond which a neighbour has no say."""
BLUR = 0.6
"""Standard deviation, px of the level, of the smoothing before gradients."""
SOFT = 0.1
"""Gradient, in stretched units a pixel, from which edges count by the square root of their strength: a bright
roof is not worth ten dark ones."""
CLEAR_HALF, CLEAR_SCALE = 2.5, 0.6
"""Clearness of a node's peak (standard deviations) at which its say is halved, and the slope."""

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Outlines = tuple[Float64, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Search:
    """One pass: pyramid `factor`, `reach` (px of that level), `sigma` of the neighbours (px of level 1), `turn`
    from 1."""

    factor: int
    reach: int
    sigma: float
    turn: int

    @property
    def name(self) -> str:
        """Name in arrays and receipts, e.g. `align-s1f4`."""
        return f"align-s{self.turn}f{self.factor}"

    @property
    def source(self) -> str:
        """The phase that makes what the pass's move is made from."""
        return f"{self.name}-search"

    @property
    def spacing(self) -> int:
        """Distance of the nodes, px of level 1: a power of two near half of sigma, so blocks hold whole nodes."""
        return int(np.clip(2 ** round(np.log2(self.sigma / 2)), 8, 256))

    @property
    def radius(self) -> int:
        """How many nodes away a neighbour can be that has a say."""
        return int(np.ceil(CUT * self.sigma / self.spacing))

    def nodes(self, window: Window) -> Window:
        """The nodes that lie in a window of level 1 whose corner is a multiple of the spacing."""
        s = self.spacing
        return Window(window.y0 // s, window.x0 // s, -(-window.height // s), -(-window.width // s))

    def region(self, nodes: Window) -> Window:
        """The window of level 1 whose outlines and pixels have a say in the votes of `nodes`."""
        wide, s = nodes.grow(self.radius + 1), self.spacing
        return Window(wide.y0 * s, wide.x0 * s, wide.height * s, wide.width * s).grow(self.reach * self.factor + 8)


def plan_searches(gsd: float) -> tuple[Search, ...]:
    """The passes, wide to narrow, for a scene of `gsd` metres: from the coarsest level a house is seen at."""
    levels = [level for level in sorted(LEVELS, reverse=True) if gsd * level <= COARSE_M] or [1]
    plan: list[Search] = []
    for turn, (reach, metres, least) in enumerate(zip(REACHES, SIGMAS_M, SIGMAS_PX, strict=True), start=1):
        factor = levels[min(turn, len(levels)) - 1]
        if not plan:
            reach = -(-reach // factor)
        elif factor < plan[-1].factor:
            reach = min(reach, FINER)
        plan.append(Search(factor, reach, max(metres / gsd, least), turn))
    return tuple(plan)


def structure(image: Float32, valid: NDArray[np.bool_]) -> Float32:
    """The image's structure (3, h, w): xx, xy, yy of the gradient summed over bands; none where nodata is near.

    `image` (bands, h, w) stretched to 0..1. Compressed by the square root of the gradient, see SOFT.
    """
    import cv2

    near = np.ones((9, 9), np.uint8)  # the reach of the smoothing and of the gradient
    solid = cv2.erode(valid.astype(np.uint8), near, borderValue=0).astype(np.float32)
    solid /= 32  # Scharr's weights for a gradient a pixel
    out = np.zeros((3, *valid.shape), np.float32)
    for pixels in image:
        soft = cv2.GaussianBlur(pixels, (0, 0), BLUR)
        gx = cv2.Scharr(soft, cv2.CV_32F, 1, 0) * solid
        gy = cv2.Scharr(soft, cv2.CV_32F, 0, 1) * solid
        out[0] += gx * gx
        out[1] += gx * gy
        out[2] += gy * gy
    out /= np.sqrt(out[0] + out[2] + np.float32(SOFT * SOFT))
    return out


def votes_of(
    search: Search, tensor: Float32, corner: tuple[int, int], blocks: Iterable[Outlines], nodes: Window
) -> tuple[Float32, Float32]:
    """Votes (h, w, s, s) and px of outline that voted (h, w) at `nodes` grown by the radius, before smoothing.

    `tensor` covers `search.region(nodes)`, clipped to the scene, at the pass's level, and `corner` (y, x) is its
    first pixel there. `blocks`: outlines (coords (n, 2) px of level 1, ring_offsets), in the order of their keys.
    """
    wide, size = nodes.grow(search.radius), 2 * search.reach + 1
    factor, spacing = search.factor, search.spacing / search.factor
    first = np.array([(wide.x0 + 0.5) * spacing - corner[1], (wide.y0 + 0.5) * spacing - corner[0]])
    votes = np.zeros((wide.height, wide.width, size, size), np.float32)
    weight = np.zeros((wide.height, wide.width), np.float32)
    for coords, ring_offsets in blocks:
        said, heard = np.zeros_like(votes), np.zeros_like(weight)
        local = coords / factor - (corner[1], corner[0])
        edges.vote(tensor, local, ring_offsets, search.reach, max(spacing / 2, 4.0), first, spacing, said, heard)
        votes += said
        weight += heard
    return votes, weight


def find_shifts(search: Search, votes: Float32, weight: Float32, nearer: Float32 | None = None) -> Float32:
    """Shifts of the nodes from `votes_of`: weighted sums (4, h, w), Σ w·dx, Σ w·dy (px of level 1), Σ w, Σ w·clear.

    `w` is the px of outline that voted, fewer where the peak is not clear. `nearer` (as `weight`): how much less the
    farthest shift is worth than none, before smoothing.
    """
    deviation, margin = search.sigma / search.spacing, search.radius
    inner = np.s_[margin:-margin, margin:-margin]
    height, width, size, _ = votes.shape
    planes = np.ascontiguousarray(np.moveaxis(votes.reshape(height, width, -1), -1, 0))
    near = smooth.gaussian(planes, deviation, margin)[(slice(None), *inner)]
    heard = smooth.gaussian(weight[None], deviation, margin)[(0, *inner)]
    mixed = np.ascontiguousarray(np.moveaxis(near, 0, -1).reshape(-1, size, size))
    mixed /= np.maximum(heard.reshape(-1, 1, 1), np.float32(1e-6))
    if nearer is not None:
        less = smooth.gaussian((nearer * weight)[None], deviation, margin)[(0, *inner)] / np.maximum(heard, 1e-6)
        axis = (np.arange(size, dtype=np.float32) - search.reach) / np.float32(search.reach)
        mixed *= 1 - less.reshape(-1, 1, 1) * (axis[:, None] ** 2 + axis**2)
    found = edges.peaks(mixed)
    say = heard * sure(found[:, 2]).reshape(heard.shape)
    dx, dy, clear = (found[:, k].reshape(heard.shape) for k in range(3))
    return np.stack([say * dx * search.factor, say * dy * search.factor, say, say * clear]).astype(np.float32)


def sure(clear: Float64) -> Float64:
    """How much say a peak has, 0..1, by its clearness; none without any."""
    return np.where(clear > 0, 1.0 / (1.0 + np.exp(-(clear - CLEAR_HALF) / CLEAR_SCALE)), 0.0)


def nodes_around(box: tuple[float, float, float, float], search: Search) -> Window:
    """The nodes that the move of points in a box (x0, y0, x1, y1; px of level 1) needs."""
    s, margin = search.spacing, search.radius + 2
    x0, y0 = int(np.floor(box[0] / s)) - margin, int(np.floor(box[1] / s)) - margin
    x1, y1 = int(np.ceil(box[2] / s)) + margin, int(np.ceil(box[3] / s)) + margin
    return Window(y0, x0, y1 - y0, x1 - x0)


def field_of(search: Search, sums: Float32) -> Float32:
    """Normalised convolution of the nodes' sums (4, h, w): dx, dy (px of level 1), clearness, weight."""
    wide = smooth.gaussian(sums, search.sigma / search.spacing, search.radius)
    weight = wide[2]
    field = wide[[0, 1, 3]] / np.maximum(weight, np.float32(1e-12))
    return np.concatenate([np.where(weight > 1e-9, field, 0), weight[None]]).astype(np.float32)


def move(xy: Float64, field: Float32, nodes: Window, search: Search) -> tuple[Float64, Float64]:
    """Points (n, 2), px of level 1, moved by a field over `nodes`; and the clearness there (n)."""
    value = sample.bilinear(field, xy / search.spacing - (nodes.x0, nodes.y0))
    return xy + value[:, :2], value[:, 2]
