"""This project's aligners on an evaluation case held in memory: the stages' own functions, one block, no tiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Window
from pipeline.stages import search as search_stage
from training.align_chain import Case

Array = NDArray[np.float64]


def search(case: Case, coords: Array, largest: float) -> Array:
    """The evidence search alone. `largest` is not used: the search looks as far as it always does."""
    for step in search_stage.plan_searches(case.gsd):
        coords = one_pass(case, coords, step)
    return coords


def one_pass(case: Case, coords: Array, step: search_stage.Search) -> Array:
    """One pass over the whole case as one block."""
    tensor = search_stage.structure(case.bands[step.factor], case.valid[step.factor])
    height, width = case.valid[1].shape
    nodes = step.nodes(Window(0, 0, height, width))
    votes, weight = search_stage.votes_of(step, tensor, (0, 0), [(coords, case.ring_offsets)], nodes)
    sums = search_stage.find_shifts(step, votes, weight)
    margin = step.radius + 2
    wide = np.pad(sums, ((0, 0), (margin, margin), (margin, margin)))
    return search_stage.move(coords, search_stage.field_of(step, wide), nodes.grow(margin), step)[0]


OURS: dict[str, Callable[[Case, Array, float], Array]] = {"resurvey search": search}
