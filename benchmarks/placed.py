"""Where polygons of evaluation areas truly lie, as readers placed them by eye (benchmarks/placing.py): another truth.

`placed.json`: area -> polygon, its vertices and the corner of its box in the case, and the shift in px that each of two
readers found. A polygon counts where both could read it and they differ by no more than APART; it then lies at the
label's shape, moved by the mean of both.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.align_chain import Case, make_case
from training.areas import split
from training.chips import drawn_scene, load_scenes
from training.city import city

Array = NDArray[np.float64]

SIDES: dict[str, int | None] = {
    "banepa_np": 1400,
    "zanzibar_tz_b": 1400,
    "catanduanes_ph_b": 1400,
    "vegas_us": None,
    "rio_br_b": None,
    "massachusetts_us_b": 1200,
}
"""Evaluation areas, and the side, px, of the square at the middle of their buildings that is scored."""
TRAINED_ON = " (training part)"
"""What names of training areas end with: one reader placed some of their polygons, to choose constants by."""
TRAINING: dict[str, int | None] = {
    "banepa_np": 1400,
    "zanzibar_tz_a": 1400,
    "catanduanes_ph_a": 1400,
    "vegas_us": None,
    "rio_br_a": 1200,
    "massachusetts_us_c": 900,
    "massachusetts_us_e": 900,
}
DRAWN = ("city 0.3", "city 1.0")
"""Drawn cities, by their GSD in metres: what lies in them is known, so they say how well readers read."""
AREAS = (*SIDES, *DRAWN)
SAMPLE = {"banepa_np": 40, "rio_br_b": 48, "massachusetts_us_b": 72, "city 0.3": 16, "city 1.0": 16}
"""Polygons drawn by lot from an area; of the others all."""
APART = 2.0
"""px that two readers may differ by."""
FILE = Path(__file__).with_name("placed.json")


def case_of(name: str, data: Path) -> Case:
    """An evaluation area as it is scored, a training area, or a drawn city."""
    if name in DRAWN:
        scene = replace(drawn_scene(city((600, 600), float(name.split()[1]), 9300)), name=name)
        return make_case(scene, scene.labelled)
    of = name.removesuffix(TRAINED_ON)
    (scene,) = load_scenes(data, [of])
    if of != name:
        return replace(make_case(scene, split(scene)[0], TRAINING[of]), name=name)
    return make_case(scene, split(scene)[1], SIDES[name])


def rings_of(case: Case, polygon: int) -> list[Array]:
    """The rings (n, 2) px of a polygon, shell first."""
    some = case.ring_offsets[case.polygon_offsets[polygon] : case.polygon_offsets[polygon + 1] + 1]
    return [case.coords[a:b] for a, b in zip(some, some[1:], strict=False)]


def sample(name: str, case: Case) -> list[int]:
    """The scored polygons of an area, or as many as SAMPLE says, drawn by lot."""
    scored = np.flatnonzero(case.scored[case.ring_offsets[case.polygon_offsets[:-1]]])
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    count = SAMPLE.get(name, 36 if name.endswith(TRAINED_ON) else len(scored))
    chosen: list[int] = sorted(rng.permutation(scored)[:count].tolist())
    return chosen


@dataclass(frozen=True, slots=True)
class Placed:
    """Polygons of a case (n,) that readers agree on: the shifts (n, 2) px from the label to the roof's outline, and by
    how much the two readings differ (n,) px. `unread` polygons were shown too, and left out."""

    polygons: NDArray[np.int64]
    shifts: Array
    apart: Array
    unread: int

    def truth(self, case: Case) -> tuple[Array, NDArray[np.bool_]]:
        """Vertices (v, 2) px of the case with these polygons in their place, and which vertices (v,) that are."""
        owner = np.repeat(np.arange(len(case.polygon_offsets) - 1), np.diff(case.ring_offsets[case.polygon_offsets]))
        shift = np.full((len(case.polygon_offsets) - 1, 2), np.nan)
        shift[self.polygons] = self.shifts
        known = ~np.isnan(shift[owner, 0])
        return case.coords + np.where(known[:, None], shift[owner], 0.0), known

    def only(self, case: Case) -> Case:
        """The case with these polygons alone, where they truly lie: a cadaster that is right."""
        coords, known = self.truth(case)
        rings = [r for k in self.polygons for r in range(*case.polygon_offsets[k : k + 2])]
        counts = np.diff(case.polygon_offsets)[self.polygons]
        return replace(
            case,
            name=f"{case.name}, placed",
            coords=coords[known],
            ring_offsets=np.concatenate([[0], np.cumsum(np.diff(case.ring_offsets)[rings])]),
            polygon_offsets=np.concatenate([[0], np.cumsum(counts)]),
            scored=case.scored[known],
        )


def placed_in(case: Case) -> Placed | None:
    """What FILE has of a case; None where nothing was read. Raises ValueError where its polygons are others than
    those that were read."""
    rows = json.loads(FILE.read_text(encoding="utf-8")).get(case.name)
    if rows is None:
        return None
    polygons, shifts, apart = [], [], []
    for row in rows:
        rings = rings_of(case, row["polygon"])
        if sum(map(len, rings)) != row["vertices"] or np.abs(rings[0].min(0) - row["corner"]).max() > 0.01:
            raise ValueError(f"{FILE.name}: polygon {row['polygon']} of {case.name} is another than was read")
        if not row["shifts"] or None in row["shifts"]:
            continue
        found = np.array(row["shifts"])
        between = float(np.hypot(*np.ptp(found, axis=0)))
        if between <= APART:
            polygons.append(row["polygon"])
            shifts.append(found.mean(axis=0))
            apart.append(between)
    found = np.array(polygons, np.int64), np.array(shifts).reshape(-1, 2), np.array(apart)
    return Placed(*found, unread=len(rows) - len(polygons))
