"""Recipe of the alignment: one double U-Net for all four scales (scale-invariant, Zampieri et al. 2018).

    python -m training.recipes.alignment --data DIR --out DIR            # train; continues where it stopped
    python -m training.recipes.alignment --data DIR --out DIR --evaluate # score the chain on held-out areas
    python -m training.recipes.alignment --data DIR --out DIR --init alignment-zampieri --factor 4  # fine-tune

A plain training stays at the error of the zero field for long. Two things free it: the true polygons' raster
is blended into the image and faded out over the first steps, and a throw-away head has the image tower
segment the buildings, with a weight that makes the two losses' gradients alike in size, or it does nothing.
Watch `error` over `zero` (the error of the zero field) and `ratio_*` in log.jsonl: 1 is stuck.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from catalogs.cards import load_card, load_weights
from models.double_unet import DoubleUNet, Maps, centred
from pipeline.errors import SettingsError
from training.areas import split
from training.chips import load_scenes
from training.deform import gaussian_field
from training.loop import fit
from training.objectives import displacement_loss, segmentation_loss
from training.patches import LEVELS, Patch, PreparedScene, cut, prepare

WEIGHTS = {
    "banepa": 0.5,
    "massachusetts": 0.2,
    "zanzibar": 0.09,
    "catanduanes": 0.08,
    "rio": 0.07,
    "vegas": 0.04,
}
"""Share of patches by place; scenes of one place share by their vertices. The rest goes to the others."""

COARSEST_GSD = 2.1
"""Coarsest patches, m: a house is then about five pixels wide."""


class AlignmentTrainee(nn.Module):
    """The network with the head that is thrown away: logits (fill, edge) read from the image tower's maps."""

    def __init__(self) -> None:
        super().__init__()
        self.network = DoubleUNet()
        self.readouts = nn.ModuleList([nn.Conv2d(width, 2, 1) for width in (32, 32, 64)])

    def forward(self, image: Tensor, cadaster: Tensor) -> tuple[Tensor, Tensor]:
        """Field (B, 2, N - 64, N - 64) and segmentation logits (b, 2, N - 32, N - 32).

        B cadasters may share b images, in the same order and again from the start: B is a multiple of b.
        """
        maps = self.network.image_tower(centred(image))
        times = len(cadaster) // len(image)
        repeated = (maps[0].repeat(times, 1, 1, 1), maps[1].repeat(times, 1, 1, 1), maps[2].repeat(times, 1, 1, 1))
        return self.network.decode(repeated, self.network.cadaster_tower(cadaster)), self.segment(maps)

    def segment(self, maps: Maps) -> Tensor:
        """Segmentation logits (B, 2, N - 32, N - 32) from the image tower's maps: sums of linear readouts."""
        side = maps[2].shape[-1] * 4
        logits = torch.zeros(len(maps[0]), 2, side, side, device=maps[0].device)
        for scale, readout, level in zip((1, 2, 4), self.readouts, maps, strict=True):
            up = F.interpolate(readout(level), scale_factor=scale, mode="nearest")
            margin = (up.shape[-1] - side) // 2
            logits = logits + up[..., margin : margin + side, margin : margin + side]
        return logits

    def start_from(self, card: str) -> None:
        """Take the network's weights from a card: a shipped one's name, or a card's folder.

        The readouts are new and begin at 0, so that they learn to read the maps before they change them.
        """
        folder = Path(card)
        given = (folder / "card.json").is_file()
        known = load_card(folder.resolve().name, folder.resolve().parent) if given else load_card(card)
        if known.network != "double_unet":
            raise SettingsError(f"--init {card}: its network is {known.network}; give a card of a double_unet")
        self.network.load_state_dict(load_weights(known))
        for parameter in self.readouts.parameters():
            nn.init.zeros_(parameter)


def to_batch(pairs: Sequence[tuple[Patch, Patch]], device: str = "cpu") -> dict[str, Tensor]:
    """Pairs stacked: image, truth, counts (b, 1, ., .); cadaster, weight (2b, 1, ., .), target (2b, 2, ., .),
    first patches of all pairs, then second ones."""
    batch = {}
    for name in ("image", "truth", "counts", "cadaster", "weight", "target"):
        sides = (0,) if name in ("image", "truth", "counts") else (0, 1)
        arrays = [getattr(pair[side], name) for side in sides for pair in pairs]
        tensor = torch.from_numpy(np.stack(arrays)).to(device)
        batch[name] = tensor if tensor.ndim == 4 else tensor[:, None]
    return batch


def losses(
    trainee: AlignmentTrainee, batch: dict[str, Tensor], blend: Tensor | float, auxiliary: float
) -> dict[str, Tensor]:
    """Loss and figures of a batch; `blend` is the share of the true raster in the image."""
    image = batch["image"] * (1 - blend) + batch["truth"] * blend
    field, logits = trainee(image, batch["cadaster"])
    error = displacement_loss(field, batch["target"], batch["weight"])
    zero = displacement_loss(torch.zeros_like(field), batch["target"], batch["weight"])
    segmentation = segmentation_of(logits, batch)
    return {
        "loss": error + auxiliary * segmentation,
        "error": error,
        "zero": zero,
        "segmentation": segmentation,
    }


def segmentation_of(logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Segmentation loss against the true raster: inside or edge, and edge alone."""
    truth, counts = batch["truth"][..., 16:-16, 16:-16], batch["counts"][..., 16:-16, 16:-16]
    return segmentation_loss(logits, torch.cat([(truth > 0), (truth == 1)], 1).float(), counts)


def blends(step: int, curriculum: int, rng: np.random.Generator, batch: int) -> Tensor:
    """Share of the true raster in each image of a batch, (batch, 1, 1, 1).

    All of it at first; from half of `curriculum` on a growing share of pure images among those blended, so
    that what matches shapes is kept while the image tower learns to see them; none after three times it.
    """
    if step >= 3 * curriculum:
        return torch.zeros(batch, 1, 1, 1)
    share = np.clip(1 - 2 * step / curriculum * rng.random(batch), 0, 1)
    return torch.from_numpy(share).float().view(-1, 1, 1, 1)


def place_weights(scenes: Sequence[PreparedScene]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Probability of each scene: WEIGHTS by place, shared within a place by the number of seeds."""
    places = [scene.name.split("_")[0] for scene in scenes]
    rest = max(1 - sum(share for place, share in WEIGHTS.items() if place in places), 0.02)
    seeds = np.array([len(scene.seeds) for scene in scenes], float)
    share = np.array([WEIGHTS.get(place, rest) for place in places])
    within = np.array([seeds[[p == place for p in places]].sum() for place in places])
    weights = share * seeds / within
    return np.asarray(weights / weights.sum())


def turned(patch: Patch, quarters: int) -> Patch:
    """The patch turned by `quarters` anticlockwise as seen (y down), with its vectors. Exact."""
    arrays = {each.name: np.rot90(getattr(patch, each.name), quarters, (-2, -1)) for each in fields(Patch)}
    for _ in range(quarters):
        dx, dy = arrays["target"]
        arrays["target"] = np.stack([dy, -dx])
    return Patch(**arrays)


def scenes_at(scenes: Sequence[PreparedScene], factor: int) -> list[PreparedScene]:
    """The scenes whose pixels at `factor` are within COARSEST_GSD; SettingsError where none is."""
    kept = [scene for scene in scenes if scene.gsd * factor <= COARSEST_GSD * 1.01]
    if not kept:
        raise SettingsError(f"--factor {factor}: every scene is coarser than {COARSEST_GSD} m; take a smaller")
    return kept


def main(
    data: Path,
    out: Path,
    *,
    steps: int = 20000,
    minutes: float | None = None,
    batch: int = 4,
    output: int = 48,
    lr: float | None = None,
    curriculum: int | None = None,
    auxiliary: float = 10.0,
    tower_only: int = 4,
    seed: int = 0,
    device: str = "cpu",
    init: str | None = None,
    factor: int | None = None,
    scenes: tuple[list[PreparedScene], PreparedScene] | None = None,
) -> None:
    """Train into `out` (log.jsonl, checkpoint.*), at most `steps` steps or `minutes` minutes of training.

    A step takes `batch` pairs of patches, and `tower_only` more that only teach the image tower to segment, at a
    fifth of the cost: what the tower sees limits a short training.

    `init` (a card's name or folder) gives the first weights: `lr` is then 3e-4 rather than 1e-3, and `curriculum` 0
    rather than 500, as the image tower sees already. `factor` keeps to patches at native GSD x factor, in the
    eight exact symmetries, of the scenes that are fine enough. `scenes` are prepare_all's, where already made.
    """
    torch.manual_seed(seed)
    lr = (1e-3 if init is None else 3e-4) if lr is None else lr
    curriculum = (500 if init is None else 0) if curriculum is None else curriculum
    trainee = AlignmentTrainee().to(device)
    if init is not None:
        trainee.start_from(init)
    train, held_out = prepare_all(data) if scenes is None else scenes
    train = train if factor is None else scenes_at(train, factor)
    weights, bank = place_weights(train), field_bank(seed)
    halo = DoubleUNet.halo

    def sample(scene: PreparedScene, rng: np.random.Generator, factor: float | None = None) -> tuple[Patch, Patch]:
        field = bank[rng.integers(len(bank))]
        return cut(scene, rng, field, output=output, halo=halo, coarsest=COARSEST_GSD, factor=factor)

    def training_sample(scene: PreparedScene, rng: np.random.Generator) -> tuple[Patch, Patch]:
        if factor is None:
            return sample(scene, rng)
        (one, other), quarters = sample(scene, rng, factor), int(rng.integers(4))  # cut mirrors, but turns none
        return turned(one, quarters), turned(other, quarters)

    def batch_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        chosen = rng.choice(len(train), batch, p=weights)
        patches = to_batch([training_sample(train[i], rng) for i in chosen], device)
        figures = losses(trainee, patches, blends(step, curriculum, rng, batch).to(device), auxiliary)
        if tower_only:
            chosen = rng.choice(len(train), tower_only, p=weights)
            seen = to_batch([training_sample(train[i], rng) for i in chosen], device)
            figures["tower"] = segmentation_of(
                trainee.segment(trainee.network.image_tower(centred(seen["image"]))), seen
            )
            figures["loss"] = figures["loss"] + auxiliary * figures["tower"]
        return figures

    probe_rng = np.random.default_rng([seed, 77])
    factors = LEVELS if factor is None else (factor,)
    probes = {f: to_batch([sample(held_out, probe_rng, f) for _ in range(12)], device) for f in factors}

    def evaluate() -> dict[str, Any]:
        result = {}
        for at, patches in probes.items():
            figures = losses(trainee, patches, 0.0, 0.0)
            result[f"ratio_{at:g}"] = round(float(figures["error"] / figures["zero"]), 4)
        return result

    fit(
        trainee, batch_loss, steps=steps, lr=lr, folder=out, seed=seed, checkpoint_every=75, log_every=25,
        evaluate=evaluate, evaluate_every=150, clip=5.0, budget_s=None if minutes is None else minutes * 60,
    )  # fmt: skip


def prepare_all(data: Path) -> tuple[list[PreparedScene], PreparedScene]:
    """Training scenes, and the held-out northern block of banepa_np, as arrays."""
    train, held_out = [], None
    for path in sorted(Path(data).glob("*/*_buildings.parquet")):
        (scene,) = load_scenes(data, [path.parent.name])
        area, evaluation = split(scene)
        if area.any():
            prepared = prepare(scene, area)
            train.append(prepared)
            if scene.name == "banepa_np":
                held_out = prepare(scene, evaluation, prepared.gray)
    assert held_out is not None, "banepa_np is needed for the probes"
    return train, held_out


def field_bank(seed: int, size: int = 48) -> list[Any]:
    """Published fields to cut displacements from; places, factors and signs are drawn anew each time."""
    rng = np.random.default_rng([seed, 1])
    return [gaussian_field(rng) for _ in range(size)]


def main_cli(arguments: Sequence[str] | None = None) -> None:
    """Command line: train, or with --evaluate score the checkpoint's chain (training/align_scores.py)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--evaluate", action="store_true", help="score the checkpoint on held-out areas")
    parser.add_argument("--card", type=Path, help="with --evaluate: folder to write the card and weights to")
    for option in ("minutes", "lr", "auxiliary"):
        parser.add_argument(f"--{option}", type=float, default=argparse.SUPPRESS)
    for option in ("steps", "batch", "tower_only", "output", "curriculum", "seed"):
        parser.add_argument(f"--{option.replace('_', '-')}", type=int, default=argparse.SUPPRESS)
    parser.add_argument("--device", default=argparse.SUPPRESS)
    parser.add_argument("--init", default=argparse.SUPPRESS, help="start from this card: its name or its folder")
    parser.add_argument("--factor", type=int, choices=LEVELS, default=argparse.SUPPRESS, help="only native GSD x this")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = vars(parser.parse_args(arguments))
    if given.pop("evaluate"):
        from training.align_scores import load_trained, score_checkpoint, write_card

        rows = score_checkpoint(given["data"], given["out"], device=given.get("device", "cpu"))
        if given.get("card"):
            write_card(load_trained(given["out"]), given["card"], rows)
    else:
        given.pop("card")
        main(**given)


if __name__ == "__main__":
    main_cli()
