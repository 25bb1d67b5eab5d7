"""Labels → outlines: traced to the pixel, then simplified with shared edges shared, component by component.

The simplifier leaves a chain as it was where simplifying it would touch anything else. That must not let a
component's outline depend on its neighbours, since another tile may not have read them. So components are
laid out in one row before they are simplified, where none can reach another:

    scene   [aa]  [b]        row   [aa].[b].[cccc]
              [cccc]

Coordinates are whole numbers and the row lies between two powers of two, where all float64 have one
spacing: sums round alike wherever in the row, or the scene, a component stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.buildings import Integers, Ragged, join_polygons, take_polygons
from pipeline.grid import Window
from pipeline.kernels import instances, regular, simplify, trace
from pipeline.kernels import polygons as ragged
from pipeline.kernels.claims import claim

Labels = npt.NDArray[np.int32]

ROW = 2**24
"""Where the row begins, px. It ends before 2 · ROW: a new one is begun every ROW / 2, and no component is
half as wide as that."""

GAP = 4
"""Pixels between components in the row; simplified lines stay inside the box of what they simplify."""

WIDE = 64
"""The same for regular outlines, which may leave that box by the reach of a corner (`kernels.regular`)."""

MOST = 4_000_000
"""Vertices of one component from which it stays as traced: 70 000 buildings wall to wall, and 0.4 GB."""

CLAIM = 6
"""Pixels around a component that its regular outlines may take, where no other is as near."""

MARGIN = 2 * CLAIM
"""Pixels around a component that its claims depend on."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Which component's regular outlines may cover a pixel: numbers (h, w) int32, and x, y of the first pixel."""

    owner: Labels
    origin: npt.NDArray[np.float64]


def claims_of(component: Labels, others: npt.NDArray[np.bool_] | None, window: Window) -> Claims:
    """Claims of the components (h, w) at `window`, against each other and the `others`; `component` is overwritten.

    Mask within MARGIN px of a component has to be there, as a component or as one of the others, so that its
    claims are the same from every window.
    """
    if others is not None:
        component[others & (component == 0)] = -1
    return Claims(claim(component, CLAIM), np.array([window.x0, window.y0], np.float64))


def trace_runs(runs: instances.Runs, window: Window) -> tuple[Ragged, Integers]:
    """Polygons of the runs of a label raster at `window`, px in the scene, and the label of each."""
    coords, ring_offsets, polygon_offsets, label = trace.trace_runs(runs, (window.x0, window.y0))
    return (coords, ring_offsets, polygon_offsets), label.astype(np.int64)


def simplified(polygons: Ragged, group: Integers, tolerance: float, claims: Claims | None = None) -> Ragged:
    """The polygons with fewer vertices, each group (k,) of them as if it were alone; in the given order.

    With `claims` they get straight walls and right angles as well (`kernels.regular`), on what their group may
    claim. With `tolerance` 0 they come back as traced, with claims or without.
    """
    if tolerance <= 0 or not group.size:
        return polygons
    order = np.argsort(group, kind="stable")
    sorted_polygons = take_polygons(polygons, order)
    heads = np.flatnonzero(np.diff(group[order], prepend=-1))  # first polygon of each group
    of = np.repeat(np.arange(heads.size), np.diff(heads, append=order.size))
    boxes = ragged.boxes(*sorted_polygons)
    low, high = np.minimum.reduceat(boxes[:, :2], heads), np.maximum.reduceat(boxes[:, 2:], heads)
    width = high[:, 0] - low[:, 0] + (GAP if claims is None else WIDE)
    row, place = np.divmod(np.cumsum(width) - width, ROW // 2)
    starts = sorted_polygons[1][sorted_polygons[2][heads]]
    row[np.diff(starts, append=sorted_polygons[0].shape[0]) > MOST] = -1
    shift = np.stack([ROW + place - low[:, 0], -low[:, 1]], axis=1)

    chosen, results = [], []
    for index in np.unique(row):
        some = np.flatnonzero(row[of] == index)
        part = sorted_polygons if some.size == order.size else take_polygons(sorted_polygons, some)
        if index >= 0:
            there = shift[of[some]]
            ragged.move(*part, there)
            if claims is None:
                part = simplify.simplify(*part, tolerance)
            else:
                part = regular.regularise(*part, tolerance, claims.owner, group[order][some], -claims.origin - there)
            ragged.move(*part, -there)
        chosen.append(some)
        results.append(part)
    back = np.empty_like(order)
    back[order[np.concatenate(chosen)]] = np.arange(order.size)
    return take_polygons(join_polygons(results), back)
