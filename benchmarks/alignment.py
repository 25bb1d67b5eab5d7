"""Alignment against what a user could pick instead, on the same displaced cadasters of held-out areas.

    python -m benchmarks.alignment --data DIR --out DIR [--fields 10] [--slow-fields 2] [--largest 32 8]
                                   [--scenes NAME ...] [--methods NAME ...]

Misalignment: published fields (30 Gaussians, Zampieri et al. 2018) on a canvas of 5 000 px of full resolution.
Scores are of the vertices of polygons wholly inside the evaluation area, in px of the image, and the mean IoU of
each of these polygons with its true self. Seconds are CPU seconds of this process, at one thread, everything
included. Labels can be off from the image themselves, so every method is given the true cadaster too (rows with
largest = 0), and every run is scored a second time against a consensus truth: where four fast peers put the true
vertices, their median. None of this project's methods has a part in it; it favours those four.
One line a run in OUT/rows.jsonl and a scene's consensus in OUT/consensus-SCENE.npy; what stands there is not run
again, so delete both when a method changed. Writes OUT/table.md and OUT/curves.svg. Peers marked slow run on
`--slow-fields` fields, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from benchmarks.alignment_peers import PEERS, SLOW, Peer
from benchmarks.alignment_report import THRESHOLDS, Row, curves, table
from training.align_chain import Case, make_case, misaligned, polygons_of
from training.areas import split
from training.chips import load_scenes
from training.metrics import accuracy_curve, summary, vertex_errors

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

CONSENSUS = ("block-wise phase correlation", "block-wise correlation", "Farneback flow", "edge search, 9 neighbours")
"""The peers whose median is the consensus truth."""

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
    """What runs on a case are scored against: its true polygons, and its vertices (n, 2) px by consensus."""

    polygons: NDArray[Any]
    consensus: Array


def consensus(case: Case, path: Path) -> Array:
    """Where `CONSENSUS` puts the true vertices: their median, component by component, (n, 2) px. Kept at `path`."""
    if path.exists():
        kept: Array = np.load(path)
        if kept.shape == case.coords.shape:
            return kept
    found = np.median([PEERS[name](case, case.coords, REFERENCE) for name in CONSENSUS], axis=0)
    part = path.with_suffix(".part.npy")  # a kill leaves no half of a file behind
    np.save(part, found)
    part.replace(path)
    return np.asarray(found)


def run(case: Case, cadaster: Array, largest: float, peer: Peer, truth: Truth) -> Row:
    """Figures of one method on one displaced cadaster; on the true one where `largest` is 0."""
    began = time.process_time()
    placed = peer(case, cadaster, largest or REFERENCE)
    seconds = time.process_time() - began
    scored, true = case.scored, case.coords[case.scored]
    errors = vertex_errors(placed[scored], true)
    from_consensus = summary(vertex_errors(placed[scored], truth.consensus[scored]))
    dx, dy = (placed[scored] - true).mean(axis=0)
    label_dx, label_dy = (truth.consensus[scored] - true).mean(axis=0)
    figures = {
        **summary(errors),
        "dx": dx,
        "dy": dy,
        **{f"{name}_consensus": value for name, value in from_consensus.items()},
        "label_floor": np.median(vertex_errors(truth.consensus[scored], true)),
        "label_dx": label_dx,
        "label_dy": label_dy,
        "iou_before": mean_iou(case, cadaster, truth.polygons),
        "iou": mean_iou(case, placed, truth.polygons),
    }
    return {
        "polygons": len(truth.polygons),
        "vertices": len(errors),
        **{name: round(float(value), 4) for name, value in figures.items()},
        "s_per_mpx": round(seconds / (case.valid[1].size / 1e6), 3),
        "curve": accuracy_curve(errors, THRESHOLDS).round(4).tolist(),
    }


def rows_of(path: Path) -> list[Row]:
    """Rows written so far; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def compare(
    cases: Iterator[Case] | Sequence[Case],
    peers: dict[str, Peer],
    sizes: Sequence[float],
    fields: Callable[[str], int],
    out: Path,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Run every method on the first `fields(name)` seeds of every case and size and once on the true cadaster (size
    0), and append a row a run to rows.jsonl in `out`, without those that stand there; all rows of these cases, sizes
    and methods, by method."""
    path = out / "rows.jsonl"
    have = {(r["scene"], r["largest"], r["seed"], r["method"]): r for r in rows_of(path)}
    rows = []
    if path.exists() and not path.read_bytes().endswith(b"\n"):  # cut short by a kill
        path.write_text("".join(json.dumps(row) + "\n" for row in have.values()), encoding="utf-8")
    for case in cases:
        truth = Truth(shapes(case, case.coords), consensus(case, out / f"consensus-{case.name}.npy"))
        height, width = case.valid[1].shape
        few = f": fewer than {FEW}, its figures are rough" if len(truth.polygons) < FEW else ""
        say(f"{case.name}: {width} x {height} px of {case.gsd:g} m, {len(truth.polygons)} polygons scored{few}")
        for largest in (*sizes, 0.0):
            cadasters = misaligned(case, largest, range(max(map(fields, peers)))) if largest else [case.coords]
            for name, peer in peers.items():
                for seed in range(fields(name) if largest else 1):
                    key = (case.name, float(largest), seed, name)
                    if key not in have:
                        figures = run(case, cadasters[seed], largest, peer, truth)
                        have[key] = dict(zip(("scene", "largest", "seed", "method"), key, strict=True)) | figures
                        with path.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(have[key]) + "\n")
                    rows.append(have[key])
    order = {name: i for i, name in enumerate(peers)}
    return sorted(rows, key=lambda row: order[row["method"]])


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

    def cases() -> Iterator[Case]:
        for name in options.scenes:
            (scene,) = load_scenes(options.data, [name])
            yield make_case(scene, split(scene)[1], SIDES[name])

    def fields(name: str) -> int:
        return min(options.slow_fields, options.fields) if name in SLOW else options.fields

    rows = compare(cases(), peers, options.largest, fields, options.out)
    text = table(rows)
    (options.out / "table.md").write_text(text, encoding="utf-8")
    curves(rows, options.out / "curves.svg")
    print(text)


if __name__ == "__main__":
    main()
