"""Coarse FCN, then the RNN refiner on top of it, frozen (Maggiori et al., section III).

    python -m training.recipes.classification --data DIR --out DIR [--coarse-minutes 18] [--refiner-minutes 12]

Both see scenes resampled to working GSDs around 0.7 m, chips cut inside the training areas of `training.areas`,
and partial labels (`training.targets_classes`). As in the paper, the coarse network can be trained on misplaced
labels (`--misregister`, metres) while the refiner gets good ones: then it has most to mend. Where the refiner's
training differs from the paper: Adam for AdaGrad, and a share of the loss on the intermediate iterations, which
makes a short training converge. Resumes by itself; `--evaluate` only scores.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.coarse_fcn import MARGIN, CoarseFCN
from models.refiner import Refiner
from training.areas import split
from training.chips import LabelledScene, load_scenes, stretch
from training.city import City, city
from training.loop import fit
from training.metrics_classes import count, figures, total
from training.roads_by_hand import with_roads
from training.targets_classes import UNKNOWN, draw_lines, grid_shape, partial_loss, scene_codes

logger = logging.getLogger(__name__)

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

EVALUATION = {
    "banepa_np": 0.6, "massachusetts_us_b": 1.0, "zanzibar_tz_b": 0.8, "catanduanes_ph_b": 0.8, "rio_br_b": 0.5,
    "vegas_us": 0.6, "vegas_roads_us": 0.6, "bakerlake_ca_2": 0.5,
}  # fmt: skip
"""Evaluation areas and the GSD that they are scored at."""

WEIGHTS = torch.tensor([1.5, 2.0, 1.0, 1.0, 1.0, 0.0])
"""Weights of the codes: buildings and roads are few."""

INTERMEDIATE = 0.3
"""Share of the refiner's loss that is taken over iterations 1 to 4."""


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
    shape = made.image.shape[1:]
    scene = LabelledScene(
        "city", made.gsd, made.image, np.ones(shape, bool), np.ones(shape, bool), made.coords,
        made.ring_offsets, made.polygon_offsets, made.roads,
    )  # fmt: skip
    codes = scene_codes(scene, scene.labelled, made.gsd)
    road = draw_lines(made.roads, made.road_widths, codes.shape)
    codes[codes >= 1] = np.where(road, 1, 2)[codes >= 1]
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
            fields.append(resampled(scene, area, gsd))
            weights.append(often / len(gsds))
    for seed in range(cities):
        gsd = (0.6, 0.8, 1.0)[seed % 3]
        fields.append(city_field(city((640, 640), gsd, 1000 + seed, density=0.2 + 0.07 * seed)))
        weights.append(3.0 / cities)
    return fields, np.array(weights) / np.sum(weights)


def evaluation_fields(data: Path) -> list[Field]:
    """The evaluation areas, each at its GSD."""
    return [resampled(scene, split(scene)[1], EVALUATION[scene.name]) for scene in _scenes(data, EVALUATION)]


def _scenes(data: Path, wanted: Any) -> Any:
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


@torch.no_grad()
def predict(coarse: CoarseFCN, refiner: Refiner | None, image: NDArray[np.uint8], device: str = "cpu") -> list[Tensor]:
    """Scores (3, H, W) on a whole field: coarse, then after each iteration. As the pipeline does it: fixed
    windows of core 256 and halo 48, so that the figures are those of a run."""
    height, width = image.shape[1:]
    core, halo = 256, 48
    rows, columns = -(-height // core), -(-width // core)
    padded = np.zeros((3, rows * core + 2 * halo, columns * core + 2 * halo), np.uint8)
    padded[:, halo : halo + height, halo : halo + width] = image
    steps = 1 if refiner is None else 1 + refiner.iterations
    out = [torch.zeros(3, rows * core, columns * core) for _ in range(steps)]
    for y in range(0, rows * core, core):
        for x in range(0, columns * core, core):
            window = torch.from_numpy(padded[:, y : y + core + 2 * halo, x : x + core + 2 * halo]).float()[None] / 255
            window = window.to(device).contiguous(memory_format=torch.channels_last)
            u = coarse(window)
            states = [u] if refiner is None else [u, *refiner.steps(u, window)]
            cut = halo - MARGIN
            for whole, state in zip(out, states, strict=True):
                whole[:, y : y + core, x : x + core] = state[0, :, cut:-cut, cut:-cut].cpu()
    return [scores[:, :height, :width] for scores in out]


def evaluate(
    coarse: CoarseFCN, refiner: Refiner | None, fields: Sequence[Field], device: str = "cpu"
) -> dict[str, Any]:
    """Figures by field and over all, one list entry an iteration (the first: coarse)."""
    counted: dict[str, list[Any]] = {}
    for field in fields:
        states = predict(coarse, refiner, field.image, device)
        counted[f"{field.name} {field.gsd} m"] = [count(s.argmax(0).numpy(), field.codes) for s in states]
    result = {name: [figures(c) for c in steps] for name, steps in counted.items()}
    result["all"] = [figures(total(list(steps))) for steps in zip(*counted.values(), strict=True)]
    return result


def main(
    data: Path, out: Path, *, coarse_minutes: float = 18, refiner_minutes: float = 12, seed: int = 0,
    misregister: float = 0.0, agnostic: bool = False, steps: int = 1_000_000, device: str = "cpu",
    only_evaluate: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Train both networks into `out`/coarse and `out`/refiner, score them, write `out`/evaluation.json."""
    from training.loop import load_network

    torch.manual_seed(seed)
    layout = torch.channels_last
    coarse = CoarseFCN().to(device, memory_format=layout)  # type: ignore[call-overload]
    refiner = Refiner(agnostic=agnostic).to(device, memory_format=layout)  # type: ignore[call-overload]
    weights = WEIGHTS.to(device)
    if only_evaluate:
        load_network(out / "coarse", coarse)
        load_network(out / "refiner", refiner)
    else:
        fields, often = training_fields(data)

        def coarse_loss(step: int, rng: np.random.Generator) -> Tensor:
            image, codes = draw_batch(fields, often, rng, chips=8, side=128, around=MARGIN, misregister=misregister)
            image = image.to(device).contiguous(memory_format=layout)
            return partial_loss(coarse(image), codes.to(device), weights)

        fit(coarse, coarse_loss, steps=steps, lr=1e-3, folder=out / "coarse", seed=seed, budget_s=60 * coarse_minutes,
            checkpoint_every=200)  # fmt: skip
        coarse.eval().requires_grad_(False)

        def refiner_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
            image, codes = draw_batch(fields, often, rng, chips=6, side=64, around=MARGIN + Refiner.halo)
            image, codes = image.to(device).contiguous(memory_format=layout), codes.to(device)
            with torch.no_grad():
                u = coarse(image)
            cut = Refiner.halo
            losses = [partial_loss(s[..., cut:-cut, cut:-cut], codes, weights) for s in refiner.steps(u, image)]
            before = partial_loss(u[..., cut:-cut, cut:-cut], codes, weights)
            between = torch.stack(losses[:-1]).mean()
            return {"loss": (1 - INTERMEDIATE) * losses[-1] + INTERMEDIATE * between, "last": losses[-1].detach(),
                    "coarse": before}  # fmt: skip

        fit(refiner, refiner_loss, steps=steps, lr=2e-3, folder=out / "refiner", seed=seed + 1,
            budget_s=60 * refiner_minutes, checkpoint_every=200)  # fmt: skip
    result = evaluate(coarse.eval(), refiner.eval(), evaluation_fields(data), device)
    (out / "evaluation.json").write_text(json.dumps(result, indent=1))
    return result


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--coarse-minutes", type=float, default=18)
    parser.add_argument("--refiner-minutes", type=float, default=12)
    parser.add_argument("--misregister", type=float, default=0.0, help="metres the coarse network's labels are off by")
    parser.add_argument("--agnostic", action="store_true", help="one MLP for all classes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1_000_000, help="an upper bound; the minutes rule")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--evaluate", dest="only_evaluate", action="store_true", help="score what is in --out")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    logger.info("%s", json.dumps(main(**vars(_arguments()))))
