"""Scenes ready for sampling: crops of any scale, turn and colour for the instance recipe.

A scene becomes one plate a GSD, image and targets made at that GSD; a crop is cut from the plate nearest to
the GSD that was drawn for it. So images are averaged down, never aliased or made up, and the touching band is
as wide in a coarse crop as in a fine one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.chips import LabelledScene, stretch
from training.targets import label_image, mask_and_touching

MERGED = ("rio_br_a", "rio_br_b", *(f"massachusetts_us_{letter}" for letter in "abcdefgh"))
"""Scenes labelled without party walls: no touching borders to learn from."""

BORDER = 8
"""Pixels of a crop's edge without loss: padding is all that they see on one side."""

IMAGE, TARGET, WEIGHT = slice(0, 3), slice(3, 5), slice(5, 7)

Resampled = tuple[NDArray[np.float32], NDArray[np.int32], float, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Plate:
    """A scene at one GSD, (7, h, w) uint8: stretched RGB 0-255, then 0/1 mask, touching, a weight for each."""

    name: str
    gsd: float
    planes: Tensor
    centres: NDArray[np.int32]  # (n, 2) y, x of pixels that may be a crop's centre


def resample(scene: LabelledScene, gsd: float) -> Resampled:
    """Stretched image (3, h, w) float32 and instance labels (h, w) int32 at about `gsd`, by area averaging.

    Also returns the scale (new pixels per old one) and the shape. Never enlarges.
    """
    import cv2

    scale = min(1.0, scene.gsd / gsd)
    shape = (round(scene.valid.shape[0] * scale), round(scene.valid.shape[1] * scale))
    image = stretch(scene.image, scene.valid)
    if scale < 1:
        image = cv2.resize(image.transpose(1, 2, 0), shape[::-1], interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    labels = label_image(scene.coords, scene.ring_offsets, scene.polygon_offsets, shape, scale)
    return np.ascontiguousarray(image, np.float32), labels, scale, shape


def fit_mask(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A bool mask at another resolution; a pixel is set only where all it covers was."""
    import cv2

    return np.asarray(cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) > 0.999)


def plate(
    scene: LabelledScene, area: NDArray[np.bool_], gsd: float, device: str = "cpu", margin: int = 160
) -> Plate:
    """The part of a scene inside `area` (h, w) bool at about `gsd`, cut to its bounding box plus `margin` px."""
    image, labels, scale, shape = resample(scene, gsd)
    area = fit_mask(area & scene.valid, shape)
    touching_known = area if scene.name not in MERGED else np.zeros_like(area)
    ys, xs = np.nonzero(area)
    y0, y1 = max(int(ys.min()) - margin, 0), min(int(ys.max()) + margin, shape[0])
    x0, x1 = max(int(xs.min()) - margin, 0), min(int(xs.max()) + margin, shape[1])
    colours = np.round(image[:, y0:y1, x0:x1] * 255).astype(np.uint8)
    targets = mask_and_touching(labels[y0:y1, x0:x1])
    weights = np.stack([area, touching_known])[:, y0:y1, x0:x1].astype(np.uint8)
    planes = torch.from_numpy(np.concatenate([colours, targets, weights])).to(device)
    return Plate(scene.name, scene.gsd / scale, planes, np.stack([ys - y0, xs - x0], axis=1).astype(np.int32))


def plates_of(
    scene: LabelledScene, area: NDArray[np.bool_], gsds: Sequence[float], device: str = "cpu"
) -> tuple[Plate, ...]:
    """The scene's plates at each of `gsds` that is not much finer than its own pixels; at least the coarsest."""
    fit = [gsd for gsd in gsds if gsd >= 0.8 * scene.gsd] or [max(gsds)]
    return tuple(plate(scene, area, gsd, device) for gsd in fit)


def batch(
    scenes: Sequence[tuple[Plate, ...]],
    shares: NDArray[np.float64],
    count: int,
    crop: int,
    gsds: tuple[float, float, float],
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """`count` augmented crops: image (B, 3, c, c) in 0..1, target and weight (B, 2, c, c).

    scenes, shares   plates of each scene, and how often it is drawn (sums to 1)
    gsds             lowest, most likely and highest GSD of a crop, m; drawn from a triangle over their logarithm

    Any rotation, mirrored or not, reflection beyond a scene's edge (TernausNetV2, section 4).
    """
    crops = []
    line = (np.arange(crop) + 0.5 - crop / 2).astype(np.float32)
    low, likely, high = (math.log(gsd) for gsd in gsds)
    for _ in range(count):
        plates = scenes[int(generator.choice(len(scenes), p=shares))]
        gsd = math.exp(generator.triangular(low, likely, high))
        one = min(plates, key=lambda plate: abs(math.log(plate.gsd / gsd)))
        scale = min(max(gsd / one.gsd, 0.67), 1.5)
        y, x = one.centres[int(generator.integers(len(one.centres)))] + generator.random(2)
        turn, mirror = generator.uniform(0, 2 * math.pi), 1 if generator.random() < 0.5 else -1
        crops.append(_cut(one.planes, x, y, scale, turn, line * mirror, line))
    cut = torch.cat(crops)
    weight = (cut[:, WEIGHT] > 0.99).float()
    weight[:, :, :BORDER] = weight[:, :, -BORDER:] = 0
    weight[:, :, :, :BORDER] = weight[:, :, :, -BORDER:] = 0
    return colour(cut[:, IMAGE] / 255, generator), (cut[:, TARGET] > 0.5).float(), weight


def _cut(
    planes: Tensor,
    x: float,
    y: float,
    scale: float,
    turn: float,
    across: NDArray[np.float32],
    down: NDArray[np.float32],
) -> Tensor:
    """One crop (1, 7, c, c) float32 about (x, y), sampled from the part of the plate that it can reach."""
    reach = math.ceil(scale * len(down) * 0.7072) + 2
    y0, y1, x0, x1 = max(int(y) - reach, 0), int(y) + reach, max(int(x) - reach, 0), int(x) + reach
    part = planes[None, :, y0:y1, x0:x1].float()
    height, width = part.shape[2:]
    c, s = scale * math.cos(turn), scale * math.sin(turn)
    u, v = np.meshgrid(across, down)
    grid = np.stack(
        [(x - x0 + c * u - s * v) * 2 / width - 1, (y - y0 + s * u + c * v) * 2 / height - 1], axis=-1
    )
    where = torch.from_numpy(grid.astype(np.float32))[None].to(part.device)
    return F.grid_sample(part, where, "bilinear", "reflection", align_corners=False)


def colour(image: Tensor, generator: np.random.Generator) -> Tensor:
    """Brightness, contrast, gamma, saturation and a cast, one draw a crop; (B, 3, h, w) stays in 0..1."""

    def draw(low: float, high: float, bands: int = 1) -> Tensor:
        values = generator.uniform(low, high, (len(image), bands, 1, 1)).astype(np.float32)
        return torch.from_numpy(values).to(image.device)

    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    image = (image - mean) * draw(0.75, 1.3) + mean + draw(-0.12, 0.12)
    gray = image.mean(dim=1, keepdim=True)
    image = (gray + (image - gray) * draw(0.4, 1.5)) * draw(0.92, 1.08, 3)
    return image.clamp(0, 1) ** draw(0.75, 1.3)
