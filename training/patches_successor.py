"""Pairs of patches for the successor network: what training/patches.py cuts, with vertices and without drawing
weights, which follow from the rasters here, and with polygons dropped as published (Girard et al. 2019).

A pair shows one image with the polygons moved off by a field and by its opposite: whatever pulls the network
towards a constant cancels within the pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.successor_unet import mark_vertices, polygon_rasters
from training.deform import GaussianField
from training.patches import PreparedScene, displace, draw, look, moved_off, photometric

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
    kept = drop_some(true, rng) if drop else true
    placed = [true, displace(kept, displacement), displace(kept, lambda xy: -displacement(xy))]
    axis = np.arange(halo, halo + output) + 0.5
    target = np.moveaxis(displacement(np.stack(np.meshgrid(axis, axis), axis=-1)), -1, 0)
    return Pair(
        image=photometric(seen.gray, rng),
        counts=seen.counts.astype(np.float32),
        drawn=np.stack([draw(polygons, (side, side)) for polygons in placed]),
        vertices=np.stack([marks_of(polygons, side) for polygons in placed]),
        target=target.astype(np.float32),
    )


def drop_some(polygons: list[list[Array]], rng: np.random.Generator) -> list[list[Array]]:
    """Polygon dropout: few are left in SPARSE of all cases."""
    keep = KEPT if rng.random() < SPARSE else rng.uniform(0.5, 1) if rng.random() < 0.33 else 1.0
    return [polygon for polygon in polygons if rng.random() < keep]


def marks_of(polygons: list[list[Array]], side: int) -> NDArray[np.float32]:
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
