"""What a confidence is worth: the default alignment's reliability diagram over evaluation areas, and onto the card.

    python -m benchmarks.alignment_confidence --data DIR [--fields 3] [--card DIR]

Misaligned by published fields of 32 and of 8 px; polygons in tenths by confidence, and the share of each tenth whose
mean vertex error is at most 2 px: of all areas, and of those whose labels are good to a pixel (where labels are off by
2 px themselves, so is what lies right). `--card` writes both into the card of the network that the default uses, under
`extra.reliability`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import alignment_ours
from benchmarks.placed import SIDES
from catalogs.cards import load_card, load_weights, save_card
from training.align_chain import make_case, misaligned
from training.areas import split
from training.chips import load_scenes
from training.metrics import more_confident, polygon_means, reliability, vertex_errors

CARD = "alignment-successor"
WITHIN = 2.0
GOOD_LABELS = ("banepa_np", "catanduanes_ph_b")
"""Areas with a label floor under 1 px (docs/alignment.md)."""


def pooled(data: Path, fields: int, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and mean vertex error, px, (n,) each, of every scored polygon of every field and named area."""
    confidence, errors = [], []
    for name in names:
        (scene,) = load_scenes(data, [name])
        case = make_case(scene, split(scene)[1], SIDES[name])
        starts = case.ring_offsets[case.polygon_offsets]
        wanted = case.scored[starts[:-1]]
        for largest in (32.0, 8.0):
            for cadaster in misaligned(case, largest, range(fields)):
                moved = alignment_ours.OURS["resurvey"](case, cadaster, largest)
                means = polygon_means(vertex_errors(moved, case.coords), np.diff(starts))
                confidence.append(alignment_ours.LAST["confidence"][wanted])
                errors.append(means[wanted])
    return np.concatenate(confidence), np.concatenate(errors)


def diagram(confidence: np.ndarray, errors: np.ndarray) -> list[dict[str, Any]]:
    """Tenths, the least confident first: polygons, mean confidence, share within WITHIN px."""
    bins = (asdict(each) for each in reliability(confidence, errors, within=WITHIN))
    return [{name: round(value, 4) for name, value in each.items()} for each in bins]


def write(folder: Path, diagrams: list[dict[str, Any]]) -> None:
    """The card as it was, with the diagrams."""
    card = load_card(CARD, folder)
    others = ("sha256", "folder", "extra")  # what saving finds out itself, and what is given anew
    kept = {name: getattr(card, name) for name in card.__dataclass_fields__ if name not in others}
    save_card(folder, **kept, extra={**card.extra, "reliability": diagrams}, weights=load_weights(card))


def main() -> None:
    """Print the diagrams; write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fields", type=int, default=3)
    parser.add_argument("--card", type=Path, help="folder of cards")
    options = parser.parse_args()
    found = {name: pooled(options.data, options.fields, [name]) for name in SIDES}
    diagrams = []
    for names in (GOOD_LABELS, tuple(SIDES)):
        confidence, errors = (np.concatenate([found[name][side] for name in names]) for side in (0, 1))
        rows = diagram(confidence, errors)
        fields = f"{options.fields} of 32 px and {options.fields} of 8 px an area"
        diagrams.append({"areas": list(names), "fields": fields, "within_px": WITHIN, "tenths": rows})
        print(f"\n{', '.join(names)}\n\n| polygons | confidence | within {WITHIN:g} px |\n|---|---|---|")
        for row in rows:
            print(f"| {row['count']} | {row['confidence']:.2f} | {100 * row['share_within']:.0f} % |")
        half = more_confident(confidence)
        medians = (f"{np.median(errors[some]):.2f}" for some in (half, ~half))
        print("\nmedian error, px, of the more confident half and of the other:", *medians)
    if options.card is not None:
        write(options.card, diagrams)


if __name__ == "__main__":
    main()
