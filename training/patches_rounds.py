"""Pairs of patches in which every building is off by a shift of its own, on top of a published field.

A network that only ever sees smooth fields learns, from labels that are each off by themselves, to move all
buildings of its view alike: their common shift is all that its target tells. To bring a label back it must have
been asked to move one building and leave the next, so each gets a shift of its own, and the target says so on the
pixels where it is drawn (the ground has no weight in the loss).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.deform import GaussianField, undo
from training.patches import PreparedScene, draw, fixed_point, look, moved_off, photometric
from training.patches_successor import Pair, drop_some, marks_of, to_batch

Array = NDArray[np.float64]

OWN_PX = 3.0
"""Largest deviation of the buildings' own shifts, px of the patch's level; each pair draws one from 0 to this."""

ALIKE = 0.25
"""Share of pairs whose buildings follow the field alone."""


def cut_own(
    scene: PreparedScene,
    rng: np.random.Generator,
    field: GaussianField,
    *,
    output: int,
    halo: int,
    coarsest: float,
    finest: int = 1,
) -> tuple[Pair, NDArray[np.float32]]:
    """A random pair of `output` px (plus halo) around a building of `scene`, as `cut_pair` cuts it but no finer than
    native GSD x `finest`, and the second sample's target (2, output, output), which differs from the opposite of the
    first's: buildings lie elsewhere.

    drawn + target(drawn) is the truth on every building; where two buildings are drawn over each other, the later.
    """
    side = output + 2 * halo
    seen = look(scene, rng, output, side, coarsest=coarsest, finest=finest)
    displacement = moved_off(field, rng, side, seen.factor)
    true = seen.true
    kept = drop_some(true, rng)
    deviation = OWN_PX * rng.random() * (rng.random() >= ALIKE)
    own = deviation * rng.standard_normal((len(kept), 2))
    axis = np.arange(halo, halo + output) + 0.5
    common = np.moveaxis(displacement(np.stack(np.meshgrid(axis, axis), axis=-1)), -1, 0)
    placed = [true, *(_moved_off(kept, own, displacement, sign) for sign in (1.0, -1.0))]
    core = slice(halo, halo + output)
    targets = [
        (sign * (common + _painted(polygons, own, side)[:, core, core])).astype(np.float32)
        for sign, polygons in zip((1.0, -1.0), placed[1:], strict=True)
    ]
    pair = Pair(
        image=photometric(seen.gray, rng),
        counts=seen.counts.astype(np.float32),
        drawn=np.stack([draw(polygons, (side, side)) for polygons in placed]),
        vertices=np.stack([marks_of(polygons, side) for polygons in placed]),
        target=targets[0],
    )
    return pair, targets[1]


def to_own_batch(pairs: Sequence[tuple[Pair, NDArray[np.float32]]], device: str = "cpu") -> dict[str, Tensor]:
    """What `to_batch` makes of the pairs, with both targets of each."""
    batch = to_batch([pair for pair, _ in pairs], device)
    targets = [pair.target for pair, _ in pairs] + [second for _, second in pairs]
    return {**batch, "target": torch.from_numpy(np.stack(targets)).to(device)}


def _moved_off(polygons: list[list[Array]], own: Array, displacement: object, sign: float) -> list[list[Array]]:
    """Polygons with drawn + sign (displacement(drawn) + own) where they were."""
    flat = [ring - sign * shift for polygon, shift in zip(polygons, own, strict=True) for ring in polygon]
    if not flat:
        return []
    moved = undo(np.concatenate(flat), lambda xy: sign * displacement(xy), iterations=6)  # type: ignore[operator]
    pieces = iter(np.split(moved, np.cumsum([len(ring) for ring in flat])[:-1]))
    return [[next(pieces) for _ in polygon] for polygon in polygons]


def _painted(polygons: list[list[Array]], own: Array, side: int) -> NDArray[np.float32]:
    """Own shifts (2, side, side) on the pixels of each polygon's fill, edge and vertices; 0 elsewhere."""
    canvas = np.zeros((side, side, 2), np.float32)
    for polygon, (dx, dy) in zip(polygons, own, strict=True):
        rings, colour = [fixed_point(ring) for ring in polygon], (float(dx), float(dy))
        cv2.polylines(canvas, rings, True, colour, thickness=3, shift=4)
        cv2.fillPoly(canvas, rings, colour, shift=4)
    return np.moveaxis(canvas, -1, 0)
