"""The constants of the gate's verdict on roads, from training areas alone.

    python -m benchmarks.alignment_roads_gate --data DIR [--card alignment-roads] [--models DIR] [--rounds 6]

Areas: drawn scenes of seeds that neither training nor benchmarks.alignment_roads has, and the left part of
vegas_roads_us. Each is moved off by fields of up to 32 and 8 px and searched. Of each row: did its vertices end,
in the mean, within 2 px of the true line? A logistic regression of that on the evidence gives pipeline.stages.gate's
LINE_WEIGHTS, every area counting alike; a table of mean px across for several limits shows what ABSTAIN_ROADS does.
Also says how far off the labelled lines of vegas_roads_us lie from the map's roads, as one shift of all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.alignment_roads import (
    Array,
    Found,
    errors,
    gated,
    layer_of,
    means,
    nearness,
    search,
    tensor_of,
)
from benchmarks.regression import logistic
from pipeline.kernels import edges
from pipeline.networks import load
from pipeline.stages import gate
from training.align_chain import Case
from training.areas import split
from training.chips import LabelledScene, drawn_scene, load_scenes
from training.chips_roads import in_place
from training.city import city
from training.city_roads import road_scene
from training.deform import misalign

DRAWN = (("streets", 0.3), ("country", 0.5), ("car park", 0.3), ("streets", 0.5), ("car park", 0.5), ("country", 0.3))
NAMES = ("clear", "last", "own", "constant")
LIMITS = (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8)


@dataclass(frozen=True, slots=True)
class Trial:
    """A layer moved off and searched: where it began, what was found, and each vertex's px across, before and after."""

    name: str
    largest: float
    case: Case
    start: Array
    found: Found
    before: Array
    after: Array


def areas(data: Path, rounds: int) -> Iterator[tuple[str, LabelledScene, Any]]:
    """Training areas: name, scene, mask (h, w)."""
    for turn in range(rounds):
        for number, (kind, gsd) in enumerate(DRAWN):
            scene = road_scene(800, gsd, 8000 + 10 * turn + number, kind)
            yield f"{kind} {gsd} {turn}", scene, scene.labelled
        scene = drawn_scene(city((800, 800), (0.3, 0.5)[turn % 2], 8200 + turn))
        yield f"city {scene.gsd} {turn}", scene, scene.labelled
    (scene,) = load_scenes(data, ["vegas_roads_us"])
    yield "vegas, left part", in_place(scene), split(scene)[0]


def trials(network: Any, data: Path, rounds: int, fields: int) -> Iterator[Trial]:
    """All areas, moved off by fields of both sizes."""
    for name, scene, area in areas(data, rounds):
        case = layer_of(scene, area, "roads")
        near = nearness(network, case)
        for largest in (32.0, 8.0):
            for seed in range(fields):
                start = misalign(case.coords, largest, np.random.default_rng([50 + seed, round(largest)]))
                found = search(case, start, near)
                yield Trial(name, largest, case, start, found, errors(case, start, True)[1],
                            errors(case, found.coords, True)[1])  # fmt: skip


def evidence(trial: Trial) -> tuple[Array, Array]:
    """Of each row with a scored vertex: the regression's columns (n, 4) as `gate.chance` takes them, and whether it
    ended within 2 px (n)."""
    off = np.full(len(trial.case.coords), np.nan)
    off[trial.case.scored] = trial.after
    counts = means(trial.case, trial.case.scored.astype(float))
    off = means(trial.case, np.nan_to_num(off)) / np.maximum(counts, 1e-9)
    found = trial.found
    columns = [*gate.terms(found.clear, found.last, found.own), np.ones(len(off))]
    return np.column_stack(columns)[counts > 0], (off <= 2)[counts > 0].astype(float)


def main(data: Path, network: Any, rounds: int, fields: int) -> None:
    """Print the regression, how well it is calibrated, and what limits do."""
    everything = list(trials(network, data, rounds, fields))
    parts = [evidence(trial) for trial in everything]
    columns, answer = (np.concatenate(part) for part in zip(*parts, strict=True))
    weight = np.concatenate([np.full(len(part[1]), 100 / max(len(part[1]), 1)) for part in parts])
    found = logistic(columns, answer, weight)
    chance = 1 / (1 + np.exp(-columns @ found))
    weights = dict(zip(NAMES, found.round(3).tolist(), strict=True))
    print("LINE_WEIGHTS =", weights, f"of {len(answer)} rows, {100 * np.average(answer, weights=weight):.0f} % within")
    for fifth in np.array_split(np.argsort(chance), 5):
        print(f"  said {chance[fifth].mean():.2f}, were {answer[fifth].mean():.2f}")
    print("mean px across: area, field, before, searched, then for limits", *LIMITS)
    for name, largest in dict.fromkeys((trial.name, trial.largest) for trial in everything):
        some = [trial for trial in everything if (trial.name, trial.largest) == (name, largest)]
        row = [np.mean([trial.before.mean() for trial in some]), np.mean([trial.after.mean() for trial in some])]
        for least in LIMITS:
            ends = [gated(trial.case, trial.start, trial.found, weights, least)[0] for trial in some]
            across = [errors(t.case, end, True)[1].mean() for t, end in zip(some, ends, strict=True)]
            row.append(np.mean(across))
        print(f"{name:18s} {largest:2.0f}", *(f"{value:5.2f}" for value in row))
    (scene,) = load_scenes(data, ["vegas_roads_us"])
    case = layer_of(scene, split(scene)[0], "roads")
    fit, _ = edges.rate(tensor_of(nearness(network, case), case, 1), case.coords, case.ring_offsets,
                        np.zeros(len(case.ring_offsets) - 1, np.int64), 1, 12)  # fmt: skip
    print("the labelled lines of vegas_roads_us fit best when moved by", edges.peaks(fit)[0, :2].round(1), "px")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--card", default="alignment-roads")
    parser.add_argument("--models", help="a folder of cards other than the shipped")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--fields", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    main(given.data, load(given.card, given.models, "cpu"), given.rounds, given.fields)
