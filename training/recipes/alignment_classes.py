"""Recipe of the alignment of several classes: one double U-Net, a cadaster channel for buildings and one for roads.

    python -m training.recipes.alignment_classes --data DIR --out DIR [--minutes 45] [--bfloat16]

The published way (Zampieri et al. 2018, multi-class and road alignment). It starts from the weights of
alignment-zampieri; the channel of roads begins at 0, so that buildings alone are aligned as by that card. Learned
from: procedural scenes of roads (training/city_roads.py) and of streets (training/city.py), the road scenes that there
are, centre lines drawn by hand over two scenes (to about 2 m, so only coarse patches of them), and building scenes so
that what was known is kept. Lines are judged by the part of the error across them. A throw-away head has the image
tower see buildings and roads, as in training/recipes/alignment.py. No card comes of it yet: see docs/alignment.md.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from catalogs.cards import load_card, load_weights
from models.double_unet import Maps, centred
from models.double_unet_classes import DoubleUNetClasses
from training.areas import split
from training.chips import drawn_scene, load_scenes
from training.chips_roads import by_hand
from training.city import city
from training.city_roads import road_scene
from training.loop import fit, load_network
from training.objectives import displacement_loss
from training.patches_classes import CLASSES, ClassPair, ClassScene, cut_classes, prepare_classes, to_batch
from training.recipes.alignment import blends, field_bank

logger = logging.getLogger(__name__)

COARSEST_GSD = 2.4
"""Coarsest patches, m: a road of two lanes is then three pixels wide."""

BUILDINGS = {
    "banepa_np": 0.08, "massachusetts_us_a": 0.05, "catanduanes_ph_a": 0.03, "rio_br_a": 0.03, "vegas_us": 0.03,
}  # fmt: skip
ROADS = {"vegas_roads_us": 0.12, "bakerlake_ca_1": 0.06}
BY_HAND = {"massachusetts_us_f": (0.07, 1), "banepa_np": (0.06, 4)}
"""Real scenes and the share of patches from each; BY_HAND also the finest factor that patches are cut at."""

STREETS = 0.07
"""Share of the cities of training/city.py; the scenes of training/city_roads.py have what is left."""

ALONG = 0.05
"""Weight of the error along a line beside that across it: where nothing is seen, nothing is said."""


@dataclass(frozen=True, slots=True)
class Source:
    """A scene, its share of the patches, and the finest factor that they are cut at."""

    scene: ClassScene
    share: float
    finest: int = 1


class ClassesTrainee(nn.Module):
    """The network with the head that is thrown away: logits (building, building's outline, road) of the image tower."""

    def __init__(self) -> None:
        super().__init__()
        self.network = DoubleUNetClasses(CLASSES)
        self.readouts = nn.ModuleList([nn.Conv2d(width, 3, 1) for width in (32, 32, 64)])
        for parameter in self.readouts.parameters():
            nn.init.zeros_(parameter)

    def forward(self, image: Tensor, cadaster: Tensor) -> tuple[Tensor, Tensor]:
        """Field (B, 2, N - 64, N - 64) and logits (b, 3, N - 32, N - 32); B cadasters share b images."""
        maps = self.network.image_tower(centred(image))
        times = len(cadaster) // len(image)
        repeated = (maps[0].repeat(times, 1, 1, 1), maps[1].repeat(times, 1, 1, 1), maps[2].repeat(times, 1, 1, 1))
        field = self.network.decode(repeated, self.network.cadaster_tower(cadaster))
        return field.float(), self.segment(maps)

    def segment(self, maps: Maps) -> Tensor:
        """Logits (B, 3, N - 32, N - 32): sums of linear readouts of the three levels."""
        side = maps[2].shape[-1] * 4
        logits = torch.zeros(len(maps[0]), 3, side, side, device=maps[0].device)
        for scale, readout, level in zip((1, 2, 4), self.readouts, maps, strict=True):
            up = F.interpolate(readout(level).float(), scale_factor=scale, mode="nearest")
            margin = (up.shape[-1] - side) // 2
            logits = logits + up[..., margin : margin + side, margin : margin + side]
        return logits


def across_loss(field: Tensor, target: Tensor, across: Tensor) -> Tensor:
    """Mean squared error, px², across the lines: fields (B, 2, h, w), normals `across` (B, 3, h, w): xx, xy, yy.

    The error along them counts by ALONG. 0 where no line is.
    """
    x, y = (field - target).unbind(1)
    xx, xy, yy = across.unbind(1)
    count = xx + yy
    squared = xx * x * x + 2 * xy * x * y + yy * y * y + ALONG * count * (x * x + y * y)
    return squared.sum() / count.sum().clamp_min(1e-6)


def segmentation_of(logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of the image tower's readouts, each where its class is labelled; roads 5 px wide."""
    truth, seen = batch["truth"][..., 16:-16, 16:-16], batch["seen"][..., 16:-16, 16:-16]
    building, road = truth[:, :1], F.max_pool2d((batch["truth"][:, 1:] == 1).float(), 3, 1, 1)[..., 16:-16, 16:-16]
    wanted = torch.cat([(building > 0).float(), (building == 1).float(), road], 1)
    counts = seen[:, [0, 0, 1]]
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return torch.as_tensor((loss * counts).sum() / counts.sum().clamp_min(1.0))


def losses(
    trainee: ClassesTrainee, batch: dict[str, Tensor], blend: Tensor | float, auxiliary: float
) -> dict[str, Tensor]:
    """Loss and figures of a batch; `blend` is the share of the true rasters in the image."""
    true = batch["truth"].amax(1, keepdim=True)
    field, logits = trainee(batch["image"] * (1 - blend) + true * blend, batch["drawn"])
    none = torch.zeros_like(field)
    figures = {}
    for name, said in (("", field), ("_zero", none)):
        figures[f"areas{name}"] = displacement_loss(said, batch["target"], batch["weight"])
        figures[f"lines{name}"] = across_loss(said, batch["target"], batch["across"])
    segmentation = segmentation_of(logits, batch)
    loss = figures["areas"] + figures["lines"] + auxiliary * segmentation
    return {"loss": loss, **figures, "segmentation": segmentation}


def sources(data: Path, scenes: int = 40) -> list[Source]:
    """Everything that is learned from."""
    found: list[Source] = []
    for shares in (BUILDINGS, ROADS):
        for name, share in shares.items():
            (scene,) = load_scenes(data, [name])
            found.append(Source(prepare_classes(scene, split(scene)[0]), share))
    for name, (share, finest) in BY_HAND.items():
        scene, area = by_hand(data, name)
        found.append(Source(prepare_classes(scene, area), share, finest))
    for seed in range(6):
        made = city((900, 900), (0.3, 0.5)[seed % 2], 3000 + seed, density=0.1 + 0.12 * seed)
        found.append(Source(prepare_classes(drawn_scene(made), np.ones(made.image.shape[1:], bool)), STREETS / 6))
    rest = 1 - sum(source.share for source in found)
    for seed in range(scenes):
        scene = road_scene(900, (0.3, 0.5, 0.3, 0.7, 0.4)[seed % 5], 5000 + seed)
        found.append(Source(prepare_classes(scene, scene.labelled), rest / scenes))
    return found


def probe_scenes(data: Path) -> dict[str, tuple[ClassScene, tuple[bool, bool]]]:
    """Held out: the right part of the Vegas roads, drawn scenes of other seeds by class, buildings of Vegas."""
    result = {}
    for name, show in (("vegas_roads_us", (False, True)), ("vegas_us", (True, False))):
        (scene,) = load_scenes(data, [name])
        result[name] = prepare_classes(scene, split(scene)[1]), show
    for seed, kind in enumerate(("streets", "country", "car park")):
        scene = road_scene(900, 0.4, 9000 + seed, kind)
        result[kind.replace(" ", "_")] = prepare_classes(scene, scene.labelled), (False, True)
    return result


def main(
    data: Path,
    out: Path,
    *,
    steps: int = 20000,
    minutes: float | None = None,
    batch: int = 4,
    output: int = 64,
    lr: float = 6e-4,
    curriculum: int = 100,
    auxiliary: float = 5.0,
    seed: int = 0,
    device: str = "cpu",
    init: str = "alignment-zampieri",
    bfloat16: bool = False,
    threads: int | None = None,
) -> None:
    """Train into `out` (log.jsonl, checkpoint.*), at most `steps` steps or `minutes` minutes of training.

    A step takes `batch` pairs of patches of `output` px. `init` is a card of a double_unet. `bfloat16` computes the
    convolutions in that type; weights and losses stay float32.
    """
    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)
    trainee = ClassesTrainee().to(device)
    trainee.network.start_from(load_weights(load_card(init)))
    trainee.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given, bank = sources(data), field_bank(seed)
    shares = np.array([source.share for source in given])
    shares /= shares.sum()
    halo = trainee.network.halo
    precision = torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=bfloat16)

    def sample(scene: ClassScene, rng: np.random.Generator, **how: Any) -> ClassPair:
        field = bank[rng.integers(len(bank))]
        return cut_classes(scene, rng, field, output=output, halo=halo, coarsest=COARSEST_GSD, **how)

    def batch_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        chosen = [given[i] for i in rng.choice(len(given), batch, p=shares)]
        pairs = to_batch([sample(each.scene, rng, finest=each.finest) for each in chosen], device)
        with precision:
            return losses(trainee, pairs, blends(step, curriculum, rng, batch).to(device), auxiliary)

    rng = np.random.default_rng([seed, 77])
    probes = {
        f"{name}_{factor}": to_batch([sample(scene, rng, factor=float(factor), show=show) for _ in range(8)], device)
        for name, (scene, show) in probe_scenes(data).items()
        for factor in (1, 2, 4)
    }

    def evaluate() -> dict[str, Any]:
        result = {}
        for name, pairs in probes.items():
            with precision:
                figures = losses(trainee, pairs, 0.0, 0.0)
            kind = "areas" if name.startswith("vegas_us") else "lines"
            result[name] = round(float(figures[kind] / figures[f"{kind}_zero"]), 3)
        return result

    fit(
        trainee, batch_loss, steps=steps, lr=lr, folder=out, seed=seed, checkpoint_every=100, log_every=25,
        evaluate=evaluate, evaluate_every=200, clip=5.0, budget_s=None if minutes is None else minutes * 60,
    )  # fmt: skip


def two_against_one(out: Path, *, batches: int = 12, seed: int = 0) -> dict[str, float]:
    """What a second class drawn beside it does to each class, by the checkpoint in `out`, on held-out drawn scenes.

    Squared error over that of staying, at each factor: of buildings (all of it) and of lines (across them), with both
    classes in the cadaster and with their own alone, on the same patches.
    """
    trainee = ClassesTrainee()
    load_network(out, trainee)
    trainee.eval().requires_grad_(False)
    cities = [drawn_scene(city((900, 900), (0.3, 0.5)[i % 2], 9200 + i, density=0.1 + 0.2 * i)) for i in range(3)]
    scenes = [prepare_classes(made, made.labelled) for made in cities]
    bank, figures = field_bank(seed), {}
    for factor in (1.0, 2.0, 4.0):
        for kind, alone in (("areas", (True, False)), ("lines", (False, True))):
            for name, show in (("alone", alone), ("with both", (True, True))):
                sums = np.zeros(2)
                for number in range(batches):
                    rng = np.random.default_rng([seed, 91, number])
                    pairs = to_batch([
                        cut_classes(scene, rng, bank[rng.integers(len(bank))], output=64, halo=trainee.network.halo,
                                    coarsest=COARSEST_GSD, factor=factor, show=show)
                        for scene in scenes
                    ])  # fmt: skip
                    found = losses(trainee, pairs, 0.0, 0.0)
                    sums += float(found[kind]), float(found[f"{kind}_zero"])
                figures[f"{kind} {name}, factor {factor:g}"] = round(float(sums[0] / sums[1]), 3)
    logger.info("%s", figures)
    return figures


def main_cli(arguments: Sequence[str] | None = None) -> None:
    """Command line: train, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    for option in ("minutes", "lr", "auxiliary"):
        parser.add_argument(f"--{option}", type=float, default=argparse.SUPPRESS)
    for option in ("steps", "batch", "output", "curriculum", "seed", "threads"):
        parser.add_argument(f"--{option}", type=int, default=argparse.SUPPRESS)
    parser.add_argument("--device", default=argparse.SUPPRESS)
    parser.add_argument("--init", default=argparse.SUPPRESS, help="start from this card of a double_unet")
    parser.add_argument("--bfloat16", action="store_true", help="convolutions in bfloat16")
    parser.add_argument("--compare", action="store_true", help="only say what a second class does to each")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = vars(parser.parse_args(arguments))
    if given.pop("compare"):
        two_against_one(given["out"])
    else:
        main(**given)


if __name__ == "__main__":
    main_cli()
