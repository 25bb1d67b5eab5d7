"""Scores and card of the successor's network (Girard et al. 2018, 2019), weights kept in half precision.

    python -m training.recipes.alignment_successor_card --data DIR --out TRAINING --card catalogs/models
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.successor_unet import SuccessorUNet, mark_vertices, polygon_rasters
from training.align_chain import CORE, Case, ChainSettings, misaligned, polygons_of, sample, smooth
from training.align_scores import CASES, load_cases, settings_for, write_card
from training.loop import load_network
from training.metrics import summary, vertex_errors
from training.patches import draw

NAME = "alignment-successor"
logger = logging.getLogger(__name__)
Array = NDArray[np.float64]

FAILS = (
    "scored on synthetic smooth fields only (published Gaussians, deviation about 275 px of full resolution)",
    "half the published width (2.3 of 9.35 million parameters) and a short training on two CPU cores, a thousandth of "
    "the published number of patches",
    "the segmentation head sees buildings that the map lacks only weakly (AUC 0.81 without any polygon drawn)",
    "labels of several scenes are themselves off from the image by 1 to 3 px: errors there say little below that",
)


def step(
    network: SuccessorUNet, case: Case, coords: Array, factor: int, sigma: float, settings: ChainSettings
) -> Array:
    """One pass of the chain at one factor, as training/align_chain.py's, with the three rasters of this network."""
    gray = case.bands[factor].mean(axis=0, dtype=np.float32)
    drawn = draw(polygons_of(case, coords, factor), gray.shape)
    halo, (height, width) = network.halo, gray.shape
    pad = ((halo, halo + CORE - height % CORE), (halo, halo + CORE - width % CORE))
    image, cadaster = np.pad(gray, pad), np.pad(drawn, pad)
    marks = mark_vertices(torch.from_numpy(coords / factor + halo), *image.shape)
    field, side = np.zeros((2, height, width), np.float32), CORE + 2 * halo
    with torch.inference_mode():
        for y in range(0, height, CORE):
            for x in range(0, width, CORE):
                if not cadaster[y + halo : y + halo + CORE, x + halo : x + halo + CORE].any():
                    continue
                cut = np.s_[None, None, y : y + side, x : x + side]
                seen, polygons = torch.from_numpy(image[cut]), torch.from_numpy(cadaster[cut])
                rasters = polygon_rasters(polygons, marks[None, :, y : y + side, x : x + side])
                core = network.displace(seen, rasters)[0].float().numpy()
                h, w = min(CORE, height - y), min(CORE, width - x)
                field[:, y : y + h, x : x + w] = core[:, :h, :w]
    weight = np.where(drawn == 1, np.float32(settings.outline), np.float32(settings.inside) * (drawn > 0))
    return coords + factor * sample(smooth(field, weight.astype(np.float32), sigma), coords / factor)


def score(network: SuccessorUNet, data: Path, fields: int = 2) -> list[dict[str, Any]]:
    """Rows as align_scores.score_network gives them: before, and after each step, for fields of 32 and 8 px."""
    rows = []
    for case in load_cases(data, CASES):
        for largest in (32.0, 8.0):
            settings, cadasters = settings_for(case.gsd, largest), misaligned(case, largest, range(fields))
            for factor, sigma in ((0, 0.0), *settings.steps):
                if factor:
                    cadasters = [step(network, case, coords, factor, sigma, settings) for coords in cadasters]
                errors = np.concatenate([vertex_errors(c[case.scored], case.coords[case.scored]) for c in cadasters])
                figures = {name: round(value, 4) for name, value in summary(errors).items()}
                name = f"factor {factor}" if factor else "before"
                rows.append({"largest": largest, "scene": case.name, "stage": name, **figures})
                logger.info("%s", rows[-1])
    return rows


def write(out: Path, folder: Path, rows: list[dict[str, Any]], width: float) -> None:
    """Card and weights of the checkpoint in `out`, with the scores of `rows`, as `folder`/NAME."""
    network = SuccessorUNet(width)
    load_network(out, network)
    write_card(network, folder, rows, NAME, FAILS, {"width": width}, {"preferred": True})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the training's folder")
    parser.add_argument("--card", type=Path, required=True, help="folder of cards")
    parser.add_argument("--width", type=float, default=0.5)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    trained = SuccessorUNet(given.width)
    load_network(given.out, trained)
    found = score(trained.eval().to(memory_format=torch.channels_last), given.data)  # type: ignore[call-overload]
    (given.out / "evaluation.json").write_text(json.dumps(found, indent=1))
    write(given.out, given.card, found, given.width)
