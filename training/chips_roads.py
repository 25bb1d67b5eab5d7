"""Chips for the network that sees road middles: images at working GSDs, how near a centre line each pixel is, and
where that is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.kernels.lines import strips
from training.areas import split
from training.chips import LabelledScene, drawn_scene, load_scenes, stretch
from training.city import city
from training.city_roads import road_scene
from training.roads_by_hand import drawn_lines
from training.targets_classes import covered, grid_shape

GSDS = (0.45, 0.6, 0.8)
"""Metres: what scenes are averaged to before chips are cut, with zooms of ZOOM around it."""

ZOOM = 1.2
FALL = 2.5
"""Standard deviation, px, of the bump over a centre line."""

LABELLED = {"vegas_roads_us": 0.17, "bakerlake_ca_1": 0.04}
"""Scenes with roads, and the share of chips that are cut from each."""
BY_HAND = {"massachusetts_us_f": 0.08, "vegas_us": 0.06, "shanghai_cn": 0.02, "rio_br_a": 0.1}
"""Centre lines drawn by hand, to about 2 m (training/roads_by_hand.json)."""

VEGAS_OFF = (-5.0, -4.3)
"""px by which the labelled lines of vegas_roads_us come to lie on their roads, as its training part shows: the shift
that fits the map of a network that had learned from them as labelled best, and the side on which they lie by eye."""

STREETS = 0.4
"""Share of the drawn scenes that are training/city.py's cities; the others are training/city_roads.py's."""
POOL, FRESH = 16, 6
"""Drawn scenes that chips are cut from at one time, and the steps after which the oldest makes way for a new one."""
SIDE = 700
"""px of a drawn scene."""


@dataclass(frozen=True, slots=True)
class RoadField:
    """A scene at a GSD, all uint8: image (3, H, W) stretched; near (H, W), 255 on a centre line; known (H, W) 0 or 1;
    and the share of chips that are cut from it."""

    name: str
    image: NDArray[np.uint8]
    near: NDArray[np.uint8]
    known: NDArray[np.uint8]
    share: float


def by_hand(data: Path, name: str) -> tuple[LabelledScene, NDArray[np.bool_]]:
    """A scene with the centre lines drawn over it by hand, and the training area inside their box."""
    (scene,) = load_scenes(data, [name])
    (x0, y0, x1, y1), lines = drawn_lines(name)
    area = np.zeros_like(scene.labelled)
    area[y0:y1, x0:x1] = True
    if scene.labelled.any():  # without labels for anything it is of no evaluation area
        area &= split(scene)[0]
    return replace(scene, roads=lines), area & scene.valid


def in_place(scene: LabelledScene) -> LabelledScene:
    """A scene with its centre lines on the roads: those of vegas_roads_us moved by VEGAS_OFF, others as they are."""
    if scene.name != "vegas_roads_us":
        return scene
    return replace(scene, roads=tuple(line + VEGAS_OFF for line in scene.roads))


def road_field(scene: LabelledScene, area: NDArray[np.bool_], gsd: float, share: float) -> RoadField:
    """The part of a scene that has `area` (h, w), averaged to `gsd` metres; known are roads and what is beside them."""
    scale = scene.gsd / gsd
    shape = grid_shape(scene.valid.shape, scale)
    inside = cv2.resize((area & scene.valid).astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) > 0.99
    centre = np.zeros(shape, np.float32)
    if scene.roads:
        lines = [line * scale for line in scene.roads]
        offsets = np.concatenate([[0], np.cumsum([len(line) for line in lines])]).astype(np.int64)
        centre = strips(np.concatenate(lines), offsets, shape, 1.0)[0]
    elif "road" in scene.class_polygons:
        depth = cv2.distanceTransform(
            covered(scene.class_polygons["road"], shape, scale).astype(np.uint8), cv2.DIST_L2, 5
        )
        centre = ((depth > 2) & (depth >= 0.95 * cv2.dilate(depth, np.ones((7, 7))))).astype(np.float32)
    far = cv2.distanceTransform((centre == 0).astype(np.uint8), cv2.DIST_L2, 5).clip(0, 100)
    near = np.round(255 * np.exp(-0.5 * (far / FALL) ** 2)).astype(np.uint8)
    image = np.zeros((3, *shape), np.uint8)
    weight = cv2.resize(scene.valid.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    for k in range(3):
        band = stretch(scene.image[k : k + 1], scene.valid)[0]
        small = cv2.resize(band, shape[::-1], interpolation=cv2.INTER_AREA)
        image[k] = np.round(255 * np.where(weight > 0, small / np.maximum(weight, 1e-6), 0).clip(0, 1))
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = tuple(slice(max(0, int(k[0]) - 120), int(k[-1]) + 121) for k in (rows, columns))
    return RoadField(scene.name, image[:, *box].copy(), near[box].copy(), inside[box].astype(np.uint8), share)


def real_fields(data: Path) -> list[RoadField]:
    """The real scenes that are learned from, at each of GSDS that they have."""
    fields: list[RoadField] = []
    for name, share in LABELLED.items():
        (scene,) = load_scenes(data, [name])
        fields += _at_gsds(in_place(scene), split(scene)[0], share)
    for name, share in BY_HAND.items():
        fields += _at_gsds(*by_hand(data, name), share)
    return fields


def drawn_field(number: int, side: int = SIDE) -> RoadField:
    """Drawn scene `number`, a city or roads; numbers do not meet the seeds of evaluation scenes."""
    rng = np.random.default_rng([number, 23])
    seed, gsd = 20000 + number, float(rng.choice((0.3, 0.4, 0.5, 0.6)))
    if rng.random() < STREETS:
        scene = drawn_scene(city((side, side), gsd, seed, density=float(rng.uniform(0.1, 0.6))))
    else:
        scene = road_scene(side, gsd, seed)
    return road_field(scene, scene.labelled, max(float(rng.choice(GSDS)), gsd), 1.0)


class Scenes:
    """What chips are cut from at each step: the real scenes, and drawn ones that are new every FRESH steps."""

    def __init__(self, data: Path, side: int = SIDE) -> None:
        self.real = real_fields(data)
        self.side = side
        self.drawn: dict[int, RoadField] = {}

    def at(self, step: int) -> list[RoadField]:
        """The fields of a step; the same whenever it is asked for."""
        wanted = range(step // FRESH, step // FRESH + POOL)
        self.drawn = {k: self.drawn.get(k) or drawn_field(k, self.side) for k in wanted}
        share = (1 - sum(field.share for field in self.real)) / POOL
        return self.real + [replace(field, share=share) for field in self.drawn.values()]


def cut_some(
    fields: list[RoadField], rng: np.random.Generator, count: int, side: int, around: int
) -> list[tuple[NDArray[np.float32], ...]]:
    """Chips (see `cut_chip`) of fields by their share."""
    shares = np.array([field.share for field in fields])
    chosen = rng.choice(len(fields), count, p=shares / shares.sum())
    return [cut_chip(fields[k], rng, side, around) for k in chosen]


def _at_gsds(scene: LabelledScene, area: NDArray[np.bool_], share: float) -> list[RoadField]:
    gsds = [gsd for gsd in GSDS if gsd >= 0.9 * scene.gsd] or [scene.gsd]
    return [road_field(scene, area, gsd, share / len(gsds)) for gsd in gsds]


def evaluation_fields(data: Path, gsd: float = 0.6) -> list[RoadField]:
    """The right part of the Vegas roads, and drawn scenes of other seeds."""
    (scene,) = load_scenes(data, ["vegas_roads_us"])
    fields = [road_field(in_place(scene), split(scene)[1], gsd, 1.0)]
    for seed, kind in enumerate(("streets", "country", "car park")):
        drawn = road_scene(900, 0.4, 9000 + seed, kind)
        fields.append(replace(road_field(drawn, drawn.labelled, gsd, 1.0), name=kind.replace(" ", "_")))
    return fields


def cut_chip(
    field: RoadField, rng: np.random.Generator, side: int, around: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Image (3, side + 2 around, same) in 0..1, near and known (side, side): turned by any angle, mirrored, zoomed by
    up to ZOOM, and changed in brightness, contrast and tint; a fifth of them gray."""
    wide = side + 2 * around
    places = np.flatnonzero((field.near > 128) & (field.known > 0)) if rng.random() < 0.6 else np.zeros(0, np.int64)
    if not len(places):
        places = np.flatnonzero(field.known)
    y, x = np.unravel_index(int(places[rng.integers(len(places))]), field.known.shape)
    centre = np.array([x, y]) + rng.uniform(-0.4, 0.4, 2) * side
    turn, zoom = rng.uniform(0, 2 * np.pi), float(np.exp(rng.uniform(-1, 1) * math.log(ZOOM)))
    mirror = rng.choice((-1.0, 1.0))
    linear = np.array([[np.cos(turn) * mirror, -np.sin(turn)], [np.sin(turn) * mirror, np.cos(turn)]]) * zoom

    def warp(band: NDArray[np.uint8], size: int, how: int) -> NDArray[np.uint8]:
        matrix = np.column_stack([linear, centre - linear @ np.full(2, (size - 1) / 2)])
        return np.asarray(cv2.warpAffine(band, matrix, (size, size), flags=cv2.WARP_INVERSE_MAP | how))

    image = np.stack([warp(band, wide, cv2.INTER_LINEAR) for band in field.image]).astype(np.float32) / 255
    there = (image > 0).any(0)
    if rng.random() < 0.2:
        image[:] = image.mean(0)
    gain = rng.uniform(0.75, 1.3) * rng.uniform(0.9, 1.1, (3, 1, 1))
    image = (image - 0.4) * gain + 0.4 + rng.uniform(-0.1, 0.1) + rng.uniform(-0.03, 0.03, (3, 1, 1))
    if rng.random() < 0.35:
        blur = rng.uniform(0.4, 1.0)
        image = np.stack([cv2.GaussianBlur(band, (0, 0), blur) for band in image.astype(np.float32)])
    if rng.random() < 0.3:
        image += rng.normal(0, rng.uniform(0, 0.05), image.shape)
    near, known = warp(field.near, side, cv2.INTER_LINEAR), warp(field.known, side, cv2.INTER_NEAREST)
    image = np.clip(image, 0, 1) * there
    return image.astype(np.float32), near.astype(np.float32) / 255, known.astype(np.float32)


def batch_of(chips: list[tuple[NDArray[np.float32], ...]]) -> tuple[Tensor, Tensor, Tensor]:
    """Images (b, 3, ., .), near and known (b, 1, side, side)."""
    image, near, known = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*chips, strict=True))
    return image, near[:, None], known[:, None]
