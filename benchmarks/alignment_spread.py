"""What of an alignment's error is the method's own: how far apart it puts one polygon, from fields that differ.

    python -m benchmarks.alignment_spread --data DIR [--fields 10] [--largest 32 8] [--scenes NAME ...]
                                          [--methods NAME ...] [--json FILE]

Labels lie off from the image, and no error measured against them can fall below that. Here no label has a part: the
cadasters and fields are those of `benchmarks.alignment`; a method puts every vertex somewhere in each field, and what
counts is the distance of these places from their own middle (the median, component by component), median and mean
over fields and vertices, px. It is 0 for a method that finds the same place whatever it starts from, right or
wrong, and the field itself for one that moves nothing: read it beside the errors, not instead of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.alignment import SIDES, methods
from benchmarks.alignment_peers import SLOW, Peer
from training.align_chain import Case, make_case, misaligned
from training.areas import split
from training.chips import load_scenes

Array = NDArray[np.float64]


def spread(case: Case, cadasters: Sequence[Array], largest: float, peer: Peer) -> dict[str, float]:
    """How far a method's places of the scored vertices lie from their middle over the fields, px."""
    placed = np.stack([peer(case, cadaster, largest)[case.scored] for cadaster in cadasters])
    distances = np.linalg.norm(placed - np.median(placed, axis=0), axis=-1)
    return {"median": float(np.median(distances)), "mean": float(distances.mean())}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Median / mean by method and scene, a table a size."""
    parts = []
    for largest in dict.fromkeys(row["largest"] for row in rows):
        mine = [row for row in rows if row["largest"] == largest]
        scenes = list(dict.fromkeys(row["scene"] for row in mine))
        parts += ["", f"**Up to {largest:g} px**", "", f"| | {' | '.join(scenes)} |", "|" + "---|" * (len(scenes) + 1)]
        for name in dict.fromkeys(row["method"] for row in mine):
            of = {row["scene"]: f"{row['median']:.2f} / {row['mean']:.2f}" for row in mine if row["method"] == name}
            parts.append(f"| {name} | {' | '.join(of.get(scene, '') for scene in scenes)} |")
    return "\n".join(parts[1:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of scenes: NAME/NAME.tif and its labels")
    parser.add_argument("--fields", type=int, default=10)
    parser.add_argument("--largest", type=float, nargs="+", default=[32.0, 8.0], help="px of full resolution")
    parser.add_argument("--scenes", nargs="+", default=list(SIDES), choices=list(SIDES), metavar="NAME")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="default: all but the slow ones")
    parser.add_argument("--json", type=Path, help="write the rows there")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    peers = {name: peer for name, peer in methods(options.methods).items() if options.methods or name not in SLOW}
    rows: list[dict[str, Any]] = []
    for name in options.scenes:
        (scene,) = load_scenes(options.data, [name])
        case = make_case(scene, split(scene)[1], SIDES[name])
        for largest in options.largest:
            cadasters = misaligned(case, largest, range(options.fields))
            for method, peer in peers.items():
                figures = spread(case, cadasters, largest, peer)
                rows.append({"scene": name, "largest": largest, "method": method, **figures})
                said = f"{figures['median']:.2f} / {figures['mean']:.2f} px"
                print(f"{name}, {largest:g} px, {method}: {said}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
