"""Recipe of the instance network: building mask and touching borders at about 0.3 m.

    python -m training.recipes.instances --data DIR --out DIR            # train; resumes by itself
    python -m training.recipes.instances --data DIR --out DIR --evaluate # score the checkpoint
    python -m training.recipes.instances --data DIR --out DIR --save DIR # fold, score, write the card

Scenes become arrays at their training GSD once, targets included; crops are cut, turned, scaled and
coloured in one batched sampling on the training device. Two thirds of the crops come from Banepa's southern
block: the densest scene with true instances. Scenes whose labels merge touching buildings teach the mask
channel only.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.ternausnet import NARROW, TernausNetV2
from training.areas import split
from training.chips import LabelledScene, load_scenes, stretch
from training.loop import fit
from training.objectives_masks import bce_jaccard
from training.targets import label_image, mask_and_touching

logger = logging.getLogger(__name__)

NATIVE_GSD = 0.3
SHARES = {  # share of the crops by scene
    "banepa_np": 0.65,
    "zanzibar_tz_a": 0.13,
    "catanduanes_ph_a": 0.06,
    "vegas_us": 0.06,
    "rio_br_a": 0.10,
}
TRAINING_GSD = {"rio_br_a": 0.5, "rio_br_b": 0.5}  # coarser than native: kept as they are, not made up
MERGED = ("rio_br_a", "rio_br_b")  # labels without party walls: no touching borders to learn from
BORDER = 8  # px of a crop's edge without loss: padding is all that they see on one side
IMAGE, TARGET, WEIGHT = slice(0, 3), slice(3, 5), slice(5, 7)  # planes of a plate


@dataclass(frozen=True, slots=True)
class Plate:
    """A scene ready for sampling, (7, h, w) float32: stretched RGB, mask, touching, a weight for each target."""

    name: str
    gsd: float
    planes: Tensor
    centres: NDArray[np.int32]  # (n, 2) y, x of pixels that may be a crop's centre


def resample(scene: LabelledScene, gsd: float) -> tuple[NDArray[np.float32], NDArray[np.int32], float, tuple[int, int]]:
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


def plate(scene: LabelledScene, device: str = "cpu", margin: int = 160) -> Plate:
    """The training part of a scene as a plate, cut to its bounding box plus `margin` px."""
    image, labels, _, shape = resample(scene, TRAINING_GSD.get(scene.name, NATIVE_GSD))
    area = fit_mask(split(scene)[0] & scene.valid, shape)
    touching_known = area if scene.name not in MERGED else np.zeros_like(area)
    planes = np.concatenate([image, mask_and_touching(labels), area[None], touching_known[None]])
    ys, xs = np.nonzero(area)
    y0, y1 = max(int(ys.min()) - margin, 0), min(int(ys.max()) + margin, shape[0])
    x0, x1 = max(int(xs.min()) - margin, 0), min(int(xs.max()) + margin, shape[1])
    cut = torch.from_numpy(np.ascontiguousarray(planes[:, y0:y1, x0:x1], np.float32)).to(device)
    return Plate(scene.name, scene.gsd, cut, np.stack([ys - y0, xs - x0], axis=1).astype(np.int32))


def batch(
    plates: Sequence[Plate],
    shares: NDArray[np.float64],
    count: int,
    crop: int,
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """`count` augmented crops: image (B, 3, c, c) in 0..1, target and weight (B, 2, c, c).

    Any rotation, mirrored or not, scale 0.7–1.4 (paper: 0.5–1.5), reflection beyond a scene's edge.
    """
    crops = []
    line = (np.arange(crop) + 0.5 - crop / 2).astype(np.float32)
    for _ in range(count):
        one = plates[int(generator.choice(len(plates), p=shares))]
        height, width = one.planes.shape[1:]
        y, x = one.centres[int(generator.integers(len(one.centres)))] + generator.random(2)
        scale = math.exp(generator.uniform(math.log(0.7), math.log(1.4)))
        turn, mirror = generator.uniform(0, 2 * math.pi), 1 if generator.random() < 0.5 else -1
        c, s = scale * math.cos(turn), scale * math.sin(turn)
        u, v = np.meshgrid(line * mirror, line)
        grid = np.stack([(x + c * u - s * v) * 2 / width - 1, (y + s * u + c * v) * 2 / height - 1], axis=-1)
        where = torch.from_numpy(grid.astype(np.float32))[None].to(one.planes.device)
        crops.append(F.grid_sample(one.planes[None], where, "bilinear", "reflection", align_corners=False))
    cut = torch.cat(crops)
    weight = (cut[:, WEIGHT] > 0.99).float()
    weight[:, :, :BORDER] = weight[:, :, -BORDER:] = 0
    weight[:, :, :, :BORDER] = weight[:, :, :, -BORDER:] = 0
    return colour(cut[:, IMAGE], generator), (cut[:, TARGET] > 0.5).float(), weight


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


def train(
    data: Path, out: Path, *, steps: int, crop: int, size: int, lr: float, seed: int, device: str,
    budget_s: float | None, checkpoint_every: int, settings: dict[str, Any] | None = None,
) -> TernausNetV2:  # fmt: skip
    """Train from scratch or from `out`'s checkpoint; returns the network with its last weights."""
    scenes = load_scenes(data, [name for name in SHARES if (Path(data) / name).is_dir()])
    plates = [plate(scene, device) for scene in scenes]
    shares = np.array([SHARES[p.name] for p in plates])
    shares /= shares.sum()
    torch.manual_seed(seed)
    network = TernausNetV2(**{**NARROW, **(settings or {})}, decoder_norm=True)  # type: ignore[arg-type]
    network = network.to(device, memory_format=torch.channels_last)

    def loss(step: int, generator: np.random.Generator) -> dict[str, Tensor]:
        image, target, weight = batch(plates, shares, size, crop, generator)
        logits = network(image.contiguous(memory_format=torch.channels_last))
        return bce_jaccard(logits, target, weight)

    fit(
        network,
        loss,
        steps=steps,
        lr=lr,
        folder=out,
        seed=seed,
        checkpoint_every=checkpoint_every,
        budget_s=budget_s,
    )
    return network


def main(data: Path, out: Path, **options: Any) -> None:
    """Train, or with `evaluate` or `save` only score and ship the checkpoint in `out`."""
    evaluate, save = options.pop("evaluate", False), options.pop("save", None)
    if evaluate or save:
        from training.recipes import instances_score

        instances_score.score_and_save(data, out, save, options.get("device", "cpu"))
        return
    train(data, out, **options)


def parse(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Command-line options as keyword arguments of `main`."""
    parser = argparse.ArgumentParser(prog="training.recipes.instances", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--size", type=int, default=4, help="crops a batch")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--budget-s", type=float, default=None, help="seconds; the rate is annealed by then")
    parser.add_argument("--checkpoint-every", type=int, default=200)
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--save", type=Path, default=None, help="folder of model cards to write to")
    return vars(parser.parse_args(arguments))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main(**parse())
