"""The successor network's chain over scales on a prepared scene in plain arrays: what re-aligns its labels.

As training/align_chain.py: draw the polygons as moved so far, predict a field, move, draw again. Where the smoothing
is 0 each building moves as a whole, by the mean of the field along its own outline: what is off by itself comes back
by itself, and shapes stay. Otherwise vertices follow the field smoothed by normalised convolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from models.successor_unet import SuccessorUNet, mark_vertices, polygon_rasters
from training.align_chain import CORE, sample, smooth
from training.patches import PreparedScene, draw

Array = NDArray[np.float64]
Steps = tuple[tuple[int, float], ...]

ALONE: Steps = ((4, 0.0), (2, 0.0), (2, 0.0), (1, 0.0))
"""(factor, smoothing deviation in px of that level; 0 moves each building by itself): for labels each off by a
shift of its own. Twice a factor: what a network learns from noisy labels falls short of the shift, a second pass
makes up for most of it."""

TOGETHER: Steps = ((4, 24.0), (4, 24.0), (2, 48.0), (1, 48.0))
"""For a smooth field of up to 8 px, as training/align_scores.py has it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Polygons in px of one level over a part of it: rasters (3, h, w) fill, edge, vertex; weight (h, w) for the
    smoothing: 1 on outlines, 0.1 inside."""

    rasters: NDArray[np.float32]
    weight: NDArray[np.float32]


def within(scene: PreparedScene) -> PreparedScene:
    """The scene with those polygons only that have a vertex where it counts."""
    starts = scene.ring_offsets[scene.polygon_offsets[:-1]]
    kept = np.flatnonzero(np.maximum.reduceat(inside(scene, scene.coords), starts))
    rings = [r for i in kept for r in range(*scene.polygon_offsets[i : i + 2])]
    vertices = np.concatenate([np.arange(*scene.ring_offsets[r : r + 2]) for r in rings])
    sizes, parts = np.diff(scene.ring_offsets)[rings], np.diff(scene.polygon_offsets)[kept]
    return replace(
        scene,
        coords=scene.coords[vertices],
        ring_offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        polygon_offsets=np.concatenate([[0], np.cumsum(parts)]).astype(np.int64),
        bounds=scene.bounds[kept],
    )


def inside(scene: PreparedScene, coords: Array) -> NDArray[np.bool_]:
    """Whether vertices (n, 2) fall where the scene counts."""
    counts = scene.counts[1]
    cell = np.floor(coords).astype(np.int64)
    known = ((cell >= 0) & (cell < np.array(counts.shape)[::-1])).all(1)
    known[known] = counts[cell[known, 1], cell[known, 0]] > 0
    return known


def owners(scene: PreparedScene) -> NDArray[np.int64]:
    """Polygon of every vertex, (n,)."""
    sizes = np.diff(scene.ring_offsets[scene.polygon_offsets])
    return np.repeat(np.arange(len(sizes)), sizes)


def relabelled(scene: PreparedScene, coords: Array) -> PreparedScene:
    """The scene with its vertices at `coords (n, 2)`; bounds and seeds follow."""
    starts = scene.ring_offsets[scene.polygon_offsets[:-1]]
    bounds = np.concatenate([np.minimum.reduceat(coords, starts), np.maximum.reduceat(coords, starts)], axis=1)
    return replace(scene, coords=coords, bounds=bounds, seeds=coords[inside(scene, coords)])


def align(
    network: SuccessorUNet, scene: PreparedScene, coords: Array, steps: Steps, coarsest: float, device: str = "cpu"
) -> Array:
    """Vertices (n, 2) of the scene's polygons, at `coords` to begin with, moved through the chain; px at full
    resolution. Factors that make pixels coarser than `coarsest` metres are left out: the network never saw them.
    """
    known = [step for step in steps if scene.gsd * step[0] <= coarsest * 1.01] or [(1, steps[-1][1])]
    for factor, sigma in known:
        coords = _step(network, scene, coords, factor, sigma, device)
    return coords


def _step(
    network: SuccessorUNet, scene: PreparedScene, coords: Array, factor: int, sigma: float, device: str
) -> Array:
    # Only the part around the polygons is drawn and held: labels cover a corner of some scenes.
    height, width = scene.gray[factor].shape
    low = np.maximum(np.floor(coords.min(0) / factor).astype(int) - 2 * CORE, 0) // 8 * 8
    high = np.minimum(np.ceil(coords.max(0) / factor).astype(int) + 2 * CORE, (width, height))
    gray = scene.gray[factor][low[1] : high[1], low[0] : high[0]]
    local = coords / factor - low
    rings = np.split(local, scene.ring_offsets[1:-1])
    polygons = [rings[a:b] for a, b in zip(scene.polygon_offsets, scene.polygon_offsets[1:], strict=False)]
    drawn = rasters_of(polygons, gray.shape)
    field = predict(network, gray.astype(np.float32) / 255, drawn.rasters, device)
    if sigma > 0:
        return coords + factor * sample(smooth(field, drawn.weight, sigma), local)
    points, of = along_outlines(local, scene.ring_offsets, owners(scene))
    values, count = sample(field, points), np.bincount(of, minlength=len(polygons))
    means = np.stack([np.bincount(of, values[:, i], len(polygons)) for i in (0, 1)], axis=1) / count[:, None]
    return coords + factor * means[owners(scene)]


def rasters_of(polygons: list[list[Array]], shape: tuple[int, ...]) -> Drawn:
    """The network's three rasters of polygons (lists of rings, px) over (h, w)."""
    height, width = shape
    cadaster = draw(polygons, (height, width))
    marks = mark_vertices(torch.from_numpy(np.concatenate([r for p in polygons for r in p])), height, width)
    rasters = polygon_rasters(torch.from_numpy(cadaster)[None, None], marks[None])[0].numpy()
    return Drawn(rasters, np.where(cadaster == 1, np.float32(1), np.float32(0.1) * (cadaster > 0)).astype(np.float32))


@torch.no_grad()
def predict(
    network: SuccessorUNet, gray: NDArray[np.float32], rasters: NDArray[np.float32], device: str = "cpu"
) -> NDArray[np.float32]:
    """Field (2, h, w) in px by windows of 256 px plus halo; windows without anything drawn stay 0."""
    height, width = gray.shape
    halo, side = network.halo, CORE + 2 * network.halo
    field = np.zeros((2, height, width), np.float32)
    pad = ((halo, halo + CORE - height % CORE), (halo, halo + CORE - width % CORE))
    image, drawn = np.pad(gray, pad), np.pad(rasters, ((0, 0), *pad))
    network.eval()
    for y in range(0, height, CORE):
        for x in range(0, width, CORE):
            if not drawn[:, y + halo : y + halo + CORE, x + halo : x + halo + CORE].any():
                continue
            window = np.s_[y : y + side, x : x + side]
            seen = torch.from_numpy(image[window][None, None]).to(device)
            core = network.displace(seen, torch.from_numpy(drawn[(slice(None), *window)][None]).to(device))
            h, w = min(CORE, height - y), min(CORE, width - x)
            field[:, y : y + h, x : x + w] = core[0].cpu().numpy()[:, :h, :w]
    return field


def along_outlines(
    coords: Array, ring_offsets: NDArray[np.int64], owner: NDArray[np.int64]
) -> tuple[Array, NDArray[np.int64]]:
    """Points (m, 2) at most a pixel apart along the closed rings' segments, and the polygon (m,) of each."""
    start = np.setdiff1d(np.arange(len(coords) - 1), ring_offsets[1:-1] - 1)
    a, b = coords[start], coords[start + 1]
    pieces = np.maximum(np.ceil(np.hypot(*(b - a).T)), 1).astype(np.int64)
    segment = np.repeat(np.arange(len(start)), pieces)
    nth = np.arange(len(segment)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    share = ((nth + 0.5) / pieces[segment])[:, None]
    return a[segment] + share * (b - a)[segment], owner[start][segment]
