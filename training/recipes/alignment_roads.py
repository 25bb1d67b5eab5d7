"""Recipe of the road evidence: a network that sees where the middle of a road runs, for the search to go by.

    python -m training.recipes.alignment_roads --data DIR --out DIR [--chips 400] [--epochs 30]

The image branch is alignment-successor's and stays; what reads its maps at each pixel is learned
(models/line_reader.py): the maps of some hundred chips are computed once, a few hundred pixels of each are kept, and
the perceptron is trained on those: minutes on one core. Learned from drawn scenes (training/city_roads.py and
training/city.py), the left part of vegas_roads_us, a scene of road polygons, and centre lines drawn by hand. log.jsonl
has the soft intersection over union of answer and truth on held-out chips.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from catalogs.cards import load_card, load_weights
from models.line_reader import LineReader
from models.successor_unet import cropped
from training.chips_roads import batch_of, cut_chip, evaluation_fields, training_fields

NAME, HIDDEN = "alignment-roads", 48
"""The card's name, and the width of the perceptron."""

ON_LINE = 4.0
"""How much more a pixel counts on a centre line than beside it."""

PIXELS = 700
"""Pixels kept of each chip: a third on or near centre lines."""

logger = logging.getLogger(__name__)


def near_loss(logits: Tensor, near: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy with `near` in 0..1 as soft truth, where `known` is 1; more on the lines. All of one shape."""
    weight = known * (1 + ON_LINE * near)
    loss = F.binary_cross_entropy_with_logits(logits, near, reduction="none")
    return (loss * weight).sum() / weight.sum().clamp_min(1.0)


def overlap(logits: Tensor, near: Tensor, known: Tensor) -> Tensor:
    """Soft intersection over union of answer and truth where known."""
    found = torch.sigmoid(logits) * known
    both = torch.minimum(found, near * known).sum()
    return both / torch.maximum(found, near * known).sum().clamp_min(1e-6)


def columns(network: LineReader, image: Tensor, side: int) -> Tensor:
    """What is read at each pixel of the core, (B, side, side, channels): the maps of all levels, upsampled."""
    parts = []
    for level, found in enumerate(network.maps(image)):
        core = cropped(found, side >> level, side >> level)
        parts.append(F.interpolate(core, scale_factor=float(2**level), mode="nearest") if level else core)
    return torch.cat(parts, 1).permute(0, 2, 3, 1)


def read(network: LineReader, column: Tensor) -> Tensor:
    """Logits (n,) from columns (n, channels), as the network's 1x1 convolutions give them."""
    at, total = 0, torch.zeros(())
    for layer in network.read:
        weight = layer.weight[:, :, 0, 0]  # type: ignore[index, union-attr]
        total = total + F.linear(column[:, at : at + weight.shape[1]], weight, layer.bias)  # type: ignore[arg-type]
        at += weight.shape[1]
    inner = F.elu(F.linear(F.elu(total), network.middle.weight[:, :, 0, 0], network.middle.bias))
    return F.linear(inner, network.head.weight[:, :, 0, 0], network.head.bias)[:, 0]


def gather(
    network: LineReader, data: Path, chips: int, side: int, seed: int, bfloat16: bool
) -> tuple[Tensor, Tensor]:
    """Columns (n, channels) float32 and nearness (n,) of pixels of random chips, where it is known."""
    fields, rng = training_fields(data), np.random.default_rng([seed, 5])
    shares = np.array([field.share for field in fields])
    shares /= shares.sum()
    found, truth = [], []
    precision = torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16)
    for number in range(chips):
        image, near, known = batch_of([cut_chip(fields[rng.choice(len(fields), p=shares)], rng, side, network.halo)])
        near, there = near.flatten().numpy(), known.flatten().numpy() > 0
        on, off = np.flatnonzero(there & (near > 0.15)), np.flatnonzero(there & (near <= 0.15))
        chosen = np.concatenate([rng.permutation(on)[: PIXELS // 3], rng.permutation(off)[: PIXELS - PIXELS // 3]])
        with torch.no_grad(), precision:
            column = columns(network, image, side).flatten(0, 2)[torch.from_numpy(chosen)]
        found.append(column.float())
        truth.append(torch.from_numpy(near[chosen]))
        if number % 50 == 49:
            logger.info("%d chips", number + 1)
    return torch.cat(found), torch.cat(truth)


def main(
    data: Path, out: Path, *, chips: int = 400, side: int = 96, epochs: int = 30, lr: float = 2e-3, seed: int = 0,
    init: str = "alignment-successor", bfloat16: bool = False, threads: int | None = None,
) -> None:  # fmt: skip
    """Train into `out`: log.jsonl and weights.safetensors. Pixels are kept in pixels.safetensors, and taken from there
    if it is there already; without `epochs` they are gathered alone."""
    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)
    network = LineReader(HIDDEN)
    network.start_from(load_weights(load_card(init)))
    network.branch.requires_grad_(False)
    kept = out / "pixels.safetensors"
    if not kept.exists():
        out.mkdir(parents=True, exist_ok=True)
        column, near = gather(network, data, chips, side, seed, bfloat16)
        save_file({"column": column.half(), "near": near}, kept)
    if epochs == 0:
        return
    pixels = load_file(kept)
    column, near = pixels["column"].float(), pixels["near"]
    # begin with columns of mean 0 and deviation 1, folded into the first layer
    mean, spread = column.mean(0), column.std(0).clamp_min(1e-3)
    column = (column - mean) / spread
    parameters = [p for p in network.parameters() if p.requires_grad]
    steps, batch = epochs * (len(near) // 2048), 2048
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps + 1, pct_start=0.1)
    losses: list[float] = []
    for _ in range(steps):
        some = torch.randint(0, len(near), (batch,))
        loss = near_loss(read(network, column[some]), near[some], torch.ones(batch))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    fold(network, mean, spread)
    figures: dict[str, Any] = {"steps": steps, "pixels": len(near), "loss": round(float(np.mean(losses[-100:])), 4)}
    rng = np.random.default_rng([seed, 77])
    for field in evaluation_fields(data):
        image, truth, known = batch_of([cut_chip(field, rng, side, network.halo) for _ in range(6)])
        with torch.no_grad():
            figures[field.name] = round(float(overlap(network(image), truth, known)), 3)
    logger.info("%s", figures)
    (out / "log.jsonl").write_text(json.dumps(figures) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, out / "weights.safetensors")


def fold(network: LineReader, mean: Tensor, spread: Tensor) -> None:
    """Let the first layer take columns as they are: `mean` and `spread` (channels,) go into its weights."""
    at = 0
    first = network.read[0]
    with torch.no_grad():
        for layer in network.read:
            weight = layer.weight  # type: ignore[union-attr]
            part = slice(at, at + weight.shape[1])  # type: ignore[union-attr, operator]
            weight /= spread[part][None, :, None, None]  # type: ignore[operator]
            first.bias -= weight[:, :, 0, 0] @ mean[part]  # type: ignore[index, operator, union-attr]
            at = part.stop


FAILS = (
    "not good enough to be a default: on layers of roads alone some scenes end better than they were, others worse "
    "(docs/alignment.md, Roads and classes); it runs only where --roads asks for it",
    "learned from drawn scenes, the left part of one car park with the avenue beside it, two roads through woods and "
    "the streets of one suburb: any other look is new to it",
    "it sees bright bare strips, edges of fields and rows of cars as roads, and loses roads under trees",
    "along a straight road nothing can be seen: lines move across only, unless roads of another direction are near",
)


def write_card(out: Path, folder: Path) -> None:
    """Card and weights of a training in `out`, in half precision, as `folder`/NAME."""
    from catalogs.cards import save_card

    figures = json.loads((out / "log.jsonl").read_text())
    weights = load_file(out / "weights.safetensors")
    save_card(
        folder,
        name=NAME,
        task="roads",
        network="line_reader",
        settings={"hidden": HIDDEN},
        bands=3,
        gsd=(0.3, 1.2),
        native_gsd=0.6,
        classes=("road",),
        halo=LineReader.halo,
        stride=LineReader.stride,
        licence="Apache-2.0",
        trained_on=("vegas_roads_us (left part)", "bakerlake_ca_1", "massachusetts_us_f (lines drawn by hand)",
                    "procedural scenes of roads", "procedural cities", "alignment-successor's (its image branch)"),
        evaluated_on=("vegas_roads_us (right part)", "procedural scenes of roads of other seeds"),
        scores={f"{name}_soft_iou": figures[name] for name in figures.keys() - {"steps", "pixels", "loss"}},
        fails=FAILS,
        weights={name: tensor.half() for name, tensor in weights.items()},
        extra={"gather": {"pixels": figures["pixels"]}},
    )  # fmt: skip


def main_cli(arguments: Sequence[str] | None = None) -> None:
    """Command line: train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lr", type=float, default=argparse.SUPPRESS)
    for option in ("chips", "side", "epochs", "seed", "threads"):
        parser.add_argument(f"--{option}", type=int, default=argparse.SUPPRESS)
    parser.add_argument("--init", default=argparse.SUPPRESS, help="take the image branch of this card")
    parser.add_argument("--bfloat16", action="store_true", help="the branch in bfloat16")
    parser.add_argument("--card", type=Path, help="write the card of what is in --out into this folder")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = vars(parser.parse_args(arguments))
    card = given.pop("card")
    if card is not None:
        write_card(given["out"], card)
    else:
        main(**given)


if __name__ == "__main__":
    main_cli()
