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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.coarse_fcn import MARGIN, CoarseFCN
from models.refiner import Refiner
from training.class_fields import Field, cut_pool, draw_batch, evaluation_fields, kept_fields
from training.loop import fit, load_network
from training.metrics_classes import count, figures, total
from training.targets_classes import UNKNOWN, partial_loss

logger = logging.getLogger(__name__)

WEIGHTS = torch.tensor([1.5, 2.0, 1.0, 1.0, 1.0, 0.0])
"""Weights of the codes: buildings and roads are few."""

INTERMEDIATE = 0.3
"""Share of the refiner's loss that is taken over iterations 1 to 4."""


@torch.no_grad()
def predict(
    coarse: CoarseFCN,
    refiner: Refiner | None,
    image: NDArray[np.uint8],
    device: str = "cpu",
    wanted: NDArray[np.bool_] | None = None,
) -> list[Tensor]:
    """Scores (3, H, W) on a whole field: coarse, then after each iteration. As the pipeline does it: fixed
    windows of core 256 and halo 48, so that the figures are those of a run. Windows
    without a pixel of `wanted` (H, W) are left at 0."""
    height, width = image.shape[1:]
    core, halo = 256, 48
    rows, columns = -(-height // core), -(-width // core)
    padded = np.zeros((3, rows * core + 2 * halo, columns * core + 2 * halo), np.uint8)
    padded[:, halo : halo + height, halo : halo + width] = image
    steps = 1 if refiner is None else 1 + refiner.iterations
    out = [torch.zeros(3, rows * core, columns * core) for _ in range(steps)]
    for y in range(0, rows * core, core):
        for x in range(0, columns * core, core):
            if wanted is not None and not wanted[y : y + core, x : x + core].any():
                continue
            window = torch.from_numpy(padded[:, y : y + core + 2 * halo, x : x + core + 2 * halo]).float()[None] / 255
            window = window.to(device).contiguous(memory_format=torch.channels_last)
            u = coarse(window)
            states = [u] if refiner is None else [u, *refiner.steps(u, window)]
            cut = halo - MARGIN
            for whole, state in zip(out, states, strict=True):
                whole[:, y : y + core, x : x + core] = state[0, :, cut:-cut, cut:-cut].cpu()
    return [scores[:, :height, :width] for scores in out]


@torch.no_grad()
def refiner_pool(
    coarse: CoarseFCN, fields: Sequence[Field], often: NDArray[np.float64], seed: int, chips: int = 240
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Chips (scores, image, codes) with the frozen network's scores, computed once; the first two 10 px wider."""
    rng, pool = np.random.default_rng([seed, 5]), []
    device = coarse.conv1.weight.device
    for _ in range(chips // 4):
        image, codes = draw_batch(fields, often, rng, chips=4, side=128, around=MARGIN + Refiner.halo)
        image = image.to(device)
        scores = coarse(image.contiguous(memory_format=torch.channels_last))
        pool += list(zip(scores, image[..., MARGIN:-MARGIN, MARGIN:-MARGIN], codes.to(device), strict=True))
    return pool


def evaluate(
    coarse: CoarseFCN, refiner: Refiner | None, fields: Sequence[Field], device: str = "cpu"
) -> dict[str, Any]:
    """Figures by field and over all, one list entry an iteration (the first: coarse)."""
    counted: dict[str, list[Any]] = {}
    for field in fields:
        states = predict(coarse, refiner, field.image, device, field.codes != UNKNOWN)
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
    torch.manual_seed(seed)
    layout = torch.channels_last
    coarse = CoarseFCN().to(device, memory_format=layout)  # type: ignore[call-overload]
    refiner = Refiner(agnostic=agnostic).to(device, memory_format=layout)  # type: ignore[call-overload]
    weights = WEIGHTS.to(device)
    if only_evaluate:
        load_network(out / "coarse", coarse)
        load_network(out / "refiner", refiner)
    else:
        fields, often = kept_fields(out / "fields.npz", data)

        def coarse_loss(step: int, rng: np.random.Generator) -> Tensor:
            image, codes = draw_batch(fields, often, rng, chips=4, side=128, around=MARGIN, misregister=misregister)
            image = image.to(device).contiguous(memory_format=layout)
            return partial_loss(coarse(image), codes.to(device), weights)

        fit(coarse, coarse_loss, steps=steps, lr=1e-3, folder=out / "coarse", seed=seed, budget_s=60 * coarse_minutes,
            checkpoint_every=200)  # fmt: skip
        coarse.eval().requires_grad_(False)

        pool = refiner_pool(coarse, fields, often, seed=seed)

        def refiner_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
            u, image, codes = cut_pool(pool, rng, chips=6, side=64, around=Refiner.halo)
            u, image = (x.contiguous(memory_format=layout) for x in (u, image))
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
