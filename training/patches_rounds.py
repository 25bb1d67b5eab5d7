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

from training.deform import CANVAS, GaussianField, undo
from training.patches import LARGEST, LEVELS, PreparedScene, _fixed, _photometric, _rings_near, draw
from training.patches_successor import Pair, _dropped, _marked, to_batch

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
    exact = bool(rng.random() < 0.5)
    factor, turn = _zoom_and_turn(rng, finest, float(np.clip(coarsest / scene.gsd, finest, 8)), exact)
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

    origin = rng.uniform(0, CANVAS - side * factor, 2)
    signs = rng.choice((-1.0, 1.0), 2) * LARGEST * (1.0 if rng.random() < 0.75 else rng.random())
    shift = np.zeros(2)
    if rng.random() < 0.5:  # any displacement at the centre, as in cut_pair
        shift = rng.uniform(-LARGEST, LARGEST, 2) - signs * field(origin + side * factor / 2)

    def displacement(xy: Array) -> Array:
        return signs * field(xy * factor + origin) + shift

    kept = _dropped(true, rng)
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
        image=_photometric(gray, rng),
        counts=counts.astype(np.float32),
        drawn=np.stack([draw(polygons, (side, side)) for polygons in placed]),
        vertices=np.stack([_marked(polygons, side) for polygons in placed]),
        target=targets[0],
    )
    return pair, targets[1]


def to_own_batch(pairs: Sequence[tuple[Pair, NDArray[np.float32]]], device: str = "cpu") -> dict[str, Tensor]:
    """What `to_batch` makes of the pairs, with both targets of each."""
    batch = to_batch([pair for pair, _ in pairs], device)
    targets = [pair.target for pair, _ in pairs] + [second for _, second in pairs]
    return {**batch, "target": torch.from_numpy(np.stack(targets)).to(device)}


def _zoom_and_turn(rng: np.random.Generator, finest: float, coarsest: float, exact: bool) -> tuple[float, float]:
    if exact:
        return float(rng.choice([f for f in LEVELS if finest <= f <= coarsest * 1.01])), rng.integers(4) * np.pi / 2
    return float(np.exp(rng.uniform(np.log(finest), np.log(coarsest * 1.001)))), rng.uniform(0, 2 * np.pi)


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
        rings, colour = [_fixed(ring) for ring in polygon], (float(dx), float(dy))
        cv2.polylines(canvas, rings, True, colour, thickness=3, shift=4)
        cv2.fillPoly(canvas, rings, colour, shift=4)
    return np.moveaxis(canvas, -1, 0)
