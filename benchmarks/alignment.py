"""Alignment against what a user could pick instead, on the same displaced cadasters of held-out areas.

    python -m benchmarks.alignment --data DIR --out DIR [--fields 10] [--slow-fields 2] [--largest 32 8]
                                   [--scenes NAME ...] [--methods NAME ...]

Misalignment: published fields (30 Gaussians, Zampieri et al. 2018) on a canvas of 5 000 px of full resolution.
Scores are of the vertices of polygons wholly inside the evaluation area, in px of the image, and the mean IoU of
each of these polygons with its true self. Seconds are CPU seconds of this process, at one thread, everything
included. Labels lie off from the image themselves, so every run is scored a second time against the polygons that were
placed by eye (benchmarks/placed.py), and every method is given cadasters that are right: the labels as they are, and
those polygons alone where they truly lie (rows with largest = 0).
Where each method put the vertices is kept in OUT/places, and what stands there is not run again: delete a method's when
it changed. Writes OUT/rows.jsonl, a line a run, OUT/table.md, OUT/curves.svg and OUT/curves_placed.svg.
Peers marked slow run on `--slow-fields` fields, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from benchmarks.alignment_peers import PEERS, SLOW, Peer
from benchmarks.alignment_report import THRESHOLDS, Row, curves, table
from benchmarks.placed import SIDES, case_of, placed_in
from training.align_chain import Case, misaligned, polygons_of
from training.metrics import accuracy_curve, summary, vertex_errors

Array = NDArray[np.float64]

REFERENCE = 8.0
"""Largest displacement, px, that methods are told to expect when they are given the true cadaster."""

FEW = 30
"""Scenes with fewer scored polygons than this are said to be small."""


def methods(names: Sequence[str] | None) -> dict[str, Peer]:
    """Methods by name; all peers and all of our own for None. Raises SystemExit where a name is unknown."""
    known = dict(PEERS)
    if names is None or not set(names) <= set(known):
        from benchmarks.alignment_ours import OURS  # the only part that needs the pipeline and its weights

        known |= OURS
    wrong = [name for name in names or () if name not in known]
    if wrong:
        raise SystemExit(f"--methods {', '.join(wrong)}: unknown; there are {', '.join(known)}")
    return known if names is None else {name: known[name] for name in names}


def shapes(case: Case, coords: Array) -> NDArray[Any]:
    """The scored polygons as shapely polygons, repaired where they cross themselves."""
    scored = case.scored[case.ring_offsets[case.polygon_offsets[:-1]]]
    rings = [rings for rings, wanted in zip(polygons_of(case, coords, 1), scored, strict=True) if wanted]
    return shapely.make_valid(np.array([shapely.Polygon(shell, holes) for shell, *holes in rings]))


def mean_iou(case: Case, coords: Array, true: NDArray[Any]) -> float:
    """Mean IoU of each scored polygon with its true self, given as `shapes(case, case.coords)`."""
    placed = shapes(case, coords)
    union = shapely.area(shapely.union(placed, true))
    return float(np.mean(shapely.area(shapely.intersection(placed, true)) / np.maximum(union, 1e-9)))


@dataclass(frozen=True, slots=True)
class Truth:
    """What runs on a case are scored against: its true polygons as labelled, and its vertices (n, 2) px as placed by
    eye where `known` (n,), which is nowhere on a case that nobody read."""

    polygons: NDArray[Any]
    placed: Array
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, case: Case) -> Truth:
        """The truth of a case."""
        found = placed_in(case)
        placed, known = (case.coords, np.zeros(len(case.coords), bool)) if found is None else found.truth(case)
        return cls(shapes(case, case.coords), placed, known)


def placed_by(case: Case, cadaster: Array, largest: float, peer: Peer, path: Path) -> tuple[Array, float]:
    """Where a method puts the vertices (n, 2) px of a displaced cadaster, of the true one where `largest` is 0, and its
    CPU seconds a Mpx. Kept at `path`, and not run again where that is of as many vertices."""
    if path.exists():
        with np.load(path) as kept:
            if kept["coords"].shape == case.coords.shape:
                return kept["coords"], float(kept["s_per_mpx"])
    began = time.process_time()
    coords = peer(case, cadaster, largest or REFERENCE)
    seconds = (time.process_time() - began) / (case.valid[1].size / 1e6)
    part = path.with_suffix(".part.npz")  # a kill leaves no half of a file behind
    np.savez(part, coords=coords, s_per_mpx=seconds)
    part.replace(path)
    return coords, seconds


def figures(case: Case, cadaster: Array, coords: Array, truth: Truth) -> Row:
    """Figures of one method's places on one displaced cadaster."""
    scored, true = case.scored, case.coords[case.scored]
    errors = vertex_errors(coords[scored], true)
    dx, dy = (coords[scored] - true).mean(axis=0)
    shares = {"curve": errors}
    numbers = {
        **summary(errors),
        "dx": dx,
        "dy": dy,
        "iou_before": mean_iou(case, cadaster, truth.polygons),
        "iou": mean_iou(case, coords, truth.polygons),
    }
    if truth.known.any():
        shares["curve_placed"] = vertex_errors(coords[truth.known], truth.placed[truth.known])
        numbers |= {f"{name}_placed": value for name, value in summary(shares["curve_placed"]).items()}
    return {
        "polygons": len(truth.polygons),
        "vertices": len(errors),
        **{name: round(float(value), 4) for name, value in numbers.items()},
        **{name: accuracy_curve(each, THRESHOLDS).round(4).tolist() for name, each in shares.items()},
    }


def compare(
    case: Case,
    peers: dict[str, Peer],
    sizes: Sequence[float],
    fields: Callable[[str], int],
    out: Path,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Run every method on the first `fields(name)` seeds of every size and once on the true cadaster (size 0), without
    those whose places stand in `out`; a row of figures for each."""
    truth, rows, folder = Truth.of(case), [], out / "places" / case.name
    folder.mkdir(parents=True, exist_ok=True)
    height, width = case.valid[1].shape
    few = f": fewer than {FEW}, its figures are rough" if len(truth.polygons) < FEW else ""
    say(f"{case.name}: {width} x {height} px of {case.gsd:g} m, {len(truth.polygons)} polygons scored{few}")
    for name, peer in peers.items():
        for largest in (*sizes, 0.0):
            seeds = range(fields(name) if largest else 1)
            cadasters = misaligned(case, largest, seeds) if largest else [case.coords]
            places, mine = [], []
            for seed, cadaster in zip(seeds, cadasters, strict=True):
                path = folder / f"{name}, {largest:g} px, {seed}.npz"
                coords, seconds = placed_by(case, cadaster, largest, peer, path)
                key = {"scene": case.name, "largest": float(largest), "seed": seed, "method": name}
                mine.append(key | figures(case, cadaster, coords, truth) | {"s_per_mpx": round(seconds, 3)})
                places.append(coords[case.scored])
            rows += [row | spread(np.stack(places)) for row in mine]
    return rows


def spread(places: Array) -> Row:
    """How far a method's places (fields, n, 2) px of the same vertices lie from their middle, the median component by
    component: median and mean over fields and vertices, px. No label has a part in it. It is 0 for a method that finds
    the same place whatever it starts from, right or wrong."""
    distances = np.linalg.norm(places - np.median(places, axis=0), axis=-1)
    return {"spread_median": round(float(np.median(distances)), 4), "spread_mean": round(float(distances.mean()), 4)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of scenes: NAME/NAME.tif and its labels")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fields", type=int, default=10)
    parser.add_argument("--slow-fields", type=int, default=2, help=f"for {', '.join(SLOW)}")
    parser.add_argument("--largest", type=float, nargs="+", default=[32.0, 8.0], help="px of full resolution")
    parser.add_argument("--scenes", nargs="+", default=list(SIDES), choices=list(SIDES), metavar="NAME")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="default: all")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    peers = methods(options.methods)
    options.out.mkdir(parents=True, exist_ok=True)

    def fields(name: str) -> int:
        return min(options.slow_fields, options.fields) if name in SLOW else options.fields

    rows: list[Row] = []
    for name in options.scenes:
        case = case_of(name, options.data)
        rows += compare(case, peers, options.largest, fields, options.out)
        right = placed_in(case)
        if right is not None:
            rows += compare(right.only(case), peers, [], fields, options.out)
    (options.out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = table(rows)
    (options.out / "table.md").write_text(text, encoding="utf-8")
    curves(rows, options.out / "curves.svg")
    curves(rows, options.out / "curves_placed.svg", "curve_placed")
    print(text)


if __name__ == "__main__":
    main()
