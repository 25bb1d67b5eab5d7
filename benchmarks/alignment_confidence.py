"""What a confidence is worth: the default alignment's reliability diagram over evaluation areas, and onto the card.

    python -m benchmarks.alignment_confidence --data DIR [--fields 3] [--card DIR]

Misaligned by published fields of 32 and of 8 px; polygons that were placed by eye (benchmarks/placed.py), in tenths by
confidence, and the share of each tenth whose mean vertex error is at most 2 px. Before that the regression of
`pipeline.stages.seat` is made anew, from training areas alone. `--card` writes the diagram into the card of the network
that the default uses, under `extra.reliability`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import alignment_ours
from benchmarks.placed import SIDES, TRAINED_ON, TRAINING, case_of, placed_in
from benchmarks.regression import logistic
from catalogs.cards import load_card, load_weights, save_card
from training.align_chain import misaligned
from training.metrics import more_confident, polygon_means, reliability, vertex_errors

Array = NDArray[np.float64]

CARD = "alignment-successor"
WITHIN = 2.0


def runs(data: Path, fields: int, name: str) -> Array:
    """Of every placed polygon of an area and field (n, 4): confidence, mean vertex error px, clearness of its seat,
    and the seat's distance from the field, px."""
    case = case_of(name, data)
    placed = placed_in(case)
    assert placed is not None
    truth, _ = placed.truth(case)
    counts, found = np.diff(case.ring_offsets[case.polygon_offsets]), []
    for largest in (32.0, 8.0):
        for cadaster in misaligned(case, largest, range(fields)):
            moved = alignment_ours.OURS["resurvey"](case, cadaster, largest)
            errors, last = polygon_means(vertex_errors(moved, truth), counts), alignment_ours.LAST
            row = np.column_stack([last["confidence"], errors, last["clear"], last["far"]])
            found.append(row[placed.polygons])
    return np.concatenate(found)


def regression(areas: Sequence[Array]) -> dict[str, float]:
    """Weights of the chance to end within WITHIN px; every area counts alike."""
    rows = [rows[np.isfinite(rows[:, 2])] for rows in areas]
    weight = np.concatenate([np.full(len(each), 1000 / len(each)) for each in rows])
    every = np.concatenate(rows)
    columns = np.column_stack([every[:, 2], every[:, 3], np.ones(len(every))])
    found = logistic(columns, (every[:, 1] <= WITHIN).astype(float), weight)
    return dict(zip(("clear", "far", "constant"), found.round(3).tolist(), strict=True))


def diagram(confidence: Array, errors: Array) -> list[dict[str, Any]]:
    """Tenths, the least confident first: polygons, mean confidence, share within WITHIN px."""
    bins = (asdict(each) for each in reliability(confidence, errors, within=WITHIN))
    return [{name: round(value, 4) for name, value in each.items()} for each in bins]


def write(folder: Path, diagrams: list[dict[str, Any]]) -> None:
    """The card as it was, with the diagrams."""
    card = load_card(CARD, folder)
    others = ("sha256", "folder", "extra")  # what saving finds out itself, and what is given anew
    kept = {name: getattr(card, name) for name in card.__dataclass_fields__ if name not in others}
    save_card(folder, **kept, extra={**card.extra, "reliability": diagrams}, weights=load_weights(card))


def halves(rows: Array) -> str:
    """Median error, px, of the more confident half and of the other."""
    half = more_confident(rows[:, 0])
    return " / ".join(f"{np.median(rows[some, 1]):.2f}" for some in (half, ~half))


def main() -> None:
    """Print the regression and the diagram; write it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fields", type=int, default=3)
    parser.add_argument("--card", type=Path, help="folder of cards")
    options = parser.parse_args()
    trained = [runs(options.data, options.fields, name + TRAINED_ON) for name in TRAINING]
    print("WEIGHTS =", regression(trained), "of", sum(map(len, trained)), "polygons of training areas")
    found = {name: runs(options.data, options.fields, name) for name in SIDES}
    every = np.concatenate(list(found.values()))
    rows = diagram(every[:, 0], every[:, 1])
    print(f"\n| polygons | confidence | within {WITHIN:g} px |\n|---|---|---|")
    for row in rows:
        print(f"| {row['count']} | {row['confidence']:.2f} | {100 * row['share_within']:.0f} % |")
    print("\nmedian error, px, of the more confident half and of the other:", halves(every))
    for name, of in found.items():
        print(f"  {name}: {halves(of)}")
    if options.card is not None:
        fields = f"{options.fields} of 32 px and {options.fields} of 8 px an area"
        cases = [placed_in(case_of(name, options.data)) for name in SIDES]
        kept, unread = (sum(values) for values in zip(*((len(c.polygons), c.unread) for c in cases if c), strict=True))
        truth = f"{kept} polygons placed by eye; {unread} others were shown, and could not be read, or not alike"
        diagrams = [{"areas": list(found), "fields": fields, "truth": truth, "within_px": WITHIN, "tenths": rows}]
        write(options.card, diagrams)


if __name__ == "__main__":
    main()
