"""Scores of the alignment chain on held-out areas: what its model card states, and how settings are chosen."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.double_unet import DoubleUNet
from models.double_unet_scales import DoubleUNetScales
from models.successor_unet import SuccessorUNet
from training.align_chain import Case, ChainSettings, make_case, misaligned, step
from training.areas import split
from training.chips import load_scenes
from training.metrics import summary, vertex_errors

if TYPE_CHECKING:
    from catalogs.cards import ModelCard

logger = logging.getLogger(__name__)

Network = DoubleUNet | DoubleUNetScales
"""One network for every factor, or one for each."""

NETWORKS: dict[type, str] = {
    DoubleUNet: "double_unet",
    DoubleUNetScales: "double_unet_scales",
    SuccessorUNet: "successor_unet",
}
"""Names of the networks on cards."""

CASES = {"banepa_np": 1400, "massachusetts_us_b": 1200, "zanzibar_tz_b": 1400, "catanduanes_ph_b": 1400}
"""Evaluation areas and the side, px, of the middle part that is scored (a choice of settings needs no more)."""

COARSEST_GSD = 2.1
"""Factors that make pixels coarser than this are left out: the network never saw them."""

TRAINED_ON = (
    "bakerlake_ca_1",
    "banepa_np (southern block)",
    "catanduanes_ph_a",
    *(f"massachusetts_us_{letter}" for letter in "acdefgh"),
    "rio_br_a",
    "vegas_us (left 60 %)",
    "zanzibar_tz_a",
)

FAILS = (
    "scored on synthetic smooth fields only (published Gaussians, deviation about 275 px of full resolution); "
    "the smoothing that scores best here averages away what differs from one building to the next",
    "what already lies well: from factor 8 true polygons are moved by about 3 px, which the finer factors bring "
    "back to about 1 px; begin at factor 4 where 8 px is the most to expect",
    "1 m imagery: only factors 2 and 1 leave a house wide enough, so displacements beyond 8 px stay "
    "(massachusetts_us_b, 32 px fields)",
    "sparse buildings and unroofed ruins: zanzibar_tz_b keeps a median of 4 px of 9 (32 px fields) and gains "
    "nothing to speak of with 8 px fields",
    "a short training on two CPU cores: 1 854 steps of 6 to 8 patches of 48 to 64 px, rate annealed by time",
)


def load_trained(folder: Path) -> DoubleUNet:
    """The network of a training's checkpoint, without the head that is thrown away; for inference."""
    from safetensors.torch import load_file

    prefix = "network.network."  # the loop's, then the trainee's
    tensors = load_file(folder / "checkpoint.safetensors")
    network = DoubleUNet()
    network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def load_cases(data: Path, sides: dict[str, int]) -> list[Case]:
    """Evaluation areas by name, cut to their middle."""
    cases = []
    for name, side in sides.items():
        (scene,) = load_scenes(data, [name])
        cases.append(make_case(scene, split(scene)[1], side))
    return cases


def settings_for(gsd: float, largest: float, coarsest: float = COARSEST_GSD) -> ChainSettings:
    """The chain's steps that keep pixels within the GSD that the network was trained at, and that do not start
    coarser than the error needs: the coarsest factor moves what lies well by two pixels or three.

    `largest` is the largest displacement expected, px of full resolution.
    """
    first = 8 if largest > 16 else 4
    steps = [s for s in ChainSettings().steps if s[0] <= first and gsd * s[0] <= coarsest * 1.01]
    return ChainSettings(steps=tuple(steps or [(1, 48.0)]))


def at(network: Network, factor: int) -> DoubleUNet:
    """The network that the chain takes at `factor`."""
    return network.at(factor) if isinstance(network, DoubleUNetScales) else network


def score(
    network: Network, case: Case, settings: ChainSettings, largest: float, seeds: Iterable[int], device: str = "cpu"
) -> list[dict[str, Any]]:
    """One row before the chain and one after each step, over all fields together: summary in px and metres."""
    cadasters = misaligned(case, largest, list(seeds))
    rows = [_row(case, "before", cadasters, 0.0)]
    began = time.monotonic()
    for factor, sigma in settings.steps:
        cadasters = [step(at(network, factor), case, coords, factor, sigma, settings, device) for coords in cadasters]
        rows.append(_row(case, f"factor {factor}", cadasters, time.monotonic() - began))
    return rows


def _row(case: Case, stage: str, cadasters: Sequence[Any], seconds: float) -> dict[str, Any]:
    errors = np.concatenate([vertex_errors(c[case.scored], case.coords[case.scored]) for c in cadasters])
    figures = {name: round(value, 4) for name, value in summary(errors).items()}
    return {"scene": case.name, "stage": stage, **figures, "seconds": round(seconds, 1)}


def score_checkpoint(data: Path, out: Path, device: str = "cpu", fields: int = 2) -> list[dict[str, Any]]:
    """score_network of a training's checkpoint; also written to `out/evaluation.json`."""
    return score_network(load_trained(out), data, out / "evaluation.json", device, fields)


def score_network(
    network: Network, data: Path, to: Path, device: str = "cpu", fields: int = 2
) -> list[dict[str, Any]]:
    """Score a network with the default settings on CASES, fields of 32 and 8 px; also written to the file `to`."""
    network, rows = network.to(device), []
    for case in load_cases(data, CASES):
        for largest in (32.0, 8.0):
            settings = settings_for(case.gsd, largest)
            for row in score(network, case, settings, largest, range(fields), device):
                rows.append({"largest": largest, **row})
                logger.info("%s", rows[-1])
    to.write_text(json.dumps(rows, indent=1))
    return rows


def write_card(
    network: Network | SuccessorUNet,
    folder: Path,
    rows: Sequence[dict[str, Any]],
    name: str = "alignment-zampieri",
    fails: Sequence[str] = FAILS,
    settings: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
) -> ModelCard:
    """Card and weights of a network in `folder/name`, with the scores of `rows` (as score_network gives them):
    before and after the whole chain for each scene and largest displacement, px of full resolution.

    `extra` joins what the card says; the successor's weights are kept in half precision.
    """
    from catalogs.cards import save_card
    from training.areas import EVALUATION_SCENES

    scores = {}
    for row in rows:
        when = "before" if row["stage"] == "before" else "after"  # the last stage's stands
        for figure in ("median", "mean", "within_2", "within_4"):
            scores[f"{row['scene']}_{row['largest']:g}px_{when}_{figure}"] = row[figure]
    weights = network.state_dict()
    if isinstance(network, SuccessorUNet):
        weights = {key: tensor.half() for key, tensor in weights.items()}
    return save_card(
        folder,
        name=name,
        task="alignment",
        network=NETWORKS[type(network)],
        settings=settings or {},
        bands=1,
        gsd=(0.1, 1.2),
        native_gsd=0.15,
        classes=(),
        halo=network.halo,
        stride=network.stride,
        licence="Apache-2.0",
        trained_on=TRAINED_ON,
        evaluated_on=("banepa_np (northern block)", *EVALUATION_SCENES[:3]),
        scores=scores,
        fails=tuple(fails),
        weights=weights,
        extra={
            "chain": {"steps": [list(s) for s in ChainSettings().steps], "outline": 1.0, "inside": 0.1},
            "coarsest_gsd": COARSEST_GSD,
            **(extra or {}),
        },
    )
