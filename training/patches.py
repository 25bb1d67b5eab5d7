"""Patches for the alignment: image, displaced cadaster, exact dense field, weights, true raster.

A patch is cut with rotation, mirroring and zoom in one warp from prepared pyramid levels; the field is drawn
afterwards, in the patch's own frame, and the true polygons are moved off by its fixed point, so the dense
target `true = drawn + d(drawn)` is exact at every pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.chips import LabelledScene, halve, stretch
from training.deform import CANVAS, GaussianField, undo
from training.objectives import BACKGROUND, EDGE, FILL, VERTEX

LEVELS = (1, 2, 4, 8)
LARGEST = 4.0
"""Largest displacement of training fields, px of the patch's own level."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PreparedScene:
    """Gray levels (uint8, nodata 0), where they count, the polygons and their bounds (x0, y0, x1, y1)."""

    name: str
    gsd: float
    gray: dict[int, NDArray[np.uint8]]
    counts: dict[int, NDArray[np.uint8]]
    coords: Array
    ring_offsets: NDArray[np.int64]
    polygon_offsets: NDArray[np.int64]
    bounds: Array
    seeds: Array
    """Vertices inside the area that counts: patches are cut around them."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One sample; `side` = output + 2 * halo. All float32.

    image, cadaster, truth  (side, side): gray 0..1; drawn polygons as displaced and as they truly are
    target, weight, counts  (2, out, out), (out, out), (side, side)
    """

    image: NDArray[np.float32]
    cadaster: NDArray[np.float32]
    truth: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    counts: NDArray[np.float32]


def gray_levels(scene: LabelledScene) -> dict[int, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Scene-stretched gray (h, w) in 0..1 and valid mask at levels 1, 2, 4, 8."""
    gray, valid = stretch(scene.image, scene.valid).mean(0, keepdims=True), scene.valid
    levels = {}
    for level in LEVELS:
        levels[level] = (gray[0], valid)
        gray, valid = halve(gray, valid)
    return levels


def prepare(
    scene: LabelledScene, area: NDArray[np.bool_], gray: dict[int, NDArray[np.uint8]] | None = None
) -> PreparedScene:
    """Arrays that patches of `area` (h, w) are cut from, computed once a scene; `gray` where already made."""
    inside = (area & scene.valid).astype(np.uint8)
    if gray is None:
        levels = gray_levels(scene)
        gray = {level: np.round(image * 255).astype(np.uint8) for level, (image, _) in levels.items()}
    counts = {level: inside[::level, ::level] for level in LEVELS}
    starts = scene.ring_offsets[scene.polygon_offsets[:-1]]
    bounds = np.concatenate(
        [np.minimum.reduceat(scene.coords, starts), np.maximum.reduceat(scene.coords, starts)], axis=1
    )
    cell = np.floor(scene.coords).astype(np.int64)
    known = ((cell >= 0) & (cell < np.array(inside.shape)[::-1])).all(1)
    known[known] = inside[cell[known, 1], cell[known, 0]] > 0
    return PreparedScene(
        scene.name, scene.gsd, gray, counts, scene.coords, scene.ring_offsets, scene.polygon_offsets,
        bounds, scene.coords[known],
    )  # fmt: skip


def draw(rings: list[list[Array]], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Cadaster raster of polygons (each a list of rings, px): 1 on outlines, 0.5 inside, 0 elsewhere."""
    fixed = [[fixed_point(ring) for ring in polygon] for polygon in rings]
    fill = np.zeros(shape, np.uint8)
    for polygon in fixed:
        cv2.fillPoly(fill, polygon, 1, shift=4)  # a polygon at a time: even-odd within it, union over them
    edge = np.zeros(shape, np.uint8)
    cv2.polylines(edge, [ring for polygon in fixed for ring in polygon], True, 1, shift=4)
    raster: NDArray[np.float32] = np.maximum(fill * np.float32(0.5), edge.astype(np.float32))
    return raster


def class_weights(rings: list[list[Array]], raster: NDArray[np.float32]) -> NDArray[np.float32]:
    """Loss weights by pixel class of the cadaster as drawn: 3 px around outlines and vertices."""
    weight = np.where(raster > 0, np.float32(FILL), np.float32(BACKGROUND))
    flat = [ring for polygon in rings for ring in polygon]
    cv2.polylines(weight, [fixed_point(ring) for ring in flat], True, EDGE, thickness=3, shift=4)
    if flat:
        cells = np.floor(np.concatenate(flat)).astype(np.int64)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                x, y = cells[:, 0] + dx, cells[:, 1] + dy
                inside = (x >= 0) & (y >= 0) & (x < weight.shape[1]) & (y < weight.shape[0])
                weight[y[inside], x[inside]] = VERTEX
    return weight


def fixed_point(ring: Array) -> NDArray[np.int32]:
    """Corner-origin px as OpenCV's fixed point with pixel centres at integers."""
    return np.round((ring - 0.5) * 16).astype(np.int32).reshape(-1, 1, 2)


def cut(
    scene: PreparedScene,
    rng: np.random.Generator,
    field: GaussianField,
    *,
    output: int,
    halo: int,
    coarsest: float,
    factor: float | None = None,
) -> tuple[Patch, Patch]:
    """Two random patches that differ in the sign of their field only, hence in cadaster, target and weight.

    The pair's targets have mean 0, so what pulls the network towards any constant cancels within a batch,
    however small, and what is left of the gradient comes from what the patches show.

    A random patch of `output` px (plus halo) around a building of `scene`.

    Half the patches are at native GSD x 1, 2, 4, 8 in one of the eight exact symmetries, the others at any
    GSD up to `coarsest` metres and any rotation; `factor` (1, 2, 4 or 8) fixes it instead. A third lose a
    share of their polygons (polygon dropout).
    """
    side = output + 2 * halo
    seen = look(scene, rng, output, side, coarsest=coarsest, factor=factor)
    displacement = moved_off(field, rng, side, seen.factor)

    keep = rng.uniform(0.2, 1) if rng.random() < 0.33 else 1.0
    kept = [polygon for polygon in seen.true if rng.random() < keep] or seen.true
    inner = slice(halo, halo + output)
    axis = np.arange(halo, halo + output) + 0.5
    target = np.moveaxis(displacement(np.stack(np.meshgrid(axis, axis), axis=-1)), -1, 0).astype(np.float32)
    image, truth = photometric(seen.gray, rng), draw(seen.true, (side, side))

    def patch(sign: float) -> Patch:
        displaced = displace(kept, lambda xy: sign * displacement(xy))
        cadaster = draw(displaced, (side, side))
        weight = class_weights(displaced, cadaster)[inner, inner] * seen.counts[inner, inner]
        return Patch(image, cadaster, truth, np.float32(sign) * target, weight, seen.counts.astype(np.float32))

    return patch(1.0), patch(-1.0)


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
    mirror = rng.choice((-1.0, 1.0))
    centre = scene.seeds[rng.integers(len(scene.seeds))] + rng.uniform(-0.4, 0.4, 2) * output * factor
    if exact:
        centre = np.round(centre / factor) * factor
    cos, sin = np.round((np.cos(turn), np.sin(turn)), 12)
    rotation = np.array([[cos * mirror, -sin], [sin * mirror, cos]])  # patch -> scene directions

    level = 2 ** int(np.clip(np.floor(np.log2(factor) + 1e-6), 0, 3))
    linear = rotation * (factor / level)
    matrix = np.column_stack([linear, centre / level - linear @ np.full(2, side / 2 - 0.5) - 0.5])
    nearest = cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST
    smooth = nearest if exact else cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    gray = cv2.warpAffine(scene.gray[level], matrix, (side, side), flags=smooth)
    counts = cv2.warpAffine(scene.counts[level], matrix, (side, side), flags=nearest)
    near = rings_near(scene, centre, side * factor * 0.75)
    true = [[(ring - centre) @ rotation / factor + side / 2 for ring in polygon] for polygon in near]
    return Seen(np.asarray(gray), np.asarray(counts), true, factor)


def moved_off(
    field: GaussianField, rng: np.random.Generator, side: int, factor: float
) -> Callable[[Array], Array]:
    """A displacement of places (n, 2), px of a patch: a random part of a published field. Those are small almost
    everywhere, so half the patches get any displacement up to the largest at their centre."""
    origin = rng.uniform(0, CANVAS - side * factor, 2)
    amplitude = LARGEST * (1.0 if rng.random() < 0.75 else rng.random())
    signs = rng.choice((-1.0, 1.0), 2) * amplitude
    shift = np.zeros(2)
    if rng.random() < 0.5:
        shift = rng.uniform(-LARGEST, LARGEST, 2) - signs * field(origin + side * factor / 2)
    return lambda xy: signs * field(xy * factor + origin) + shift


def photometric(gray: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Gray in 0..1 with brightness +-.1, contrast .8-1.25 and, for a third, noise; nodata stays 0."""
    image = gray.astype(np.float32) / 255
    image = (image - 0.4) * np.exp(rng.uniform(-0.22, 0.22)) + 0.4 + rng.uniform(-0.1, 0.1)
    if rng.random() < 0.33:
        image += rng.standard_normal(image.shape, np.float32) * rng.uniform(0, 0.06)
    image = np.clip(image, 0, 1).astype(np.float32)
    image[gray == 0] = 0
    return image


def rings_near(scene: PreparedScene, centre: Array, radius: float) -> list[list[Array]]:
    b = scene.bounds
    near = (b[:, 0] < centre[0] + radius) & (b[:, 2] > centre[0] - radius)
    near &= (b[:, 1] < centre[1] + radius) & (b[:, 3] > centre[1] - radius)
    return [
        [
            scene.coords[scene.ring_offsets[r] : scene.ring_offsets[r + 1]]
            for r in range(*scene.polygon_offsets[i : i + 2])
        ]
        for i in np.flatnonzero(near)
    ]


def displace(polygons: list[list[Array]], displacement: object) -> list[list[Array]]:
    """Polygons moved off so that drawn + displacement(drawn) is where they were; one fixed point for all."""
    flat = [ring for polygon in polygons for ring in polygon]
    if not flat:
        return []
    moved = undo(np.concatenate(flat), displacement, iterations=6)  # type: ignore[arg-type]
    pieces = iter(np.split(moved, np.cumsum([len(ring) for ring in flat])[:-1]))
    return [[next(pieces) for _ in polygon] for polygon in polygons]
