"""The chain over scales in plain arrays, to score a network and choose settings.

For factor 8, 4, 2, 1: draw the polygons as moved so far, predict a field, smooth it by normalised
convolution (weight: what was drawn), move the vertices by bilinear sampling, draw again. The tiled production
chain is the pipeline's; this one holds a whole evaluation area in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.double_unet import DoubleUNet
from training.chips import LabelledScene, halve, stretch
from training.deform import misalign
from training.patches import LEVELS, draw

CORE = 256
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """What the chain does, in order: `steps` of (factor, smoothing deviation in px of that level, 0 for none);
    `outline` and `inside` are the weights of drawn pixels in the smoothing."""

    steps: tuple[tuple[int, float], ...] = ((8, 24.0), (8, 24.0), (4, 24.0), (4, 24.0), (2, 48.0), (1, 48.0))
    outline: float = 1.0
    inside: float = 0.1


@dataclass(frozen=True, slots=True)
class Case:
    """Part of a scene: pyramid levels by factor, and the true polygons that touch the evaluation area.

    `bands` (3, h, w) float32 scene-stretched to 0..1, nodata 0; `valid` (h, w) bool. `scored` marks vertices of
    polygons wholly inside the area. Coordinates are px of the part at full resolution.
    """

    name: str
    gsd: float
    bands: Mapping[int, NDArray[np.float32]]
    valid: Mapping[int, NDArray[np.bool_]]
    coords: Array
    ring_offsets: NDArray[np.int64]
    polygon_offsets: NDArray[np.int64]
    scored: NDArray[np.bool_]

    @property
    def gray(self) -> Mapping[int, NDArray[np.float32]]:
        """Mean of the bands by factor, (h, w)."""
        return {level: image.mean(axis=0, dtype=np.float32) for level, image in self.bands.items()}


def make_case(scene: LabelledScene, area: NDArray[np.bool_], largest_side: int | None = None) -> Case:
    """Cut the bounds of `area` (h, w bool) out of a scene, at an origin that is a multiple of 64 px, with a
    margin of 256 px; `largest_side` keeps only a square at the middle of its buildings."""
    rows, columns = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    cell = np.clip(np.floor(scene.coords).astype(int), 0, np.array(area.shape)[::-1] - 1)
    if largest_side is not None:
        middle = np.median(scene.coords[area[cell[:, 1], cell[:, 0]]], axis=0) - largest_side / 2
        x0, y0 = max(x0, int(middle[0])), max(y0, int(middle[1]))
        y1, x1 = min(y1, y0 + largest_side), min(x1, x0 + largest_side)
        area = area.copy()
        area[:y0], area[y1:], area[:, :x0], area[:, x1:] = False, False, False, False
    top, left = max(y0 - 256, 0) // 64 * 64, max(x0 - 256, 0) // 64 * 64
    bottom, right = min(y1 + 256, area.shape[0]), min(x1 + 256, area.shape[1])
    bands, valid = {}, {}
    image, mask = stretch(scene.image, scene.valid)[:, top:, left:], scene.valid[top:, left:]
    for level in LEVELS:
        part = np.s_[..., : -(-(bottom - top) // level), : -(-(right - left) // level)]
        bands[level], valid[level] = image[part].copy(), mask[part].copy()
        image, mask = halve(image, mask)
    beyond = ((scene.coords < 0) | (scene.coords >= np.array(area.shape)[::-1])).any(1)
    inside = (area & scene.valid)[cell[:, 1], cell[:, 0]] & ~beyond
    starts = scene.ring_offsets[scene.polygon_offsets[:-1]]
    whole, some = np.minimum.reduceat(inside, starts), np.maximum.reduceat(inside, starts)
    kept = np.flatnonzero(some)
    rings = [r for i in kept for r in range(*scene.polygon_offsets[i : i + 2])]
    counts = np.diff(scene.ring_offsets)[rings]
    vertices = np.concatenate([np.arange(*scene.ring_offsets[r : r + 2]) for r in rings])
    owner = np.repeat(kept, np.add.reduceat(counts, np.cumsum([0, *np.diff(scene.polygon_offsets)[kept]])[:-1]))
    return Case(
        name=scene.name,
        gsd=scene.gsd,
        bands=bands,
        valid=valid,
        coords=scene.coords[vertices] - (left, top),
        ring_offsets=np.concatenate([[0], np.cumsum(counts)]),
        polygon_offsets=np.concatenate([[0], np.cumsum(np.diff(scene.polygon_offsets)[kept])]),
        scored=whole[owner],
    )


def polygons_of(case: Case, coords: Array, factor: int) -> list[list[Array]]:
    """Polygons as lists of rings in px of level `factor`."""
    rings = np.split(coords / factor, case.ring_offsets[1:-1])
    return [rings[a:b] for a, b in zip(case.polygon_offsets, case.polygon_offsets[1:], strict=False)]


def predict(
    network: DoubleUNet, gray: NDArray[np.float32], cadaster: NDArray[np.float32], device: str = "cpu"
) -> NDArray[np.float32]:
    """Field (2, h, w) by windows of 256 px plus halo; windows without anything drawn stay 0."""
    height, width = gray.shape
    halo = network.halo
    field = np.zeros((2, height, width), np.float32)
    pad = ((halo, halo + CORE - height % CORE), (halo, halo + CORE - width % CORE))
    image, drawn = np.pad(gray, pad), np.pad(cadaster, pad)
    side = CORE + 2 * halo
    with torch.no_grad():
        for y in range(0, height, CORE):
            for x in range(0, width, CORE):
                if not drawn[y + halo : y + halo + CORE, x + halo : x + halo + CORE].any():
                    continue
                inputs = [
                    torch.from_numpy(a[None, None, y : y + side, x : x + side]).to(device)
                    .contiguous(memory_format=torch.channels_last)
                    for a in (image, drawn)
                ]  # fmt: skip
                core = network(*inputs)[0].cpu().numpy()
                h, w = min(CORE, height - y), min(CORE, width - x)
                field[:, y : y + h, x : x + w] = core[:, :h, :w]
    return field


def smooth(field: NDArray[np.float32], weight: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Normalised convolution: Gaussian of the weighted field over Gaussian of the weight, (2, h, w)."""
    import cv2

    size = 2 * round(3 * sigma) + 1
    total = cv2.GaussianBlur(weight, (size, size), sigma, borderType=cv2.BORDER_CONSTANT)
    parts = [cv2.GaussianBlur(f * weight, (size, size), sigma, borderType=cv2.BORDER_CONSTANT) for f in field]
    return np.stack(parts) / np.maximum(total, 1e-6)


def sample(field: NDArray[np.float32], xy: Array) -> Array:
    """Bilinear values (n, 2) of a field (2, h, w) at px `xy (n, 2)`, pixel centres at +0.5, clamped."""
    import cv2

    at = (xy - 0.5).astype(np.float32)
    chunks = [
        cv2.remap(
            f,
            at[None, i : i + 30000, 0],
            at[None, i : i + 30000, 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )[0]
        for f in field
        for i in range(0, len(at), 30000)
    ]
    return np.concatenate(chunks).reshape(2, -1).T.astype(np.float64)


def align(network: DoubleUNet, case: Case, cadaster: Array, settings: ChainSettings, device: str = "cpu") -> Array:
    """Vertices (n, 2) of the cadaster moved through the chain, px of full resolution."""
    coords = cadaster.copy()
    for factor, sigma in settings.steps:
        coords = step(network, case, coords, factor, sigma, settings, device)
    return coords


def step(
    network: DoubleUNet,
    case: Case,
    coords: Array,
    factor: int,
    sigma: float,
    settings: ChainSettings,
    device: str = "cpu",
) -> Array:
    """One pass at one factor."""
    gray = case.bands[factor].mean(axis=0, dtype=np.float32)
    drawn = draw(polygons_of(case, coords, factor), gray.shape)
    field = predict(network, gray, drawn, device)
    if sigma > 0:
        weight = np.where(drawn == 1, np.float32(settings.outline), np.float32(settings.inside) * (drawn > 0))
        field = smooth(field, weight.astype(np.float32), sigma)
    return coords + factor * sample(field, coords / factor)


def misaligned(case: Case, largest: float, seeds: Sequence[int]) -> list[Array]:
    """The case's cadaster moved off by published fields, one a seed."""
    return [misalign(case.coords, largest, np.random.default_rng([seed, round(largest)])) for seed in seeds]
