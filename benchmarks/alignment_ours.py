"""This project's aligners on an evaluation case held in memory: the stages' own functions on one block, no tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cards import load_card
from pipeline import putback_seat, putback_shared
from pipeline.grid import WINDOW, Window, windows_of
from pipeline.kernels import edges
from pipeline.kernels.wkb import HOLE, SHELL
from pipeline.networks import load
from pipeline.prepare import steps_of
from pipeline.stages import align, common, gate
from pipeline.stages import search as search_stage
from pipeline.stages.search import Search
from pipeline.stages.seat import Seating, confidence_of, kept
from training.align_chain import Case

Array = NDArray[np.float64]

Method = Callable[[Case, Array, float], Array]


def run(
    case: Case, coords: Array, passes: Sequence[Search | align.Step], card: str = "", *, symmetry: bool = False,
    seat: bool = True,
) -> Array:  # fmt: skip
    """The line as `resurvey run` goes it: common shift, searches, the network's steps, gate, abstention, seats."""
    start, xy = coords, coords + common_shift(case, coords)
    places, sure = [], []
    for step in passes:
        if isinstance(step, Search):
            xy, clear = searched(case, xy, step)
        else:
            xy, clear = predicted(case, xy, step, card, symmetry)
        places.append(xy)
        sure.append(clear)
    return gated(case, start, xy, places, sure, passes, seat)


def common_shift(case: Case, coords: Array) -> Array:
    """As `pipeline.worker.search.common` finds it."""
    factor = common.factor_of(case.gsd)
    polygons = len(case.polygon_offsets) - 1
    half = np.repeat(np.arange(polygons), np.diff(case.polygon_offsets)) % 2
    rated, heard = common.ratings(structure(case, factor), (coords / factor, case.ring_offsets), half, factor)
    found = common.decide(rated / max(heard.sum(), 1e-9), polygons, factor)
    return np.array([found.dx, found.dy])


@lru_cache(maxsize=32)
def _structure(name: str, factor: int, of: int) -> Any:
    return search_stage.structure(_CASES[of].bands[factor], _CASES[of].valid[factor])


_CASES: dict[int, Case] = {}
LAST: dict[str, Array] = {}
"""Confidence, and clearness and length of the seat's shift, of each polygon in the last run: what reliability diagrams
are made from."""


def structure(case: Case, factor: int) -> Any:
    """The image's structure at a level, computed once a case; its cost is part of the first run's time."""
    _CASES[id(case)] = case
    return _structure(case.name, factor, id(case))


def searched(case: Case, coords: Array, step: Search) -> tuple[Array, Array]:
    """One pass of the evidence search, and its clearness."""
    height, width = case.valid[1].shape
    nodes = step.nodes(Window(0, 0, height, width))
    outlines = [(coords, case.ring_offsets)]
    votes, weight = search_stage.votes_of(step, structure(case, step.factor), (0, 0), outlines, nodes)
    margin = step.radius + 2
    sums = np.pad(search_stage.find_shifts(step, votes, weight), ((0, 0), (margin, margin), (margin, margin)))
    return search_stage.move(coords, search_stage.field_of(step, sums), nodes.grow(margin), step)


def predicted(case: Case, coords: Array, step: align.Step, card: str, symmetry: bool) -> tuple[Array, Array]:
    """One step of a card's network, and its confidence."""
    whole = load(card, None, "cpu")
    network, halo, factor = align.network_at(whole, step.factor, symmetry), whole.halo, step.factor
    gray = case.bands[factor].mean(axis=0, dtype=np.float32)
    gray = np.pad(gray, [(halo, halo + WINDOW - side % WINDOW) for side in gray.shape])
    starts = case.ring_offsets[case.polygon_offsets[:-1]]
    local = coords / factor
    boxes = np.concatenate([np.minimum.reduceat(local, starts), np.maximum.reduceat(local, starts)], axis=1)
    drawing = align.Drawing(local, case.ring_offsets, case.polygon_offsets, boxes)
    core = Window(0, 0, *(-(-side // WINDOW) * WINDOW for side in case.bands[factor].shape[1:]))
    cells = align.cell_windows(core)
    margin = align.radius_of(factor) + 2
    sums = np.zeros((4, cells.height + 2 * margin, cells.width + 2 * margin), np.float32)
    for window in windows_of(core, WINDOW):
        seen = np.ascontiguousarray(gray[window.y0 : window.y1 + 2 * halo, window.x0 : window.x1 + 2 * halo])
        answer = align.predict_window(network, seen, drawing, window, halo, factor, "cpu")
        if answer is not None:
            place = align.cell_windows(window)
            sums[(slice(None), *place.slices(cells.grow(margin)))] = answer
    return align.move(coords, align.smooth_field(sums, factor), cells.grow(margin), factor)


def gated(
    case: Case, start: Array, xy: Array, places: list[Array], sure: list[Array],
    passes: Sequence[Search | align.Step], seat: bool,
) -> Array:  # fmt: skip
    """The gate, the abstention and the seats."""
    ring_row = np.repeat(np.arange(len(case.polygon_offsets) - 1), np.diff(case.polygon_offsets))
    starts = case.ring_offsets[case.polygon_offsets]

    def means(values: Array) -> Array:
        counts = np.diff(starts).reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(np.add.reduceat(values, starts[:-1], axis=0) / counts)

    fit, length = edges.rate(structure(case, 1), xy, case.ring_offsets, ring_row, len(starts) - 1, gate.REACH)
    if isinstance(passes[0], Search):
        searched_at = [place for place, step in zip(places, passes, strict=True) if isinstance(step, Search)]
        last = np.hypot(*means(searched_at[-1] - searched_at[-2]).T)
        confidence = gate.confidence_of(means(sure[0]), last, edges.peaks(fit)[:, 3])
    else:
        confidence = means(sure[-1])
    verdicts = gate.Verdicts(means(xy), length, confidence, means(((xy - start) ** 2).sum(axis=1)))
    moved, near = gate.move(start, xy, verdicts, gate.Gate(case.gsd))
    LAST["confidence"] = gate.together(confidence, length, means(near))
    stays = LAST["confidence"] < gate.ABSTAIN
    if seat:
        moved = seated(case, start, xy, moved, stays)
    return np.where(np.repeat(stays, np.diff(starts))[:, None], start, moved)


def seated(case: Case, start: Array, xy: Array, moved: Array, stays: NDArray[np.bool_]) -> Array:
    """Every building onto its own roof: `xy` before the gate, `moved` after it, `stays` (polygons,)."""
    counts = np.diff(case.ring_offsets[case.polygon_offsets])
    rows = np.arange(len(counts))
    ring_row, vertex_row = np.repeat(rows, np.diff(case.polygon_offsets)), np.repeat(rows, counts)
    kind = np.full(len(ring_row), HOLE, np.uint8)
    kind[case.polygon_offsets[:-1]] = SHELL
    fit, length = edges.rate(structure(case, 1), xy, case.ring_offsets, ring_row, len(counts), gate.REACH)
    clear, far = np.full(len(counts), np.nan), np.zeros(len(counts))

    def seat(groups: NDArray[np.int64]) -> Array:
        seating = Seating(groups)
        moves = np.column_stack([np.ones(len(xy)), xy - start, moved - start])
        sums = np.add.reduceat(moves, case.ring_offsets[case.polygon_offsets[:-1]], axis=0)
        seating.add(rows, kept(fit, length), sums)
        clear[:], far[:] = seating.clear[groups], seating.far[groups]
        return seating.extra[groups]

    every = np.ones(len(counts), bool)
    shared = putback_shared.share(case.coords, vertex_row, every, within=False)
    rings = putback_seat.Rings.of(case.ring_offsets, ring_row, kind, every)
    place = np.where(stays[vertex_row, None], start, moved)
    extra, settled = putback_seat.seated(rings, start, place, shared, stays, seat)
    clear[~settled] = np.nan
    LAST.update(confidence=confidence_of(clear, far, LAST["confidence"]), clear=clear, far=far)
    return moved + np.repeat(extra, counts, axis=0)


def search(case: Case, coords: Array, largest: float) -> Array:
    """The evidence search alone. `largest` is not used: the search looks as far as it always does."""
    return run(case, coords, search_stage.plan_searches(case.gsd), seat=False)


def chain(card: str, symmetry: bool = False) -> Method:
    """The learned chain alone, over all scales that the card has seen, as `--aligner network`."""

    def method(case: Case, coords: Array, largest: float) -> Array:
        steps = steps_of("network", load_card(card), case.gsd)
        return run(case, coords, steps, card, symmetry=symmetry, seat=False)

    return method


def both(card: str, seat: bool) -> Method:
    """The search and then the chain's last steps, as `--aligner both`; and a seat for each building, as `--seat`."""

    def method(case: Case, coords: Array, largest: float) -> Array:
        steps = steps_of("both", load_card(card), case.gsd)
        return run(case, coords, [*search_stage.plan_searches(case.gsd), *steps], card, seat=seat)

    return method


OURS: dict[str, Method] = {
    "resurvey search, field alone": search,
    "resurvey, field alone": both("alignment-successor", seat=False),
    "resurvey": both("alignment-successor", seat=True),
    "successor chain": chain("alignment-successor"),
    "Zampieri, scale-invariant": chain("alignment-zampieri"),
    "Zampieri, one a scale": chain("alignment-zampieri-scales"),
    "Zampieri, symmetry-invariant": chain("alignment-zampieri", symmetry=True),
}
SLOW = ("Zampieri, scale-invariant", "Zampieri, one a scale", "Zampieri, symmetry-invariant", "successor chain")
"""Run on fewer fields."""
