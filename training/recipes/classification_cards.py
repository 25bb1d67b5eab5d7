"""Cards and weights of the two classification networks from a finished training.

    python -m training.recipes.classification_cards --out DIR [--models catalogs/models]

Reads DIR/coarse, DIR/refiner and DIR/evaluation.json as `training.recipes.classification` leaves them. What the
cards say of failures was written by someone who looked at the maps; look again after another training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from catalogs.cards import MODELS, save_card
from models.coarse_fcn import CLASSES, CoarseFCN
from models.refiner import Refiner
from training.class_fields import EVALUATION, TRAINING
from training.loop import load_network

SOURCES = (*(f"{name} (training area)" for name in TRAINING), "procedural cities", "roads drawn by hand in two areas")
AREAS = tuple(f"{name} at {gsd} m (evaluation area)" for name, gsd in EVALUATION.items())
LICENCE = "Apache-2.0"
FAILS = (
    "Roads are learned from few real examples (hand-drawn lines in two training areas, one small scene with road "
    "polygons, centre lines of one car park) and from procedural cities: bare ground, greenhouses, car parks and flat "
    "concrete roofs are taken for road, dirt roads and narrow alleys are missed.",
    "Woods and water: in bakerlake_ca_2, a lake shore with five houses, tree crowns and reflections are taken for "
    "buildings and roads (building IoU 0.12, road IoU 0.05).",
    "Outlines are coarse, some 2 m; small houses at 1 m a pixel come out merged or too fat (massachusetts_us_b, "
    "building IoU 0.38).",
    "Party walls: it says where buildings are, not which; the mask network parts them.",
    "Trees over roofs, unroofed ruins and roofs as bright or as brown as the ground beside them are missed.",
    "Nodata comes out as road: mask it.",
    "Outside 0.5 to 1.2 m a pixel, on single-band images, and by night, haze or snow it was never tried.",
)
REFINER_FAILS = (
    "Trained for 17 minutes at a quarter of a core, 835 steps where the paper took 50 000: it gains 0.7 points of "
    "building IoU and 1.8 of road IoU over the coarse map, not the factors of the paper, whose coarse map was trained "
    "on misregistered labels; in vegas_us (40 houses) it loses 0.6 and in bakerlake_ca_2 background loses 0.2.",
)


def flat(evaluation: dict[str, list[dict[str, float]]], iteration: int) -> dict[str, float]:
    """One number a name, `<scene>: <measure>`, at an iteration (0: coarse; -1: the last)."""
    return {
        f"{scene}: {name}": value for scene, steps in evaluation.items() for name, value in steps[iteration].items()
    }


def publish(out: Path, models: Path = MODELS) -> None:
    """Write catalogs/models/coarse-maggiori and refiner-maggiori."""
    evaluation = json.loads((out / "evaluation.json").read_text())
    coarse, refiner = CoarseFCN(), Refiner()
    steps = {"coarse": load_network(out / "coarse", coarse), "refiner": load_network(out / "refiner", refiner)}
    seconds = {
        name: json.loads((out / name / "checkpoint.json").read_text())["seconds"] for name in ("coarse", "refiner")
    }
    shared: dict[str, Any] = {
        "bands": 3, "gsd": (0.5, 1.2), "native_gsd": 0.7, "classes": CLASSES, "licence": LICENCE,
        "trained_on": SOURCES, "evaluated_on": AREAS,
    }  # fmt: skip
    command = "python -m training.recipes.classification --data DIR --out OUT --coarse-minutes 31 --refiner-minutes 17"
    history = (
        "the coarse network's first 1 600 steps went without the rule that vegetation and brown ground are no road"
    )
    for name, network, module, task, iteration in (
        ("coarse-maggiori", coarse, "coarse_fcn", "coarse", 0),
        ("refiner-maggiori", refiner, "refiner", "refiner", -1),
    ):
        extra: dict[str, Any] = {"command": command, "history": history}
        extra |= {"steps": steps[task], "seconds": round(seconds[task])}
        if task == "refiner":
            extra["by_iteration"] = {
                measure: [step.get(measure) for step in evaluation["all"]] for measure in evaluation["all"][0]
            }
            extra["on_top_of"] = "coarse-maggiori"
        kind = type(network)
        save_card(
            models, name=name, task=task, network=module, settings={}, halo=kind.halo, stride=kind.stride,
            scores=flat(evaluation, iteration), weights=network.state_dict(), extra=extra,
            fails=(REFINER_FAILS if task == "refiner" else ()) + FAILS, **shared,
        )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=MODELS)
    arguments = parser.parse_args()
    publish(arguments.out, arguments.models)
