"""Pairs of patches for the successor network: what training/patches.py cuts, with vertices and without drawing
weights, which follow from the rasters here, and with polygons dropped as published (Girard et al. 2019).

A pair shows one image with the polygons moved off by a field and by its opposite: whatever pulls the network
towards a constant cancels within the pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.successor_unet import mark_vertices, polygon_rasters
from training.deform import CANVAS, GaussianField
from training.patches import LARGEST, LEVELS, PreparedScene, _displaced, _photometric, _rings_near, draw

Array = NDArray[np.float64]

SPARSE, KEPT = 0.3, 0.1
"""Share of pairs that keep each polygon with probability KEPT only: they teach the segmentation to see what
the polygons do not tell. The others lose up to half of theirs, a third of the time."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two samples of one image, float32; `side` = output + 2 * halo.

    image, counts  (side, side): gray 0..1; 1 where labels are complete and the image valid
    drawn          (3, side, side): the cadaster's raster (1 on outlines, 0.5 inside) as truly placed, as moved
                   off by the field, by its opposite
    vertices       (3, side, side): 1 in pixels where a vertex of these falls
    target         (2, output, output): the field; the second sample's is its opposite
    """

    image: NDArray[np.float32]
    counts: NDArray[np.float32]
    drawn: NDArray[np.float32]
    vertices: NDArray[np.float32]
    target: NDArray[np.float32]


def cut_pair(
    scene: PreparedScene,
    rng: np.random.Generator,
    field: GaussianField,
    *,
    output: int,
    halo: int,
    coarsest: float,
    factor: float | None = None,
    drop: bool = True,
) -> Pair:
    """A random pair of `output` px (plus halo) around a building of `scene`.

    Half the pairs are at native GSD x 1, 2, 4, 8 in one of the eight exact symmetries, the others at any GSD
    up to `coarsest` metres and any rotation; `factor` (1, 2, 4 or 8) fixes it instead. The dense target is
    exact: drawn + target(drawn) is the truth at every pixel. `drop` turns polygon dropout on.
    """
    side = output + 2 * halo
    seen = look(scene, rng, output, side, coarsest=coarsest, factor=factor)
    displacement = moved_off(field, rng, side, seen.factor)
    true = seen.true
    kept = _dropped(true, rng) if drop else true
    placed = [true, _displaced(kept, displacement), _displaced(kept, lambda xy: -displacement(xy))]
    axis = np.arange(halo, halo + output) + 0.5
    target = np.moveaxis(displacement(np.stack(np.meshgrid(axis, axis), axis=-1)), -1, 0)
    return Pair(
        image=_photometric(seen.gray, rng),
        counts=seen.counts.astype(np.float32),
        drawn=np.stack([draw(polygons, (side, side)) for polygons in placed]),
        vertices=np.stack([_marked(polygons, side) for polygons in placed]),
        target=target.astype(np.float32),
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """Part of a scene as a patch shows it: gray and counts (side, side) uint8, the true polygons in its px, and the px
    of full resolution in one of its own."""

    gray: NDArray[np.uint8]
    counts: NDArray[np.uint8]
    true: list[list[Array]]
    factor: float


def look(
    scene: PreparedScene,
    rng: np.random.Generator,
    output: int,
    side: int,
    *,
    coarsest: float,
    finest: int = 1,
    factor: float | None = None,
) -> Seen:
    """A random view of `side` px around a building, in one warp: at native GSD x 1, 2, 4, 8 and a symmetry of the
    pixels, or at any GSD from native x `finest` to `coarsest` metres and any rotation; `factor` fixes the zoom."""
    exact = factor is not None or bool(rng.random() < 0.5)
    highest = float(np.clip(coarsest / scene.gsd, finest, 8))
    turn = 0.0
    if factor is None and exact:
        factor = float(rng.choice([f for f in LEVELS if finest <= f <= highest * 1.01]))
        turn = rng.integers(4) * np.pi / 2
    elif factor is None:
        factor = float(np.exp(rng.uniform(np.log(finest), np.log(highest * 1.001))))
        turn = rng.uniform(0, 2 * np.pi)
    centre = scene.seeds[rng.integers(len(scene.seeds))] + rng.uniform(-0.4, 0.4, 2) * output * factor
    if exact:
        centre = np.round(centre / factor) * factor
    mirror = rng.choice((-1.0, 1.0))
    cos, sin = np.round((np.cos(turn), np.sin(turn)), 12)
    rotation = np.array([[cos * mirror, -sin], [sin * mirror, cos]])  # patch -> scene directions

    level = 2 ** int(np.clip(np.floor(np.log2(factor) + 1e-6), 0, 3))
    linear = rotation * (factor / level)
    matrix = np.column_stack([linear, centre / level - linear @ np.full(2, side / 2 - 0.5) - 0.5])
    nearest = cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST
    smooth = nearest if exact else cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    gray = cv2.warpAffine(scene.gray[level], matrix, (side, side), flags=smooth)
    counts = cv2.warpAffine(scene.counts[level], matrix, (side, side), flags=nearest)
    near = _rings_near(scene, centre, side * factor * 0.75)
    true = [[(ring - centre) @ rotation / factor + side / 2 for ring in polygon] for polygon in near]
    return Seen(np.asarray(gray), np.asarray(counts), true, factor)


def moved_off(
    field: GaussianField, rng: np.random.Generator, side: int, factor: float
) -> Callable[[Array], Array]:
    """A displacement of places (n, 2), px of a patch: a random part of a published field. Those are small almost
    everywhere, so half the patches get any displacement up to the largest at their centre."""
    origin = rng.uniform(0, CANVAS - side * factor, 2)
    signs = rng.choice((-1.0, 1.0), 2) * LARGEST * (1.0 if rng.random() < 0.75 else rng.random())
    shift = np.zeros(2)
    if rng.random() < 0.5:
        shift = rng.uniform(-LARGEST, LARGEST, 2) - signs * field(origin + side * factor / 2)
    return lambda xy: signs * field(xy * factor + origin) + shift


def _dropped(polygons: list[list[Array]], rng: np.random.Generator) -> list[list[Array]]:
    """Polygon dropout: few are left in SPARSE of all cases."""
    keep = KEPT if rng.random() < SPARSE else rng.uniform(0.5, 1) if rng.random() < 0.33 else 1.0
    return [polygon for polygon in polygons if rng.random() < keep]


def _marked(polygons: list[list[Array]], side: int) -> NDArray[np.float32]:
    flat = [ring for polygon in polygons for ring in polygon]
    xy = torch.from_numpy(np.concatenate(flat)) if flat else torch.zeros(0, 2)
    marks: NDArray[np.float32] = mark_vertices(xy, side, side)[0].numpy()
    return marks


def to_batch(pairs: Sequence[Pair], device: str = "cpu") -> dict[str, Tensor]:
    """b pairs as a batch of 2b samples, first ones of all pairs, then their opposites.

    image, counts, truth  (b, 1, side, side): the true cadaster's raster, to blend into the image
    segments              (b, 3, side, side): the true polygons' three rasters
    rasters               (2b, 3, side, side): those of the displaced polygons
    target                (2b, 2, output, output)
    """
    stacked = {f.name: torch.from_numpy(np.stack([getattr(p, f.name) for p in pairs])).to(device) for f in fields(Pair)}
    drawn, vertices, target = stacked["drawn"], stacked["vertices"], stacked["target"]
    side = drawn.shape[-1]
    rasters = polygon_rasters(drawn.view(-1, 1, side, side), vertices.view(-1, 1, side, side))
    rasters = rasters.view(-1, 3, 3, side, side)
    return {
        "image": stacked["image"][:, None],
        "counts": stacked["counts"][:, None],
        "truth": drawn[:, :1],
        "segments": rasters[:, 0],
        "rasters": torch.cat([rasters[:, 1], rasters[:, 2]]),
        "target": torch.cat([target, -target]),
    }
