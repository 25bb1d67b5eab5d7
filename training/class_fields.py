"""Fields and chips of the classification: scenes at working GSDs with their codes, and batches cut from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.areas import split
from training.chips import LabelledScene, drawn_scene, load_scenes, stretch
from training.city import City, city
from training.roads_by_hand import with_roads
from training.targets_classes import (
    BACKGROUND,
    NOT_BUILDING,
    ROAD,
    UNKNOWN,
    draw_lines,
    grid_shape,
    no_road_by_colour,
    scene_codes,
)

TRAINING = {
    "banepa_np": ((0.6, 0.8), 6.0),
    "massachusetts_us_f": ((1.0,), 3.0),
    "massachusetts_us": ((1.0,), 0.8),
    "zanzibar_tz_a": ((0.6, 0.9), 2.0),
    "catanduanes_ph_a": ((0.6, 0.8), 1.0),
    "rio_br_a": ((0.5, 0.8), 1.5),
    "vegas_us": ((0.6, 0.9), 0.7),
    "vegas_roads_us": ((0.6, 0.9), 1.5),
    "bakerlake_ca_1": ((0.5, 0.8), 1.5),
}
"""Scene (or the beginning of its name) -> working GSDs, and how often it is drawn."""

ASPHALT = "massachusetts_us"
"""Scenes whose roads are all gray, so that brown ground is none."""

EVALUATION = {
    "banepa_np": 0.6, "massachusetts_us_b": 1.0, "zanzibar_tz_b": 0.8, "catanduanes_ph_b": 0.8, "rio_br_b": 0.5,
    "vegas_us": 0.6, "vegas_roads_us": 0.6, "bakerlake_ca_2": 0.5,
}  # fmt: skip
"""Evaluation areas and the GSD that they are scored at."""

@dataclass(frozen=True, slots=True)
class Field:
    """A scene at a working GSD: image (3, H, W) uint8, stretched, nodata 0; codes (H, W) uint8."""

    name: str
    gsd: float
    image: NDArray[np.uint8]
    codes: NDArray[np.uint8]


def resampled(scene: LabelledScene, area: NDArray[np.bool_], gsd: float, around: int = 80) -> Field:
    """The part of a scene that has `area`, and `around` px more, averaged to `gsd`; percentiles are the scene's."""
    import cv2

    codes = with_roads(scene, scene_codes(scene, area, gsd), gsd)
    shape = grid_shape(scene.valid.shape, scene.gsd / gsd)
    rows, columns = np.flatnonzero((codes != UNKNOWN).any(1)), np.flatnonzero((codes != UNKNOWN).any(0))
    box = tuple(
        slice(max(0, int(k[0]) - around), min(side, int(k[-1]) + 1 + around))
        for k, side in zip((rows, columns), shape, strict=True)
    )
    weight = cv2.resize(scene.valid.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)[box]
    image = np.zeros((3, *weight.shape), np.uint8)
    for k in range(3):  # band by band: whole cities in float32 would not fit
        band = stretch(scene.image[k : k + 1], scene.valid)[0]
        small = cv2.resize(band, shape[::-1], interpolation=cv2.INTER_AREA)[box]
        image[k] = np.round(255 * np.where(weight > 0, small / np.maximum(weight, 1e-6), 0).clip(0, 1))
    return Field(scene.name, gsd, image, codes[box])


def city_field(made: City) -> Field:
    """A procedural city with roads and buildings, both complete."""
    scene = drawn_scene(made)
    codes = scene_codes(scene, scene.labelled, made.gsd)
    road = draw_lines(made.roads, made.road_widths, codes.shape)
    codes[codes >= ROAD] = np.where(road, ROAD, BACKGROUND)[codes >= ROAD]
    image = np.round(255 * stretch(made.image, scene.valid)).astype(np.uint8)
    return Field("city", made.gsd, image, codes)


def training_fields(data: Path, cities: int = 10) -> tuple[list[Field], NDArray[np.float64]]:
    """Everything trained on and the probability that a chip comes from each."""
    fields, weights = [], []
    for scene in _scenes(data, TRAINING):
        area = split(scene)[0]
        if not (area & scene.valid).any():
            continue
        prefix = next(p for p in TRAINING if scene.name.startswith(p))
        gsds, often = TRAINING[prefix]
        for gsd in gsds:
            field = resampled(scene, area, gsd)
            without = no_road_by_colour(field.image, brown=scene.name.startswith(ASPHALT))
            codes = np.where(without & (field.codes == NOT_BUILDING), np.uint8(BACKGROUND), field.codes)
            fields.append(replace(field, codes=codes))
            weights.append(often / len(gsds))
    for seed in range(cities):
        gsd = (0.6, 0.8, 1.0)[seed % 3]
        fields.append(city_field(city((640, 640), gsd, 1000 + seed, density=0.2 + 0.07 * seed)))
        weights.append(3.0 / cities)
    return fields, np.array(weights) / np.sum(weights)


def kept_fields(path: Path, data: Path) -> tuple[list[Field], NDArray[np.float64]]:
    """`training_fields`, kept in a .npz at `path`: making them reads every scene, which a resumed training need not."""
    if not path.exists():
        fields, weights = training_fields(data)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"{part}{i}": getattr(f, part) for i, f in enumerate(fields) for part in ("image", "codes")}
        names, gsds = [f.name for f in fields], [f.gsd for f in fields]
        np.savez(path, weights=weights, names=np.array(names), gsds=np.array(gsds), **arrays)
    with np.load(path) as kept:
        fields = [
            Field(str(name), float(gsd), kept[f"image{i}"], kept[f"codes{i}"])
            for i, (name, gsd) in enumerate(zip(kept["names"], kept["gsds"], strict=True))
        ]
        return fields, kept["weights"]


def evaluation_fields(data: Path) -> list[Field]:
    """The evaluation areas, each at its GSD."""
    return [resampled(scene, split(scene)[1], EVALUATION[scene.name]) for scene in _scenes(data, EVALUATION)]


def _scenes(data: Path, wanted: dict[str, Any]) -> Iterator[LabelledScene]:
    """Scenes whose names begin as wanted, one after the other, so that only one is in memory."""
    names = sorted(path.parent.name for path in data.glob("*/*.tif"))
    for name in names:
        if any(name.startswith(prefix) for prefix in wanted):
            yield load_scenes(data, [name])[0]


def draw_batch(
    fields: Sequence[Field], weights: NDArray[np.float64], rng: np.random.Generator, *, chips: int, side: int,
    around: int, misregister: float = 0.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Images (chips, 3, side + 2 around, same) float32 in 0..1 and codes (chips, side, side) int64.

    Chips lie where something is labelled, are turned and mirrored, scaled by 0.85 to 1.2, and change in
    brightness, contrast and tint. `misregister`: codes are shifted by up to as many metres, chip by chip.
    """
    images, targets = [], []
    while len(images) < chips:
        field = fields[rng.choice(len(fields), p=weights)]
        cut = round((side + 2 * around) * rng.uniform(0.85, 1.2))
        half = cut // 2
        y, x = (int(rng.integers(0, n)) for n in field.codes.shape)
        window = _window(field.codes, y - half, x - half, cut, UNKNOWN)
        inner = window[around:-around, around:-around]
        if (inner != UNKNOWN).mean() < 0.3 or ((inner < 2).mean() < 0.02 and rng.random() < 0.6):
            continue
        if misregister:
            dy, dx = np.round(rng.uniform(-misregister, misregister, 2) / field.gsd).astype(int)
            window = _window(field.codes, y - half + dy, x - half + dx, cut, UNKNOWN)
        image = np.stack([_window(band, y - half, x - half, cut, 0) for band in field.image])
        turn, mirror = int(rng.integers(4)), bool(rng.integers(2))
        image, window = np.rot90(image, turn, (1, 2)), np.rot90(window, turn)
        if mirror:
            image, window = image[:, :, ::-1], window[:, ::-1]
        size = (side + 2 * around,) * 2
        picture = torch.from_numpy(image.astype(np.float32) / 255)[None]
        picture = F.interpolate(picture, size, mode="bilinear", antialias=cut > size[0])[0]
        codes = F.interpolate(torch.from_numpy(window.astype(np.float32))[None, None], size, mode="nearest-exact")
        gain = torch.from_numpy(rng.uniform(0.8, 1.25) * rng.uniform(0.92, 1.08, (3, 1, 1))).float()
        lift = torch.from_numpy(rng.uniform(-0.08, 0.08) + rng.uniform(-0.03, 0.03, (3, 1, 1))).float()
        there = (picture > 0).any(0)
        images.append(((picture - 0.4) * gain + 0.4 + lift).clamp(0, 1) * there)
        targets.append(codes[0, 0, around:-around, around:-around].long())
    return torch.stack(images), torch.stack(targets)


def _window(array: NDArray[Any], y: int, x: int, side: int, fill: int) -> NDArray[Any]:
    """The (side, side) window at (y, x), which may lie outside."""
    out = np.full((side, side), fill, array.dtype)
    y0, x0, y1, x1 = max(y, 0), max(x, 0), min(y + side, array.shape[0]), min(x + side, array.shape[1])
    if y1 > y0 and x1 > x0:
        out[y0 - y : y1 - y, x0 - x : x1 - x] = array[y0:y1, x0:x1]
    return out


def cut_pool(
    pool: Sequence[tuple[Tensor, Tensor, Tensor]], rng: np.random.Generator, *, chips: int, side: int, around: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, images (chips, 3, side + 2 around, same) and codes (chips, side, side), turned and mirrored, from chips
    whose scores and images are `around` px wider on each side than their codes."""
    drawn: list[list[Tensor]] = [[], [], []]
    for i in rng.choice(len(pool), chips):
        free = pool[i][2].shape[-1] - side
        y, x = int(rng.integers(free + 1)), int(rng.integers(free + 1))
        turn, mirror = int(rng.integers(4)), bool(rng.integers(2))
        for kept, array, wide in zip(drawn, pool[i], (2 * around, 2 * around, 0), strict=True):
            part = torch.rot90(array[..., y : y + side + wide, x : x + side + wide], turn, (-2, -1))
            kept.append(part.flip(-1) if mirror else part)
    return torch.stack(drawn[0]), torch.stack(drawn[1]), torch.stack(drawn[2])
