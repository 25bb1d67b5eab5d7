"""Roads and classes: a layer of roads alone, of buildings alone, and both together, each as `resurvey run` aligns it.

    python -m benchmarks.alignment_roads --data DIR [--fields 3] [--card alignment-roads] [--areas NAME ...]
                                         [--layers both roads buildings]

Areas: drawn scenes of seeds that nothing was trained on (training/city_roads.py, and training/city.py) and
the right part of vegas_roads_us, its lines as they are labelled and moved onto their roads. Everything is moved off by
published fields of up to 32 and 8 px, all classes by the same one; lines get a vertex each 10 m. Errors, px, median /
mean: of roads the distance of a vertex from its true place (`full`), and from the nearest true line (`across`, what
can be seen of it). What moves is measured before the gate (`search`) and after it, with the rows that abstain
(`gated`).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from numpy.typing import NDArray

from benchmarks.alignment_ours import structure
from pipeline.grid import WINDOW, Window, windows_of
from pipeline.kernels import edges
from pipeline.networks import load
from pipeline.stages import gate, roads
from pipeline.stages import search as search_stage
from training.align_chain import LEVELS, Case
from training.areas import split
from training.chips import LabelledScene, drawn_scene, halve, load_scenes, stretch
from training.chips_roads import in_place
from training.city import city
from training.city_roads import road_scene
from training.deform import misalign

logger = logging.getLogger(__name__)
Array = NDArray[np.float64]
Evidence = NDArray[np.float32]
VERTEX_M = 10.0
"""Metres between the vertices of lines."""

LAYERS = ("both", "roads", "buildings")
DRAWN = (("streets", 0.3), ("streets", 0.5), ("country", 0.5), ("car park", 0.3))


@dataclass(frozen=True, slots=True)
class Found:
    """Where vertices end (n, 2), and of each row: clearness, length of the last search's move, own fit, px that
    voted, and whether it is a line."""

    coords: Array
    clear: Array
    last: Array
    own: Array
    length: Array
    line: NDArray[np.bool_]


def layer_of(scene: LabelledScene, area: NDArray[np.bool_], show: str = "both") -> Case:
    """Buildings in `area` (h, w) and roads as far as they lie in it, a row each; `show`: both, roads or buildings."""
    runs: list[Array] = []
    cell = np.clip(np.floor(scene.coords).astype(int), 0, np.array(area.shape)[::-1] - 1)
    inside = area[cell[:, 1], cell[:, 0]]
    for first in scene.ring_offsets[scene.polygon_offsets[:-1]] if show != "roads" else []:
        last = scene.ring_offsets[np.searchsorted(scene.ring_offsets, first, side="right")]
        if inside[first:last].all():
            runs.append(scene.coords[first:last])
    rows, columns = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
    frame = shapely.box(columns[0] + 1, rows[0] + 1, columns[-1], rows[-1])
    for line in scene.roads if show != "buildings" else []:
        for part in shapely.get_parts(shapely.intersection(shapely.LineString(line), frame)):
            if part.geom_type == "LineString" and part.length > 20 / scene.gsd:
                runs.append(np.asarray(shapely.segmentize(part, VERTEX_M / scene.gsd).coords))
    bands, valid = {}, {}
    image, mask = stretch(scene.image, scene.valid), scene.valid
    for level in LEVELS:
        bands[level], valid[level] = image, mask
        image, mask = halve(image, mask)
    coords = np.concatenate(runs)
    offsets = np.concatenate([[0], np.cumsum([len(run) for run in runs])]).astype(np.int64)
    cell = np.clip(np.floor(coords).astype(int), 0, np.array(area.shape)[::-1] - 1)
    known = (area & scene.valid)[cell[:, 1], cell[:, 0]]
    return Case(scene.name, scene.gsd, bands, valid, coords, offsets, np.arange(len(offsets)), known)


def lines_of(case: Case) -> NDArray[np.bool_]:
    """Whether each row is an open line."""
    first, last = case.coords[case.ring_offsets[:-1]], case.coords[case.ring_offsets[1:] - 1]
    return np.asarray((first != last).any(axis=1))


def nearness(network: Any, case: Case) -> Evidence:
    """The roads' evidence over a case (h, w), by windows as the pipeline's tiles make it."""
    level, halo = roads.level_of(case.gsd), network.halo
    image, (height, width) = roads.as_rgb(case.bands[level]), case.valid[level].shape
    image = np.pad(image, [(0, 0), *((halo, halo + WINDOW - side % WINDOW) for side in (height, width))])
    core = Window(0, 0, -(-height // WINDOW) * WINDOW, -(-width // WINDOW) * WINDOW)
    near = np.zeros((core.height, core.width), np.float32)
    for window in windows_of(core, WINDOW):
        seen = image[:, window.y0 : window.y1 + 2 * halo, window.x0 : window.x1 + 2 * halo]
        near[window.slices(core)] = roads.nearness(network, seen, WINDOW, "cpu")[0]
    return np.where(case.valid[level], near[:height, :width], 0).astype(np.float32)


def tensor_of(near: Evidence, case: Case, factor: int) -> Evidence:
    """What lines are rated by at a level, over the whole case."""
    level, at = roads.level_of(case.gsd), Window(0, 0, *case.bands[factor].shape[1:])
    source = roads.source_window(at, factor, level)
    padded = np.pad(near, [(2, max(source.y1 - near.shape[0], 0)), (2, max(source.x1 - near.shape[1], 0))])
    return roads.tensor_at(padded, source, at, factor, level)


def search(case: Case, coords: Array, near: Evidence | None) -> Found:
    """All searches: outlines by edges and, if `near` is given, open lines by that."""
    line = lines_of(case)
    counts = np.diff(case.ring_offsets)
    vertex = np.repeat(line, counts)
    of_lines, outlines = (np.concatenate([[0], np.cumsum(counts[line == on])]) for on in (True, False))
    whole, places, clear = Window(0, 0, *case.valid[1].shape), [coords], []
    for step in search_stage.plan_searches(case.gsd):
        nodes, here = step.nodes(whole), places[-1]
        image = structure(case, step.factor)
        votes, weight = search_stage.votes_of(step, image, (0, 0), [(here[~vertex], outlines)], nodes)
        nearer = None
        if near is not None:
            said = [(here[vertex], of_lines)]
            tensor = tensor_of(near, case, step.factor)
            votes, weight, share = roads.votes_with(step, tensor, (0, 0), said, nodes, votes, weight)
            nearer = share * np.float32(roads.PRIOR)
        sums, margin = np.zeros((4, nodes.height, nodes.width), np.float32), step.radius + 2
        if weight.any():
            sums = search_stage.find_shifts(step, votes, weight, nearer)
        sums = np.pad(sums, ((0, 0), (margin, margin), (margin, margin)))
        xy, sure = search_stage.move(here, search_stage.field_of(step, sums), nodes.grow(margin), step)
        places.append(xy)
        clear.append(sure)
    rows = np.arange(len(counts))
    fit, length = edges.rate(structure(case, 1), places[-1], case.ring_offsets, rows, len(rows), gate.REACH)
    own = edges.peaks(fit)[:, 3]
    length = np.where(line, 0, length)
    if near is not None:
        road_fit, px = edges.rate(
            tensor_of(near, case, 1), places[-1], case.ring_offsets, rows, len(rows), gate.REACH
        )
        own, length = np.where(line, roads.contrasts(road_fit), own), np.where(line, px, length)
    moved = np.hypot(*means(case, places[-1] - places[-2]).T)
    return Found(places[-1], means(case, clear[0]), moved, own, length, line)


def means(case: Case, values: Array) -> Array:
    """Mean over each row's vertices."""
    counts = np.diff(case.ring_offsets).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(np.add.reduceat(values, case.ring_offsets[:-1], axis=0) / counts)


def gated(
    case: Case, start: Array, found: Found, weights: dict[str, float] = gate.LINE_WEIGHTS,
    least: float = gate.ABSTAIN_ROADS,
) -> tuple[Array, Array]:  # fmt: skip
    """Vertices after the gate and the abstention, and each row's confidence; of lines by `weights`, the limit `least`.
    """
    told = found.line
    confidence = gate.confidence_of(found.clear, found.last, found.own)
    of_roads = gate.chance(weights, found.clear, found.last, found.own)
    confidence = np.where(told, of_roads, confidence)
    square = means(case, ((found.coords - start) ** 2).sum(axis=1))
    square = np.where(told, np.maximum(square - gate.LINE_NOISE**2, 0), square)
    verdicts = gate.Verdicts(means(case, found.coords), found.length, confidence, square)
    moved, near = gate.move(start, found.coords, verdicts, gate.Gate(case.gsd))
    sure = gate.together(confidence, found.length, means(case, near))
    stays = np.repeat(sure < np.where(told, least, gate.ABSTAIN), np.diff(case.ring_offsets))
    return np.where(stays[:, None], start, moved), sure


def errors(case: Case, coords: Array, line: bool) -> tuple[Array, Array]:
    """Distances of scored vertices of roads, or of buildings, from their true places and from the nearest true line."""
    wanted = lines_of(case) == line
    here = case.scored & np.repeat(wanted, np.diff(case.ring_offsets))
    runs = [run for run, on in zip(np.split(case.coords, case.ring_offsets[1:-1]), wanted, strict=True) if on]
    true = shapely.union_all([shapely.LineString(run) for run in runs])
    return np.hypot(*(coords - case.coords)[here].T), shapely.distance(shapely.points(coords[here]), true)


def areas(data: Path, names: Sequence[str] | None = None) -> Iterator[tuple[str, LabelledScene, NDArray[np.bool_]]]:
    """The areas that are scored, by name."""
    for number, (kind, gsd) in enumerate(DRAWN):
        name = f"{kind} {gsd} m"
        if not names or name in names:
            scene = road_scene(1200, gsd, 9100 + number, kind)
            yield name, scene, scene.labelled
    if not names or "city 0.3 m" in names:
        scene = drawn_scene(city((1200, 1200), 0.3, 9200))
        yield "city 0.3 m", scene, scene.labelled
    (scene,) = load_scenes(data, ["vegas_roads_us"])
    for name, lines in (("vegas, as labelled", scene.roads), ("vegas, in place", in_place(scene).roads)):
        if not names or name in names:
            yield name, replace(scene, roads=lines), split(scene)[1]


def main(data: Path, network: Any, fields: int, names: Sequence[str] | None, layers: Sequence[str] = LAYERS) -> None:
    """Log a row for each area, size of field, layer and class."""
    for name, scene, area in areas(data, names):
        both = layer_of(scene, area)
        near = nearness(network, both)
        kinds = tuple(kind for kind in LAYERS if kind in layers) if scene.polygons else ("roads",)
        for largest in (32.0, 8.0):
            for show in kinds:
                case = both
                if show != "both" and scene.polygons:
                    case = replace(layer_of(scene, area, show), bands=both.bands)
                # one field for every layer of a scene: drawn for the whole of it
                rows: dict[tuple[bool, str], list[tuple[Array, Array]]] = {}
                for seed in range(fields):
                    start = _moved_off(both, case, largest, seed)
                    ways = {"before": start}
                    for label, evidence in (("without", None), ("with", near)):
                        if evidence is not None and show == "buildings":
                            continue
                        found = search(case, start, evidence)
                        ways[f"{label}, search"] = found.coords
                        ways[f"{label}, gated"], _ = gated(case, start, found)
                    for on in sorted(set(lines_of(case).tolist())):
                        for way, coords in ways.items():
                            rows.setdefault((on, way), []).append(errors(case, coords, on))
                for (on, way), each in rows.items():
                    full, across = (np.concatenate(part) for part in zip(*each, strict=True))
                    logger.info(
                        "%-15s %2d px, layer of %-9s %-9s %-16s full %5.2f / %5.2f, within 4 %3.0f %%; "
                        "across %5.2f / %5.2f, within 2 %3.0f %%",
                        name, largest, show, "roads" if on else "buildings", way, np.median(full), full.mean(),
                        100 * (full <= 4).mean(), np.median(across), across.mean(), 100 * (across <= 2).mean(),
                    )  # fmt: skip


def _moved_off(whole: Case, case: Case, largest: float, seed: int) -> Array:
    """A layer moved off by the field that its whole scene is moved off by."""
    corners = np.array([whole.coords.min(0), whole.coords.max(0)])
    moved = misalign(np.concatenate([corners, case.coords]), largest, np.random.default_rng([seed, round(largest)]))
    return moved[2:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fields", type=int, default=3)
    parser.add_argument("--card", default="alignment-roads")
    parser.add_argument("--models", help="a folder of cards other than the shipped")
    parser.add_argument("--areas", nargs="*")
    parser.add_argument("--layers", nargs="*", choices=LAYERS, default=LAYERS)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    main(given.data, load(given.card, given.models, "cpu"), given.fields, given.areas, given.layers)
