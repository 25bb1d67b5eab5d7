"""Scores of the alignment chain on held-out areas: what its model card states, and how settings are chosen."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.double_unet import DoubleUNet
from training.align_chain import Case, ChainSettings, make_case, misaligned, step
from training.areas import split
from training.chips import load_scenes
from training.metrics import summary, vertex_errors

logger = logging.getLogger(__name__)

CASES = {"banepa_np": 1400, "massachusetts_us_b": 1200, "zanzibar_tz_b": 1400, "catanduanes_ph_b": 1400}
"""Evaluation areas and the side, px, of the middle part that is scored (a choice of settings needs no more)."""

COARSEST_GSD = 2.1
"""Factors that make pixels coarser than this are left out: the network never saw them."""


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


def factors_for(gsd: float, factors: Sequence[int] = (8, 4, 2, 1), coarsest: float = COARSEST_GSD) -> tuple[int, ...]:
    """The factors that keep pixels within the GSD that the network was trained at."""
    return tuple(f for f in factors if gsd * f <= coarsest * 1.01) or (1,)


def score(
    network: DoubleUNet, case: Case, settings: ChainSettings, largest: float, seeds: Iterable[int], device: str = "cpu"
) -> list[dict[str, Any]]:
    """One row before the chain and one after each step, over all fields together: summary in px and metres."""
    cadasters = misaligned(case, largest, list(seeds))
    rows = [_row(case, "before", cadasters, 0.0)]
    began = time.monotonic()
    for factor in settings.factors:
        for turn in range(settings.passes):
            cadasters = [step(network, case, coords, factor, settings, device) for coords in cadasters]
            rows.append(_row(case, f"f{factor}p{turn + 1}", cadasters, time.monotonic() - began))
    return rows


def _row(case: Case, stage: str, cadasters: Sequence[Any], seconds: float) -> dict[str, Any]:
    errors = np.concatenate([vertex_errors(c[case.scored], case.coords[case.scored]) for c in cadasters])
    figures = {name: round(value, 4) for name, value in summary(errors).items()}
    return {"scene": case.name, "stage": stage, **figures, "seconds": round(seconds, 1)}


def score_checkpoint(data: Path, out: Path, device: str = "cpu", fields: int = 2) -> list[dict[str, Any]]:
    """Score a training's checkpoint with the default settings on CASES, fields of 32 and 8 px; also written to
    `out/evaluation.json`."""
    network = load_trained(out).to(device)
    rows = []
    for case in load_cases(data, CASES):
        for largest in (32.0, 8.0):
            settings = ChainSettings(factors=factors_for(case.gsd))
            for row in score(network, case, settings, largest, range(fields), device):
                rows.append({"largest": largest, **row})
                logger.info("%s", rows[-1])
    (out / "evaluation.json").write_text(json.dumps(rows, indent=1))
    return rows
