"""Recipe of noisy supervision in rounds: train on the map as it is, align the *original* map with the model, train
on that (Girard et al. 2019).

    resurvey train alignment --rounds 2 --data DIR --out DIR --minutes 6   # continues where it stopped

A short training cannot learn by heart how each label is off, so it learns what they have in common: where buildings
are. Each round aligns the labels as they first were, not the last round's. A round begins with the weights of the
round before, whose images it knows, and without the true raster in the image, which only frees a new network from the
zero field: a choice of cost, not one measured against a fresh start.

Measured with 1 659 labels each off by 4 px per axis and short trainings (900, 450, 450 steps at width 0.25): one round
took their median error from 4.7 to 2.8 px, a second to 2.6 (2.7 where it trained on the first labels again: no
difference that this many buildings tell), a third back to 2.7. So two rounds are the default.

`--misalign-px` puts labels that are right off on purpose, and `rounds.jsonl` then says how far they are before and
after each round. In the folder:

    settings.json           what the labels depend on; another run's are refused
    labels_0/NAME.npy       the labels as they first were, (n, 2) px
    labels_K/NAME.npy       these, aligned with round K's network; round K + 1 trains on them
    round_K/                log and checkpoint (training/loop.py) of round K
    rounds.jsonl            a line a round
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

from models.successor_unet import SuccessorUNet
from pipeline.errors import SettingsError
from training.align_successor import ALONE, TOGETHER, Steps, align, inside, owners, relabelled, within
from training.deform import misalign
from training.loop import fit, load_network
from training.metrics import summary, vertex_errors
from training.patches import PreparedScene
from training.patches_rounds import cut_own, to_own_batch
from training.recipes.alignment import COARSEST_GSD, blends, field_bank, place_weights, prepare_all
from training.recipes.alignment_successor import losses

logger = logging.getLogger(__name__)
Array = NDArray[np.float64]

HELD_OUT_PX, HELD_OUT_SEED = 8.0, 8
"""The held-out block's cadaster is off by one published field of at most so many px."""


def put_off(scene: PreparedScene, own_px: float, field_px: float, rng: np.random.Generator) -> Array:
    """The scene's vertices (n, 2), misaligned on purpose: every polygon shifted by a normal draw of deviation `own_px`
    px per axis, independent of its neighbours, and all moved by a published field of at most `field_px` px."""
    coords = misalign(scene.coords, field_px, rng) if field_px > 0 else scene.coords
    shifts = own_px * rng.standard_normal((len(scene.polygon_offsets) - 1, 2))
    return np.asarray(coords + shifts[owners(scene)])


def main(
    data: Path,
    out: Path,
    *,
    rounds: int = 2,
    scenes: Sequence[str] | None = None,
    misalign_px: float = 0.0,
    misalign_field_px: float = 0.0,
    keep_labels: bool = False,
    steps: int = 100000,
    minutes: float | None = None,
    later: float = 0.5,
    width: float = 0.25,
    batch: int = 4,
    output: int = 64,
    lr: float = 1e-3,
    curriculum: int = 250,
    fading: int = 400,
    auxiliary: float = 10.0,
    coarsest: float = COARSEST_GSD,
    finest: int = 1,
    seed: int = 0,
    device: str = "cpu",
    bfloat16: bool = False,
    threads: int | None = None,
) -> None:
    """Train `rounds` rounds into `out`: the first at most `steps` steps or `minutes` minutes of training, the others,
    which begin with a trained network, the share `later` of that.

    `scenes` names the training scenes, all of `data` unless given. `coarsest` is the coarsest GSD, m, of patches and
    of the re-aligning, `finest` (1, 2, 4) the finest factor: 2 is a quarter of the work where labels are far off.
    `misalign_px` and `misalign_field_px` put labels off on purpose (`put_off`). `keep_labels` trains every round on
    the first labels: the control, as long a training without what is to be shown.
    Raises SettingsError where `out` holds other labels, or `scenes` names one that is not there.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    known, held_out = prepare_all(data)
    known = [within(scene) for scene in _named(known, scenes)]
    _same_settings(
        out,
        {"scenes": [s.name for s in known], "misalign_px": misalign_px, "misalign_field_px": misalign_field_px,
         "keep_labels": keep_labels, "width": width, "coarsest": coarsest, "finest": finest, "seed": seed},
    )  # fmt: skip
    first = [
        _kept(out / "labels_0", scene, put_off(scene, misalign_px, misalign_field_px, np.random.default_rng([seed, i])))
        for i, scene in enumerate(known)
    ]
    away = misalign_px > 0 or misalign_field_px > 0
    weights, bank = place_weights(known), field_bank(seed)
    torch.manual_seed(seed)
    network = SuccessorUNet(width).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    precision = torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=bfloat16)

    def train(number: int, labelled: Sequence[PreparedScene]) -> None:
        def batch_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
            chosen = rng.choice(len(labelled), batch, p=weights)
            pairs = to_own_batch(
                [cut_own(labelled[i], rng, bank[rng.integers(len(bank))], output=output, halo=network.halo,
                         coarsest=coarsest, finest=finest) for i in chosen], device,
            )  # fmt: skip
            blend = blends(step, curriculum if number == 1 else 0, rng, batch).to(device)
            coarse = 0.5 * max(0.0, 1 - step / max(fading, 1)) if number == 1 else 0.0
            with precision:
                return losses(network, pairs, blend, auxiliary, coarse)

        share = 1.0 if number == 1 else later
        fit(
            network, batch_loss, steps=max(1, round(share * steps)), lr=lr, folder=out / f"round_{number}",
            seed=seed + number - 1, checkpoint_every=100, clip=5.0,
            budget_s=None if minutes is None else share * minutes * 60,
        )  # fmt: skip

    alone, together = (tuple(step for step in chain if step[0] >= finest) for chain in (ALONE, TOGETHER))
    labels = first
    for number in range(1, rounds + 1):
        line = _told(out, number)
        if line is None:
            if number > 1:
                load_network(out / f"round_{number - 1}", network)
            train(number, [relabelled(scene, coords) for scene, coords in zip(known, labels, strict=True)])
            network.eval()
            with precision:
                aligned = [
                    _kept(out / f"labels_{number}", scene, align(network, scene, coords, alone, coarsest, device))
                    for scene, coords in zip(known, first, strict=True)
                ]
                line = {"round": number, **(label_figures(known, labels, aligned) if away else {})}
                line["held_out"] = held_out_figures(network, within(held_out), together, coarsest, device)
            logger.info("%s", line)
            with (out / "rounds.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        if not keep_labels:
            labels = [np.load(out / f"labels_{number}" / f"{scene.name}.npy") for scene in known]


def label_figures(
    scenes: Sequence[PreparedScene], trained_on: Sequence[Array], aligned: Sequence[Array]
) -> dict[str, Any]:
    """Errors, px, of the labels that a round trained on and of those that it gave, over the vertices of polygons that
    count: of all scenes together, and medians by scene."""
    result: dict[str, Any] = {}
    for when, labels in (("trained_on", trained_on), ("aligned", aligned)):
        errors = [vertex_errors(c, s.coords)[inside(s, s.coords)] for s, c in zip(scenes, labels, strict=True)]
        result[when] = _rounded(summary(np.concatenate(errors)))
        result[when]["by_scene"] = {s.name: round(float(np.median(e)), 3) for s, e in zip(scenes, errors, strict=True)}
    return result


def held_out_figures(
    network: SuccessorUNet, scene: PreparedScene, steps: Steps, coarsest: float, device: str
) -> dict[str, Any]:
    """Errors, px, of the held-out block's cadaster moved off by a published field: before and after the chain."""
    cadaster = misalign(scene.coords, HELD_OUT_PX, np.random.default_rng(HELD_OUT_SEED))
    counts = inside(scene, scene.coords)
    after = align(network, scene, cadaster, steps, coarsest, device)
    return {
        when: _rounded(summary(vertex_errors(coords, scene.coords)[counts]))
        for when, coords in (("before", cadaster), ("after", after))
    }


def _named(scenes: list[PreparedScene], names: Sequence[str] | None) -> list[PreparedScene]:
    found = [scene.name for scene in scenes]
    missing = [name for name in names or () if name not in found]
    if missing:
        raise SettingsError(f"--scenes {' '.join(missing)}: trains on nothing; there are {', '.join(found)}")
    return [scene for scene in scenes if names is None or scene.name in names]


def _same_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings, or refuse a folder that was begun with others."""
    path = out / "settings.json"
    if path.exists():
        there = json.loads(path.read_text())
        other = [f"{name} {there.get(name)}" for name, value in settings.items() if there.get(name) != value]
        if other:
            raise SettingsError(f"--out {out}: was begun with {', '.join(other)}; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


def _kept(folder: Path, scene: PreparedScene, coords: Array) -> Array:
    """The scene's labels in `folder`: those that are there, or else `coords`, now written."""
    path = folder / f"{scene.name}.npy"
    if path.exists():
        return np.asarray(np.load(path))
    folder.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp.npy")
    np.save(beside, coords)
    beside.replace(path)
    return coords


def _told(out: Path, number: int) -> dict[str, Any] | None:
    """The line of a round that is done."""
    path = out / "rounds.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    return next((line for line in lines if line["round"] == number), None)


def _rounded(figures: dict[str, float]) -> dict[str, Any]:
    return {name: round(value, 3) for name, value in figures.items()}


def main_cli(arguments: Sequence[str] | None = None) -> None:
    """Command line: train in rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", nargs="+", default=argparse.SUPPRESS)
    for option in ("minutes", "later", "width", "lr", "auxiliary", "coarsest", "misalign_px", "misalign_field_px"):
        parser.add_argument(f"--{option.replace('_', '-')}", type=float, default=argparse.SUPPRESS)
    for option in ("rounds", "steps", "batch", "output", "curriculum", "fading", "finest", "seed", "threads"):
        parser.add_argument(f"--{option}", type=int, default=argparse.SUPPRESS)
    parser.add_argument("--device", default=argparse.SUPPRESS)
    parser.add_argument("--bfloat16", action="store_true", help="convolutions in bfloat16")
    parser.add_argument("--keep-labels", action="store_true", help="the control: every round on the first labels")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    main_cli()
