"""Do no harm: how sure a move is, and what is too small to be worth one.

After the last move every footprint says how sure it may be, from three things: how clearly the first search
saw its neighbourhood's shift, how little the last search had to add, and how well its own outline fits the
image where it lies now. Together they estimate the chance that its vertices end within two pixels of the truth,
as calibrated on training areas with published fields, and on the same areas with the image spoiled (noise,
half of it noise, upside down).

Then every vertex asks its neighbours how far they went. Where that is no more than what labels and images
differ by anyway, the cadaster was right, and stays as it was; the share moved grows from none to all between
QUIET and LOUD. That is a smooth field of its own, so shared vertices stay shared. When the cadaster is put back, rows
that share vertices decide together: those whose mean confidence is below ABSTAIN stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels import scatter

VERSION = 4
SIGMA_M, SIGMA_PX = 20.0, 120.0
"""Standard deviation of the neighbours' weights: metres, and px of level 1 at least. As the first search's."""
CUT = 3.0
"""Standard deviations beyond which a neighbour has no say."""
QUIET, LOUD = 1.0, 2.0
"""px of level 1: root mean square of the neighbours' moves up to which nothing moves, from which all does."""
REACH = 8
"""px of level 1: shifts against which a footprint's own fit is judged."""
ABSTAIN = 0.2
"""Confidence below which a row stays where it was and is marked for review. With 32 px fields about one row in
200 of the areas looked at is below it, with 8 px none; on noise 99 in 100, on images upside down 9 in 10."""
WEIGHTS = {"clear": 0.655, "last": -4.633, "own": 0.653, "constant": -2.068}
"""Logistic regression of "mean vertex error of at most 2 px" on the evidence, training areas only."""

LINE_WEIGHTS = {"clear": 1.339, "last": -6.84, "own": 14.527, "constant": -2.838}
"""The same for roads, "within 2 px of the true line in the mean", on training areas of their own: benchmarks/
alignment_roads_gate.py makes them."""
ABSTAIN_ROADS = 0.6
"""Confidence below which a road stays: the least (in steps of 0.1) with which fields of 8 px leave no one of the
training areas worse than it came. Staying is right too, within 2 px, for most lines under such fields."""
LINE_NOISE = 2.0
"""px of level 1: what the roads' evidence is off by even where a line lies right, taken off its moves' squares before
they are compared with QUIET."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gate:
    """The last move by the field; `gsd` in metres gives its reach."""

    gsd: float
    factor = 1
    name = "align-gate"
    source = "align-gate-check"

    @property
    def sigma(self) -> float:
        """Standard deviation of the neighbours' weights, px of level 1."""
        return max(SIGMA_M / self.gsd, SIGMA_PX)

    @property
    def neighbourhood(self) -> float:
        """How far, px of level 1, a neighbour can be that has a say."""
        return CUT * self.sigma


def confidence_of(clear: Float64, last: Float64, own: Float64) -> Float64:
    """Chance (n) that a footprint ends within 2 px: clearness of the first search's peak, length of the last search's
    move (px of level 1), and standard deviations that its own fit stands above that at other places."""
    return chance(WEIGHTS, clear, last, own)


def road_confidence_of(clear: Float64, last: Float64, own: Float64) -> Float64:
    """The same for roads: the chance (n) that a line's vertices end, in the mean, within 2 px of the true line; `own`
    as `roads.contrasts` gives it."""
    return chance(LINE_WEIGHTS, clear, last, own)


def chance(weights: dict[str, float], clear: Float64, last: Float64, own: Float64) -> Float64:
    """The regression's answer (n) for evidence (n) each."""
    bounded, moved, fit = terms(clear, last, own)
    score = weights["clear"] * bounded + weights["last"] * moved + weights["own"] * fit + weights["constant"]
    return np.where(clear > 0, 1.0 / (1.0 + np.exp(-score)), 0.0)


def terms(clear: Float64, last: Float64, own: Float64) -> tuple[Float64, Float64, Float64]:
    """The evidence (n) as the regression takes it: bounded, and the move's logarithm."""
    return np.minimum(clear, 8.0), np.log1p(last), np.clip(own, -1.0, 4.0)


def together(own: Float64, weight: Float64, near: Float64) -> Float64:
    """Confidence of rows or of their vertices (n): half their own, half their neighbours', and only a quarter their
    own where they are surer than their neighbours. A shift is found by a neighbourhood: what a spoiled image makes
    look sure here and there does not stand alone. Rows without an outline (`weight` 0) have their neighbours' only."""
    share = np.where(own > near, 0.25, 0.5)
    return np.where(weight > 0, near + (own - near) * share, near)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What footprints say of their moves: centre (n, 2) px of level 1, weight (n), confidence (n), square (n), the
    mean over their vertices of |move|² in px²."""

    centre: Float64
    weight: Float64
    confidence: Float64
    square: Float64

    def table(self) -> Float64:
        """The columns side by side: (n, 5) float64."""
        return np.column_stack([self.centre, self.weight, self.confidence, self.square])

    @classmethod
    def of(cls, table: Float64) -> Verdicts:
        """From `table()`'s columns."""
        return cls(table[:, :2], table[:, 2], table[:, 3], table[:, 4])


def move(start: Float64, moved: Float64, near: Verdicts, gate: Gate) -> tuple[Float64, Float64]:
    """Points (n, 2) on their way from `start` to `moved` as far as the gate lets them; and confidence there (n).

    Points without neighbours go all the way, with confidence 0.
    """
    values = np.column_stack([near.square, near.confidence])
    means = scatter.blend(moved, near.centre, values, near.weight, gate.sigma, gate.neighbourhood)
    far = np.sqrt(means[:, 0])
    share = np.where(means[:, 2] > 0, rise(far, (QUIET, LOUD)), 1.0)
    return start + (moved - start) * share[:, None], means[:, 1]


def rise(value: Float64, between: tuple[float, float]) -> Float64:
    """From 0 to 1 between two values, smoothly."""
    share = np.clip((value - between[0]) / (between[1] - between[0]), 0.0, 1.0)
    return np.asarray(share * share * (3.0 - 2.0 * share))
