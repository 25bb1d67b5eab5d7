"""Recipe that takes an RGB instance network to more bands, by the published two-step schedule, on drawn towns.

    python -m training.recipes.instances_bands --bands 8 --out DIR              # train; resumes by itself
    python -m training.recipes.instances_bands --bands 8 --out DIR --evaluate   # score on other towns
    python -m training.recipes.instances_bands --bands 8 --out DIR --save DIR   # score and write the card

TernausNetV2, sections 3 and 4: the first convolution is widened with channels that start at zero; in epoch 1 the
encoder is frozen (`models.ternausnet.freeze_encoder`) and the decoder alone learns; then everything does. An epoch
is as many crops as cover the training towns once. The two parts are trainings of their own, in OUT/frozen and
OUT/all, each with its warm-up, so that Adam meets the encoder with fresh moments.

Bands are stretched as a run stretches them: between the scene's 1st and 99th percentile, where the paper takes
minimum and maximum. It is a proof that the way works, on towns where RGB tells nothing (`training.city_bands`);
the networks it makes have seen no real image.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.ternausnet import TernausNetV2, freeze_encoder, widen
from training.chips import stretch
from training.city_bands import BandTown, band_town
from training.loop import fit, load_network
from training.objectives_masks import bce_jaccard
from training.targets import mask_and_touching

if TYPE_CHECKING:
    from catalogs.cards import ModelCard
    from training.recipes.instances_score import Area

logger = logging.getLogger(__name__)

EVALUATION_SEEDS = (900, 901, 902)
EVALUATION_SIDE = 1024
CALIBRATION_SEED = 800
"""A town that is neither trained on nor scored."""
EDGE = 12
"""Pixels at a town's edge that are not scored: houses are cut there."""
BORDER = 8
"""Pixels of a crop's edge without loss: padding is all that they see on one side."""
PARTS = ("frozen", "all")


@dataclass(frozen=True, slots=True)
class Way:
    """How a training goes: crops a step, their side in px, rate, steps of each part, seed and device."""

    size: int
    crop: int
    lr: float
    frozen_steps: int
    steps: int
    seed: int
    device: str


def plate(town: BandTown, device: str = "cpu") -> Tensor:
    """A town ready for sampling, (bands + 2, h, w) float32: stretched bands, mask, touching borders."""
    image = stretch(town.image, np.ones(town.labels.shape, np.bool_))
    planes = np.concatenate([image, mask_and_touching(town.labels).astype(np.float32)])
    return torch.from_numpy(planes).to(device)


def epoch_steps(plates: Sequence[Tensor], crop: int, size: int) -> int:
    """Steps of an epoch: crops of `crop` px that cover the plates once, `size` a step."""
    crops = sum(one.shape[1] * one.shape[2] for one in plates) / crop**2
    return max(1, math.ceil(crops / size))


def batch(
    plates: Sequence[Tensor], size: int, crop: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """`size` augmented crops: image (B, bands, c, c) in 0..1, target and weight (B, 2, c, c).

    As published (section 4): scale 0.5–1.5, any rotation, mirrored or not, reflection beyond the edge;
    contrast, brightness and gamma of all bands together, gamma 0.8 or 1.2.
    """
    crops = []
    for _ in range(size):
        one = plates[int(generator.integers(len(plates)))]
        height, width = one.shape[1:]
        zoom, turn = generator.uniform(0.5, 1.5), generator.uniform(0, 2 * math.pi)
        mirror = 1 if generator.random() < 0.5 else -1
        c, s = math.cos(turn) * crop / zoom, math.sin(turn) * crop / zoom  # a crop spans so many px of the plate
        x, y = generator.uniform(-1, 1, 2)
        theta = torch.tensor(
            [[mirror * c / width, -s / width, x], [mirror * s / height, c / height, y]], dtype=torch.float32
        )
        grid = F.affine_grid(theta[None], [1, 1, crop, crop], align_corners=False).to(one.device)
        crops.append(F.grid_sample(one[None], grid, "bilinear", "reflection", align_corners=False))
    cut = torch.cat(crops)
    weight = torch.zeros_like(cut[:, -2:])
    weight[:, :, BORDER:-BORDER, BORDER:-BORDER] = 1
    return colour(cut[:, :-2], generator), (cut[:, -2:] > 0.5).float(), weight


def colour(image: Tensor, generator: np.random.Generator) -> Tensor:
    """Contrast, brightness and gamma, one draw a crop for all its bands; (B, bands, h, w) stays in 0..1."""

    def draw(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).view(-1, 1, 1, 1).to(image.device)

    count = len(image)
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    contrast, shift = draw(generator.uniform(0.8, 1.2, count)), draw(generator.uniform(-0.1, 0.1, count))
    gamma = draw(generator.choice([0.8, 1.0, 1.2], count))
    return ((image - mean) * contrast + mean + shift).clamp(0, 1) ** gamma


def widened(card: ModelCard, bands: int, channels_last: bool = True) -> TernausNetV2:
    """The card's network for `bands` bands, its extra ones at zero."""
    from catalogs.cards import load_weights

    network = TernausNetV2(**{**card.settings, "bands": bands})
    widen(network, load_weights(card))
    return network.to(memory_format=torch.channels_last) if channels_last else network  # type: ignore[call-overload]


def train(network: TernausNetV2, plates: Sequence[Tensor], out: Path, way: Way) -> TernausNetV2:
    """Train in place, encoder frozen first, then all; resumes from `out`. Forward passes run in bfloat16."""
    network.to(way.device)
    for part, steps in zip(PARTS, (way.frozen_steps, way.steps), strict=True):
        if not steps:
            continue
        freeze_encoder(network, part == "frozen")

        def loss(step: int, generator: np.random.Generator) -> dict[str, Tensor]:
            image, target, weight = batch(plates, way.size, way.crop, generator)
            with torch.autocast(torch.device(way.device).type, dtype=torch.bfloat16):
                logits = network(image.contiguous(memory_format=torch.channels_last))
            return bce_jaccard(logits.float(), target, weight)

        # The second part sees other crops than the first: its seed is another.
        fit(network, loss, steps=steps, lr=way.lr, folder=out / part, seed=way.seed + PARTS.index(part),
            warmup=0.1, schedule="constant" if part == "frozen" else "cosine", checkpoint_every=50)  # fmt: skip
    freeze_encoder(network, False)
    return network.eval()


def predicted(network: TernausNetV2, town: BandTown, device: str) -> Area:
    """The network's scores of a town, by the windows of a run, and what is true there but for the very edge."""
    from training.recipes.instances_score import Area, predict

    everywhere = np.ones(town.labels.shape, np.bool_)
    inside = np.zeros_like(everywhere)
    inside[EDGE:-EDGE, EDGE:-EDGE] = True
    scores = predict(network, stretch(town.image, everywhere), device)
    return Area(f"town {town.plan.seed}", town.plan.gsd, scores, town.labels, inside)


def evaluate(network: TernausNetV2, towns: Sequence[BandTown], device: str = "cpu") -> dict[str, float]:
    """F1, precision and recall at IoU 0.5 over all towns together, by a run's splitter; and the mask's mean IoU."""
    from training.metrics_instances import InstanceScores
    from training.recipes.instances_score import mask_iou, score_area

    areas = [predicted(network, town, device) for town in towns]
    total = sum((score_area(area) for area in areas), InstanceScores(0, 0, 0))
    return {
        "f1": round(total.f1, 4),
        "precision": round(total.precision, 4),
        "recall": round(total.recall, 4),
        "buildings": total.true_positives + total.false_negatives,
        "mask_iou": round(float(np.mean([mask_iou(area) for area in areas])), 4),
    }


def stages_scored(
    network: TernausNetV2, out: Path, towns: Sequence[BandTown], apart: BandTown, device: str
) -> dict[str, Any]:
    """Scores of the widened network as it starts, after the frozen epoch, at the end, and at the end calibrated on
    the town `apart` (see `instances_score.calibrate`). Loads each in turn; the network is then the last."""
    from training.recipes.instances_score import calibrate

    figures: dict[str, Any] = {"start": evaluate(network.to(device), towns, device)}
    for part in PARTS:
        if (out / part / "checkpoint.json").exists():
            steps = load_network(out / part, network)
            figures[part] = {"steps": steps, **evaluate(network, towns, device)}
    shifts = calibrate(predicted(network, apart, device))
    with torch.no_grad():
        assert network.final.bias is not None
        network.final.bias += torch.tensor(shifts, device=device)
    figures["calibrated"] = {"mask": shifts[0], "touching": shifts[1], **evaluate(network, towns, device)}
    for name, scores in figures.items():
        logger.info("%s: %s", name, scores)
    return figures


def write_card(network: TernausNetV2, start: ModelCard, folder: Path, figures: dict[str, Any], seeds: int) -> ModelCard:
    """Card and weights of the network, `instances-drawn-N` for N bands, under `folder`."""
    from catalogs.cards import save_card

    bands = network.stem.in_channels
    return save_card(
        folder,
        name=f"instances-drawn-{bands}",
        task="mask",
        network="ternausnet",
        settings={**start.settings, "bands": bands},
        bands=bands,
        gsd=start.gsd,
        native_gsd=start.native_gsd,
        classes=("building", "touching"),
        halo=network.halo,
        stride=network.stride,
        licence=start.licence,
        trained_on=(*start.trained_on, f"{seeds} drawn towns of {bands} bands (training.city_bands)"),
        evaluated_on=tuple(f"drawn town {seed}" for seed in EVALUATION_SEEDS),
        scores={f"drawn towns.{name}": value for name, value in figures["calibrated"].items()},
        fails=("a proof on drawn towns: it has seen no real image of more than three bands; not for use",),
        weights=network.state_dict(),
        extra={"start": start.name},
    )


def main(out: Path, *, bands: int, init: str, models: Path | None, towns: int, side: int, frozen_epochs: float,
         evaluate: bool, save: Path | None, **way: Any) -> dict[str, Any]:  # fmt: skip
    """Train, or with `evaluate` or `save` score what `out` holds; returns the scores."""
    from catalogs.cards import load_card

    start = load_card(init, models)
    torch.manual_seed(way["seed"])
    network = widened(start, bands)
    if not (evaluate or save):
        plates = [plate(band_town((side, side), start.native_gsd, seed, bands), way["device"]) for seed in range(towns)]
        frozen = round(frozen_epochs * epoch_steps(plates, way["crop"], way["size"]))
        logger.info("%d towns; an epoch is %d steps", towns, epoch_steps(plates, way["crop"], way["size"]))
        train(network, plates, out, Way(frozen_steps=frozen, **way))
        return {}
    shape = (EVALUATION_SIDE, EVALUATION_SIDE)
    apart, *others = (band_town(shape, start.native_gsd, seed, bands) for seed in (CALIBRATION_SEED, *EVALUATION_SEEDS))
    figures = stages_scored(network, out, others, apart, way["device"])
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    if save is not None:
        write_card(network, start, save, figures, towns)
    return figures


def parse(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Command-line options as keyword arguments of `main`."""
    parser = argparse.ArgumentParser(prog="training.recipes.instances_bands", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bands", type=int, default=8, help="3: the control that sees RGB alone")
    parser.add_argument("--init", default="instances-narrow", help="card of the network to start from")
    parser.add_argument("--models", type=Path, default=None, help="folder of cards other than the shipped")
    parser.add_argument("--towns", type=int, default=6, help="training towns")
    parser.add_argument("--side", type=int, default=1024, help="of a training town, px")
    parser.add_argument("--frozen-epochs", type=float, default=1.0, help="epochs with a frozen encoder; 0: none")
    parser.add_argument("--steps", type=int, default=600, help="of the second part, after the frozen epoch")
    parser.add_argument("--crop", type=int, default=160)
    parser.add_argument("--size", type=int, default=4, help="crops a batch")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--save", type=Path, default=None, help="folder of model cards to write to")
    return vars(parser.parse_args(arguments))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    main(**parse())
