"""Recipe of the successor: one network for all scales that aligns and segments (Girard et al. 2018, 2019).

    python -m training.recipes.alignment_successor --data DIR --out DIR --minutes 85   # continues where it stopped

As with the double U-Net, pairs of opposite fields and the true raster, blended into the image and faded out,
free the training from the zero field. `ratio_*` in log.jsonl is the error over the zero field's at factors 1, 2,
4, 8 of a held-out area: 1 is stuck. `auc` and `auc_alone` tell buildings from ground there, with the displaced
polygons and with none; `iou_*` is the segmentation's, at probability 0.5.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.successor_unet import Level, SuccessorUNet, cropped
from training.loop import fit
from training.patches import PreparedScene
from training.patches_successor import Pair, cut_pair, to_batch
from training.recipes.alignment import COARSEST_GSD, blends, field_bank, place_weights, prepare_all

DISPLACEMENT = (0.1, 1.0, 10.0)
"""Weights of fill, edge and vertex in the displacement's loss, each over the class's own pixels; ground has 0."""

SEGMENTATION = (0.05, 0.1, 1.0, 10.0)
"""Weights of background, fill, edge and vertex in the segmentation's loss."""


def displacement_loss(field: Tensor, target: Tensor, rasters: Tensor, counts: Tensor) -> Tensor:
    """Squared error in px^2, a mean over each class's pixels, then over classes by DISPLACEMENT.

    field, target (B, 2, h, w); rasters (B, 3, h, w) of the polygons as drawn; counts (B, 1, h, w).
    """
    error = ((field - target) ** 2).sum(1, keepdim=True)
    mask = rasters * counts
    by_class = (error * mask).sum((0, 2, 3)) / mask.sum((0, 2, 3)).clamp_min(1.0)
    weights = by_class.new_tensor(DISPLACEMENT)
    return (by_class * weights).sum() / weights.sum()


def segmentation_loss(logits: Tensor, segments: Tensor, counts: Tensor) -> Tensor:
    """Binary cross-entropy over pixels that count, then over classes by SEGMENTATION.

    logits (B, 4, h, w); segments (B, 3, h, w) of the true polygons; counts (B, 1, h, w).
    """
    truth = torch.cat([1 - segments[:, :1], segments], 1)
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * counts
    by_class = loss.sum((0, 2, 3)) / counts.sum().clamp_min(1.0)
    weights = by_class.new_tensor(SEGMENTATION)
    return (by_class * weights).sum() / weights.sum()


def at_level(batch: dict[str, Tensor], level: int) -> dict[str, Tensor]:
    """Target, rasters, segments and counts over the core at level 0, 1 or 2: as large as the outputs there.

    A coarse pixel shows a class if any of its pixels does, and counts if all of them do.
    """
    side, cell = batch["target"].shape[-1], 2**level
    rasters, segments, counts = (cropped(batch[name], side, side) for name in ("rasters", "segments", "counts"))
    return {
        "target": F.avg_pool2d(batch["target"], cell),
        "rasters": F.max_pool2d(rasters, cell),
        "segments": F.max_pool2d(segments, cell).repeat(2, 1, 1, 1),
        "counts": -F.max_pool2d(-counts, cell).repeat(2, 1, 1, 1),
    }


def losses(
    network: SuccessorUNet, batch: dict[str, Tensor], blend: Tensor | float, auxiliary: float, coarse: float
) -> dict[str, Tensor]:
    """Loss and figures of a batch; `blend` is the share of the true raster in the image, `coarse` the weight of
    each of levels 1 and 2 beside level 0."""
    levels = network.levels(batch["image"] * (1 - blend) + batch["truth"] * blend, batch["rasters"])
    figures: dict[str, Tensor] = {}
    total = torch.zeros((), device=batch["image"].device)
    for i, outputs in enumerate(levels):
        if i and coarse <= 0:
            break
        known = at_level(batch, i)
        error = displacement_loss(outputs.field, known["target"], known["rasters"], known["counts"])
        seen = segmentation_loss(outputs.logits, known["segments"], known["counts"])
        total = total + (coarse if i else 1.0) * (error + auxiliary * seen)
        if i == 0:
            zero = torch.zeros_like(known["target"])
            none = displacement_loss(zero, known["target"], known["rasters"], known["counts"])
            figures = {"error": error, "zero": none, "segmentation": seen}
    return {"loss": total, **figures}


def building_scores(finest: Level, batch: dict[str, Tensor]) -> dict[str, float]:
    """AUC of fill, and IoU of fill and of edge at probability 0.5, over the pixels that count."""
    known = at_level(batch, 0)
    truth, counts = known["segments"][: len(finest.logits)] > 0, known["counts"][: len(finest.logits), 0] > 0
    result = {}
    for name, channel in (("fill", 1), ("edge", 2)):
        found, true = finest.logits[:, channel][counts] > 0, truth[:, channel - 1][counts]
        result[f"iou_{name}"] = float((found & true).sum() / (found | true).sum().clamp_min(1))
    result["auc"] = auc(finest.logits[:, 1][counts], truth[:, 0][counts])
    return result


def auc(scores: Tensor, truth: Tensor) -> float:
    """Chance that a pixel of `truth (n,)` bool scores above one that is not of it; 0.5 where there is no such
    pair."""
    rank = torch.empty(len(scores), dtype=torch.float64)
    rank[torch.argsort(scores.cpu(), stable=True)] = torch.arange(1, len(scores) + 1, dtype=torch.float64)
    positive = int(truth.sum())
    pairs = positive * (len(scores) - positive)
    if pairs == 0:
        return 0.5
    return float((rank[truth.cpu()].sum() - positive * (positive + 1) / 2) / pairs)


def main(
    data: Path,
    out: Path,
    *,
    steps: int = 100000,
    minutes: float | None = None,
    width: float = 0.5,
    batch: int = 4,
    output: int = 64,
    lr: float = 1e-3,
    curriculum: int = 500,
    fading: int = 750,
    auxiliary: float = 10.0,
    seed: int = 0,
    device: str = "cpu",
    bfloat16: bool = False,
    threads: int | None = None,
    evaluate_every: int = 100,
) -> None:
    """Train into `out` (log.jsonl, checkpoint.*), at most `steps` steps or `minutes` minutes of training.

    A step takes `batch` pairs of patches of `output` px. The true raster leaves the images by 3 `curriculum`
    steps (see `blends`), the coarse levels' weights fall to 0 by `fading` steps. `bfloat16` computes the
    convolutions in that type, twice as fast where the processor knows it; weights and losses stay float32.
    """
    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)
    train, held_out = prepare_all(data)
    weights, bank = place_weights(train), field_bank(seed)
    network = SuccessorUNet(width).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    precision = torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=bfloat16)

    def sample(scene: PreparedScene, rng: np.random.Generator, factor: float | None = None) -> Pair:
        return cut_pair(
            scene, rng, bank[rng.integers(len(bank))], output=output, halo=network.halo, coarsest=COARSEST_GSD,
            factor=factor, drop=factor is None,
        )  # fmt: skip

    def batch_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        chosen = rng.choice(len(train), batch, p=weights)
        pairs = to_batch([sample(train[i], rng) for i in chosen], device)
        blend = blends(step, curriculum, rng, batch).to(device)
        with precision:
            return losses(network, pairs, blend, auxiliary, 0.5 * max(0.0, 1 - step / max(fading, 1)))

    probe_rng = np.random.default_rng([seed, 77])
    probes = {f: to_batch([sample(held_out, probe_rng, f) for _ in range(8)], device) for f in (1.0, 2.0, 4.0, 8.0)}

    def evaluate() -> dict[str, Any]:
        with precision:
            return evaluation(network, probes)

    fit(
        network, batch_loss, steps=steps, lr=lr, folder=out, seed=seed, checkpoint_every=100, log_every=25,
        evaluate=evaluate, evaluate_every=evaluate_every, clip=5.0, budget_s=None if minutes is None else minutes * 60,
    )  # fmt: skip


def evaluation(network: SuccessorUNet, probes: dict[float, dict[str, Tensor]]) -> dict[str, Any]:
    """Figures on held-out probes by factor: error over the zero field's, and how well buildings are seen."""
    result: dict[str, Any] = {}
    scores: list[dict[str, float]] = []
    for factor, pairs in probes.items():
        known = at_level(pairs, 0)
        finest = network.levels(pairs["image"], pairs["rasters"])[0]
        none = torch.zeros_like(known["target"])
        error, zero = (
            displacement_loss(f, known["target"], known["rasters"], known["counts"]) for f in (finest.field, none)
        )
        result[f"ratio_{factor:g}"] = round(float(error / zero), 4)
        alone = network.levels(pairs["image"], torch.zeros_like(pairs["rasters"][: len(pairs["image"])]))[0]
        scores.append({**building_scores(finest, pairs), "auc_alone": building_scores(alone, pairs)["auc"]})
    return result | {name: round(float(np.mean([s[name] for s in scores])), 4) for name in scores[0]}


def main_cli(arguments: Sequence[str] | None = None) -> None:
    """Command line: train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    for option in ("minutes", "width", "lr", "auxiliary"):
        parser.add_argument(f"--{option}", type=float, default=argparse.SUPPRESS)
    for option in ("steps", "batch", "output", "curriculum", "fading", "seed", "threads", "evaluate_every"):
        parser.add_argument(f"--{option.replace('_', '-')}", type=int, default=argparse.SUPPRESS)
    parser.add_argument("--device", default=argparse.SUPPRESS)
    parser.add_argument("--bfloat16", action="store_true", help="convolutions in bfloat16")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    main_cli()
