"""How the seats' constants were chosen: errors on training areas whose polygons were placed by eye, for each choice.

    python -m benchmarks.alignment_seats --data DIR [--fields 2]

Published fields of 8 px. A line for each PRIOR, then for each CLEAR with the shipped PRIOR: median and mean vertex
error px and the share within 2 px, each the mean over the areas, against the polygons placed by eye and the labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.alignment_ours import OURS
from benchmarks.placed import TRAINED_ON, TRAINING, case_of, placed_in
from pipeline.stages import seat
from training.align_chain import Case, misaligned
from training.metrics import vertex_errors

Array = NDArray[np.float64]

PRIORS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12)
CLEARS = ((-9.0, -8.0), (1.2, 1.8), (1.5, 2.0), (1.8, 2.2), (2.0, 2.4))
"""The first lets every seat be taken."""


def errors(case: Case, fields: int, method: str) -> tuple[Array, Array]:
    """Vertex errors px of a method over fields of 8 px: of placed polygons from where they were seen, of all that are
    scored from their labels."""
    placed = placed_in(case)
    assert placed is not None
    truth, known = placed.truth(case)
    seen, labelled = [], []
    for cadaster in misaligned(case, 8.0, range(fields)):
        moved = OURS[method](case, cadaster, 8.0)
        seen.append(vertex_errors(moved[known], truth[known]))
        labelled.append(vertex_errors(moved[case.scored], case.coords[case.scored]))
    return np.concatenate(seen), np.concatenate(labelled)


def line(name: str, cases: list[Case], fields: int, method: str = "resurvey") -> str:
    """Figures of one choice, as means over the areas."""
    rows = []
    for case in cases:
        both = errors(case, fields, method)
        rows.append([value for each in both for value in (np.median(each), each.mean(), 100 * (each <= 2).mean())])
    a, b, c, d, e, f = np.mean(rows, axis=0)
    return f"| {name} | {a:.2f} / {b:.2f}; {c:.0f} % | {d:.2f} / {e:.2f}; {f:.0f} % |"


def main(data: Path, fields: int, say: Callable[[str], None] = print) -> None:
    """Print the table."""
    cases = [case_of(name + TRAINED_ON, data) for name in TRAINING]
    shipped = seat.PRIOR, seat.CLEAR
    say("| | by eye | by label |\n|---|---|---|")
    say(line("the field alone", cases, fields, "resurvey, field alone"))
    seat.CLEAR = CLEARS[0]
    for seat.PRIOR in PRIORS:
        say(line(f"PRIOR {seat.PRIOR:g}", cases, fields))
    seat.PRIOR = shipped[0]
    for seat.CLEAR in CLEARS[1:]:
        say(line(f"CLEAR {seat.CLEAR[0]:g} to {seat.CLEAR[1]:g}", cases, fields))
    seat.CLEAR = shipped[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fields", type=int, default=2)
    given = parser.parse_args()
    main(given.data, given.fields)
