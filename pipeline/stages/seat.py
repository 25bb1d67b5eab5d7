"""Every building onto its own roof: what the field, which is smooth, cannot say.

A cadaster is off by a field, which neighbours have in common, and each building by a little of its own. The searches
ask neighbourhoods, since a single outline is easily fooled; but once that is done what is left is small, and a single
outline can be asked within a few pixels. Rows that touch are seated as one: their outlines' ratings of every shift of
up to REACH px are added up, longer shifts count less (PRIOR), and the best is theirs. They go there as far as the place
differs from where they came from, as in the gate: what lies right within QUIET px stays; and as far as it is CLEAR.
PRIOR, CLEAR and WEIGHTS are from training areas whose polygons were placed by eye (benchmarks/placed.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels import edges
from pipeline.ragged import Ints
from pipeline.stages.gate import ABSTAIN, LOUD, QUIET, rise

VERSION = 1
REACH = 5
"""px of level 1: how far from its neighbours' move a building is looked for."""
PRIOR = 0.03
"""What a shift loses by its squared length, px⁻², in parts of the mean rating: longer ones are rarer."""

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def kept(ratings: Float32, length: Float64) -> Float32:
    """Of ratings (n, s, s) as `edges.rate` gives them, means over `length` (n) px of outline, the sums for shifts of
    up to REACH: (n, 2 REACH + 1, 2 REACH + 1) float32."""
    rim = ratings.shape[1] // 2 - REACH
    middle = ratings[:, rim : ratings.shape[1] - rim, rim : ratings.shape[2] - rim]
    return np.asarray(middle * length[:, None, None], np.float32)


CLEAR = 1.5, 2.0
"""Standard deviations that the best shift stands above the others: up to the first a building goes with the field, from
the second onto its seat."""
WEIGHTS = {"clear": 3.402, "far": -0.136, "constant": -4.961}
"""Logistic regression of "mean vertex error of at most 2 px" on how clear a seat is and how far from the field, of
polygons of training areas that were placed by eye: benchmarks/alignment_confidence.py makes it."""
KNOWN = 0.5
"""Confidence of the gate from which the seat's counts alone; at ABSTAIN, below which nothing moves, the gate's does."""


def find(ratings: NDArray[np.floating]) -> tuple[Float64, Float64]:
    """Best shifts (n, 2), px of level 1, x first, by ratings (n, s, s) of all shifts of up to REACH px, y first, each a
    sum over outline; and how clear they are (n), standard deviations above the others. 0 without evidence."""
    axis = np.arange(-REACH, REACH + 1.0)
    mean = ratings.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    there = mean > 0
    worth = np.where(there, ratings / np.where(there, mean, 1.0), 0.0) - PRIOR * (axis[:, None] ** 2 + axis**2)
    worth -= worth.min(axis=(1, 2), keepdims=True)
    found = np.where(there[:, 0], edges.peaks(np.ascontiguousarray(worth, np.float32)), 0.0)
    return found[:, :2], found[:, 2]


def confidence_of(clear: Float64, far: Float64, gate: Float64) -> Float64:
    """Chance (n) that a row ends within 2 px, by how clear its seat is, how far (px) from the field, and the `gate`'s
    confidence, which knows whether the neighbourhood could be seen at all. The gate's alone where `clear` is NaN."""
    score = WEIGHTS["clear"] * clear + WEIGHTS["far"] * far + WEIGHTS["constant"]
    share = np.clip((gate - ABSTAIN) / (KNOWN - ABSTAIN), 0.0, 1.0)
    return np.where(np.isnan(clear), gate, gate + (1.0 / (1.0 + np.exp(-score)) - gate) * share)


def extra(seated: Float64, gated: Float64, clear: Float64) -> Float64:
    """What is added (n, 2) to moves `gated` (n, 2) so that buildings go to `seated` (n, 2), all px of level 1 from
    where they came: all of it if that is LOUD px away and `clear` (n), nothing within QUIET."""
    share = rise(np.hypot(*seated.T), (QUIET, LOUD)) * rise(clear, CLEAR)
    return np.asarray((seated - gated) * share[:, None])


class Seating:
    """Adds up what rows say of their groups, block after block, and seats a group when all of its rows have spoken: no
    more is held than the groups that lie in blocks read and in blocks still to read. A group one of whose rows never
    speaks is not seated."""

    def __init__(self, groups: Ints) -> None:
        """`groups` (rows,): each row's group, from 0."""
        self._groups = groups
        self._left = np.bincount(groups)
        self._open: dict[int, tuple[Float64, Float64]] = {}
        self.extra: Float64 = np.zeros((len(self._left), 2))
        """Of each group so far (groups, 2): what is added to its rows' moves, px of level 1."""
        self.clear: Float64 = np.full(len(self._left), np.nan)
        """How clear its seat is (groups,), NaN where nothing was seen; and how far from the field, px."""
        self.far: Float64 = np.zeros(len(self._left))

    def add(self, rows: Ints, ratings: NDArray[np.floating], moves: Float64) -> None:
        """What `rows` (r,) say: `ratings` (r, s, s), and `moves` (r, 5): number of vertices, and the sums over them of
        their moves before the gate and after it, px of level 1."""
        names, place = np.unique(self._groups[rows], return_inverse=True)
        said = np.zeros((len(names), *ratings.shape[1:]))
        np.add.at(said, place, ratings)
        went = np.zeros((len(names), 5))
        np.add.at(went, place, moves)
        np.subtract.at(self._left, self._groups[rows], 1)
        for k in np.flatnonzero([name in self._open for name in names.tolist()]).tolist():
            before = self._open.pop(int(names[k]))
            said[k] += before[0]
            went[k] += before[1]
        done = self._left[names] == 0
        for k in np.flatnonzero(~done).tolist():
            self._open[int(names[k])] = said[k], went[k]
        if done.any():
            means = went[done, 1:] / went[done, :1]
            shift, clear = find(said[done])
            self.extra[names[done]] = extra(means[:, :2] + shift, means[:, 2:], clear)
            self.clear[names[done]] = np.where(clear > 0, clear, np.nan)
            self.far[names[done]] = np.hypot(*shift.T)
