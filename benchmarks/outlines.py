"""How buildings are drawn: traced, simplified and regular outlines against true footprints, scene by scene.

    python -m benchmarks.outlines --data DIR [--scenes banepa_np:train ...] [--card instances-narrow] [--device cpu]

Two inputs: the scores of the shipped network, split as a run splits them; and the true footprints drawn at the
network's GSD, which leaves the network out. `SCENE:train` is the part that outlines may be tuned on (`training.areas`),
`SCENE` or `SCENE:evaluate` the one that is held out.

Columns: buildings; F1 at IoU 0.5 and 0.75, mean IoU of the buildings matched at 0.5; of those, right-angle share
(corners that turn by 90° ± 5° among those that turn by more than 10°) and vertices a building, each beside the truth's;
and seconds for drawing. Staircases have right angles only: read that column with the vertices.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import shapely

from pipeline import networks
from pipeline.buildings import Ragged
from pipeline.grid import Window
from pipeline.kernels import components, instances
from pipeline.kernels import split as splitter
from pipeline.stages.outlines import claims_of, simplified, trace_runs
from pipeline.stages.split import MIN_PIXELS, THRESHOLD, TOLERANCE
from training.areas import split
from training.chips import LabelledScene, load_scenes
from training.metrics_instances import match, polygon_overlaps
from training.plates import resample
from training.recipes.instances_score import predict, prepare

STYLES = ("traced", "simplified", "regular")
GSD = 0.3
MIN_M2 = 4.0
SCENES = ("banepa_np:train", "zanzibar_tz_a:train", "catanduanes_ph_a:train")


def draw(labels: np.ndarray, component: np.ndarray, style: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Polygons of instances (h, w) with their components, in a style; each one's label, and seconds for drawing."""
    window = Window(0, 0, *labels.shape)
    polygons, label = trace_runs(instances.runs(labels), window)
    where = np.zeros(int(labels.max()) + 1, np.int64)
    where[labels.reshape(-1)] = component.reshape(-1)
    start = time.perf_counter()
    claims = claims_of(component.copy(), None, window) if style == "regular" else None
    drawn = simplified(polygons, where[label], 0.0 if style == "traced" else TOLERANCE, claims)
    seconds = time.perf_counter() - start
    return shapes_of(drawn), label, seconds


def shapes_of(polygons: Ragged) -> np.ndarray:
    coords, ring_offsets, polygon_offsets = polygons
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, coords, (ring_offsets, polygon_offsets))


def buildings(shapes: np.ndarray, label: np.ndarray, large: np.ndarray) -> np.ndarray:
    """One shape for each label that is `large`, of one or several polygons."""
    order = np.argsort(label, kind="stable")
    numbers, starts = np.unique(label[order], return_index=True)
    groups = zip(numbers, np.split(shapes[order], starts[1:]), strict=True)
    found = [group[0] if len(group) == 1 else shapely.union_all(group) for number, group in groups if large[number]]
    return np.array(found, dtype=object)


def mostly_inside(shapes: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Shapes that lie in the area (h, w) bool by more than half."""
    parts = rasterio.features.shapes(inside.astype(np.uint8), mask=inside)
    area = shapely.union_all([shapely.geometry.shape(part) for part, _ in parts])
    shapely.prepare(area)
    return shapes[2 * shapely.area(shapely.intersection(shapes, area)) > shapely.area(shapes)]


def corners(shapes: np.ndarray) -> tuple[float, int]:
    """Share of right angles among the corners, and the number of vertices."""
    right = turns = vertices = 0
    for ring in shapely.get_rings(shapes):
        step = np.diff(shapely.get_coordinates(ring), axis=0)
        step = step[np.hypot(*step.T) > 1e-9]
        angle = np.degrees(np.arctan2(step[:, 1], step[:, 0]))
        turn = np.abs((np.diff(angle, append=angle[:1]) + 180) % 360 - 180)
        right += int((np.abs(turn - 90) <= 5).sum())
        turns += int((turn > 10).sum())
        vertices += len(step)
    return right / max(turns, 1), vertices


def figures(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """The columns of one row, but the seconds."""
    overlaps = polygon_overlaps(truth, found)
    hits = {at: match(overlaps, at) for at in (0.5, 0.75)}
    f1 = {at: 2 * int((hit >= 0).sum()) / max(len(truth) + len(found), 1) for at, hit in hits.items()}
    mine = np.flatnonzero(hits[0.5] >= 0)
    theirs = hits[0.5][mine]
    pairs = zip(overlaps.truth.tolist(), overlaps.predicted.tolist(), strict=True)
    iou = dict(zip(pairs, overlaps.iou.tolist(), strict=True))
    share, vertices = corners(found[mine])
    true_share, true_vertices = corners(truth[theirs])
    count = max(len(mine), 1)
    return {
        "buildings": len(found), "f1": f1[0.5], "f1_75": f1[0.75],
        "iou": float(np.mean([iou[t, p] for t, p in zip(theirs.tolist(), mine.tolist(), strict=True)] or [0])),
        "right": share, "true_right": true_share,
        "vertices": vertices / count, "true_vertices": true_vertices / count,
    }  # fmt: skip


def table(scene: LabelledScene, part: int, network: Any, device: str) -> list[dict[str, Any]]:
    """Rows of one scene: both inputs in all styles."""
    whole = resample(scene, GSD)
    ground = prepare(scene, split(scene)[part] & scene.valid, network.halo, whole)
    scale = whole[2]
    scores = predict(network, ground.image, device)
    labels, count = splitter.split(np.ascontiguousarray(scores[0]), np.ascontiguousarray(scores[1]), THRESHOLD)
    kept = np.bincount(labels.reshape(-1), minlength=count + 1) >= MIN_PIXELS
    kept[0] = False
    labels = np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels]
    inputs = {"network": (labels, scores[0] > THRESHOLD), "truth drawn": (ground.truth, ground.truth > 0)}

    true = shapely.make_valid(shapes_of((scene.coords * scale, scene.ring_offsets, scene.polygon_offsets)))
    true = shapely.transform(true, lambda xy: xy - offset_of(scene, part, network.halo, whole))
    true = mostly_inside(true, ground.inside)
    rows = []
    for name, (labels, mask) in inputs.items():
        component, _ = components.label(mask.astype(np.uint8))
        large = np.bincount(labels.reshape(-1)) * ground.gsd**2 >= MIN_M2
        for style in STYLES:
            draw(labels[:64, :64].copy(), component[:64, :64].copy(), style)  # compiled before it is timed
            shapes, label, seconds = draw(labels, component, style)
            assert shapely.is_valid(shapes).all(), (scene.name, style)
            together = shapely.union_all(shapes).area
            assert abs(together - shapely.area(shapes).sum()) < 1e-6 * together, (scene.name, style)
            found = mostly_inside(buildings(shapes, label, large), ground.inside)
            rows.append({"input": name, "style": style, **figures(true, found), "seconds": seconds})
    return rows


def offset_of(scene: LabelledScene, part: int, margin: int, whole: Any) -> np.ndarray:
    """x, y of the first pixel of what `prepare` cuts out."""
    from training.plates import fit_mask

    ys, xs = np.nonzero(fit_mask(split(scene)[part] & scene.valid, whole[3]))
    return np.array([max(int(xs.min()) - margin, 0), max(int(ys.min()) - margin, 0)], np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), metavar="NAME[:train|evaluate]")
    parser.add_argument("--card", default="instances-narrow")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    network = networks.load(options.card, None, options.device)
    print("| scene | input | outlines | buildings | F1 .5 | F1 .75 | IoU | right angles (true) | vertices (true) | s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for each in options.scenes:
        name, _, part = each.partition(":")
        scene = load_scenes(options.data, [name])[0]
        for row in table(scene, 0 if part == "train" else 1, network, options.device):
            print(
                f"| {each} | {row['input']} | {row['style']} | {row['buildings']} | {row['f1']:.3f}"
                f" | {row['f1_75']:.3f} | {row['iou']:.3f} | {row['right']:.2f} ({row['true_right']:.2f})"
                f" | {row['vertices']:.1f} ({row['true_vertices']:.1f}) | {row['seconds']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
