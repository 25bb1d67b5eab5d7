"""Recipe of the alignment by one double U-Net a scale, the "normal" variant of Zampieri et al. 2018.

    python -m training.recipes.alignment_scales --data DIR --out DIR --minutes 6 --init alignment-zampieri
    python -m training.recipes.alignment_scales --data DIR --out DIR --card FOLDER    # score, and write one card

Trains the networks of factors 8, 4, 2, 1 one after another into DIR/f8, f4, f2, f1, `--minutes` each; what has
had its minutes is left as it is, so the same command continues where it stopped. Each sees patches at native
GSD x its factor only, of scenes that are fine enough (training/recipes/alignment.py), and may begin from the
scale-invariant network: a town looks much the same at twice the pixel size.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from catalogs.cards import ModelCard
from models.double_unet_scales import FACTORS, DoubleUNetScales
from pipeline.errors import SettingsError
from training.align_scores import load_trained, score_network, write_card
from training.recipes import alignment

NAME = "alignment-zampieri-scales"

FAILS = (
    "scored on synthetic smooth fields only (published Gaussians, deviation about 275 px of full resolution)",
    "1 m imagery: only factors 2 and 1 leave a house wide enough, so large displacements stay",
    "each network was fine-tuned for minutes on two CPU cores, from the scale-invariant one: none has seen the "
    "patches that a training of its own would take",
    "factors 8 and 4 have seen no scene coarser than 0.26 and 0.52 m",
)
"""Where it fails, in its card's words; its scores say how much."""


def train(data: Path, out: Path, **options: Any) -> None:
    """Train the networks of all factors, coarsest first; `options` as of alignment.main, for each of them."""
    scenes = alignment.prepare_all(data)
    for factor in FACTORS:
        alignment.main(data, out / f"f{factor}", factor=factor, scenes=scenes, **options)


def load_scales(out: Path) -> DoubleUNetScales:
    """The networks of a training's four checkpoints as one, for inference; SettingsError where one is missing."""
    missing = [f"f{factor}" for factor in FACTORS if not (out / f"f{factor}" / "checkpoint.safetensors").exists()]
    if missing:
        raise SettingsError(f"{out}: no checkpoint in {', '.join(missing)}; run the training again, without --card")
    network = DoubleUNetScales()
    for factor in FACTORS:
        network.at(factor).load_state_dict(load_trained(out / f"f{factor}").state_dict())
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def score_and_write(data: Path, out: Path, folder: Path, name: str = NAME, device: str = "cpu") -> ModelCard:
    """Score the chain with each factor's own network (also into `out/evaluation.json`); its card in `folder`."""
    network = load_scales(out)
    rows = score_network(network, data, out / "evaluation.json", device)
    return write_card(network.cpu(), folder, rows, name, FAILS)


def main_cli(arguments: Sequence[str] | None = None) -> None:
    """Command line: train all four, or with --card score them and write their card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--card", type=Path, help="score the checkpoints and write one card into this folder")
    parser.add_argument("--name", default=NAME, help="with --card: the card's name")
    parser.add_argument("--init", default=argparse.SUPPRESS, help="start from this card: its name or its folder")
    for option in ("minutes", "lr", "auxiliary"):
        parser.add_argument(f"--{option}", type=float, default=argparse.SUPPRESS, help="for each factor")
    for option in ("steps", "batch", "tower_only", "output", "curriculum", "seed"):
        parser.add_argument(f"--{option.replace('_', '-')}", type=int, default=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = vars(parser.parse_args(arguments))
    card, name = given.pop("card"), given.pop("name")
    if card is None:
        train(**given)
    else:
        score_and_write(given["data"], given["out"], card, name, given["device"])


if __name__ == "__main__":
    main_cli()
