"""Scores of instances: greedy matching at an IoU threshold, as SpaceNet counts (DeepGlobe 2018), and what else
says how well buildings are told apart: IoU .5 to .95, panoptic quality, split and merged buildings.

Overlaps come from polygons (`polygon_overlaps`) or from two label images (`label_overlaps`); what follows is
the same. A truth is used once, a prediction finds at most one truth; counts are summed over the images of a
city, and F1 is taken per city.

Greedy and optimal. Where neither predictions nor truths overlap among themselves, an IoU above 0.5 means that more
than half of each of the two lies in the other: no polygon has two such partners, greedy matching has no choice to
make, and what it finds is the largest matching there is, whatever the order (at exactly 0.5, too: a polygon with two
partners then holds both whole, and they have no other). Where predictions do overlap one another, the order decides,
and greedy finds at least half of the largest matching.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.pieces import pieces, polygonal

Order = Sequence[int] | NDArray[np.integer[Any]] | None
Flags = NDArray[np.bool_]

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""IoU .5, .55 … .95."""

ABOVE_HALF = float(np.nextafter(0.5, 1))
"""Panoptic quality counts pairs with IoU above 0.5, SpaceNet those with 0.5 or more."""


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pairs that share area: `truth`, `predicted` (n,) int64 positions, `iou` and `shared` (area) (n,) float64; how
    many truths and predictions there are, and their areas, (truths,) and (predictions,) float64."""

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    iou: NDArray[np.float64]
    truths: int
    predictions: int
    shared: NDArray[np.float64]
    truth_areas: NDArray[np.float64]
    predicted_areas: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class InstanceScores:
    """Counts: matches, predictions without a truth (false positives), missed truths (false negatives); and the sum
    of the matches' IoU. Equal where the counts are."""

    true_positives: int
    false_positives: int
    false_negatives: int
    iou_sum: float = field(default=0.0, compare=False)

    @property
    def precision(self) -> float:
        """Share of the predictions that match; 0 where there are none."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the truths that are found; 0 where there are none."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; panoptic quality calls it RQ."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the matches, 0 without one; panoptic quality calls it SQ."""
        return _ratio(self.iou_sum, self.true_positives)

    @property
    def panoptic(self) -> float:
        """SQ · RQ: the matches' IoU, summed, over TP + FP/2 + FN/2 (Kirillov et al. 2019, eq. 1). PQ as published is
        that of the matches above 0.5: `score(overlaps, ABOVE_HALF)`."""
        return self.mean_iou * self.f1

    def __add__(self, other: InstanceScores) -> InstanceScores:
        """Sum of the counts: images of one city."""
        return InstanceScores(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.iou_sum + other.iou_sum,
        )


def polygon_overlaps(truth: Iterable[Any], predicted: Iterable[Any]) -> Overlaps:
    """Overlaps of two sets of shapely (multi)polygons in one CRS; invalid ones are repaired first.

    None and geometries without area overlap nothing but stay in the totals: a prediction without area is a false
    positive.
    """
    import shapely

    truths, predictions = polygonal(truth), polygonal(predicted)
    truth_areas, predicted_areas = shapely.area(truths), shapely.area(predictions)
    (t_pieces, t_of), (p_pieces, p_of) = pieces(truths), pieces(predictions)
    p, t = shapely.STRtree(t_pieces).query(p_pieces, predicate="intersects")
    shared = shapely.area(shapely.intersection(t_pieces[t], p_pieces[p]))
    pairs, pair = np.unique(p_of[p] * len(truths) + t_of[t], return_inverse=True)
    shared = np.bincount(pair, shared, len(pairs)).astype(np.float64)
    pairs, shared = pairs[shared > 0], shared[shared > 0]
    p, t = np.divmod(pairs, max(len(truths), 1))
    iou = shared / (truth_areas[t] + predicted_areas[p] - shared)
    return Overlaps(t, p, iou, len(truths), len(predictions), shared, truth_areas, predicted_areas)


def label_overlaps(truth: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]]) -> Overlaps:
    """Overlaps of two label images (h, w), 0 = background; positions are 0-based ranks of the labels present.

    Truth labels are ranked by value, predictions too; areas count pixels.
    """
    truth_labels, t = np.unique(truth, return_inverse=True)
    predicted_labels, p = np.unique(predicted, return_inverse=True)
    t, p = t.reshape(-1).astype(np.int64), p.reshape(-1).astype(np.int64)
    pairs, both = np.unique(t * len(predicted_labels) + p, return_counts=True)
    ti, pi = np.divmod(pairs, len(predicted_labels))
    area_t, area_p = np.bincount(t).astype(np.float64), np.bincount(p).astype(np.float64)
    inside = (truth_labels[ti] > 0) & (predicted_labels[pi] > 0)
    ti, pi, both = ti[inside], pi[inside], both[inside]
    iou = both / (area_t[ti] + area_p[pi] - both)
    no_t, no_p = int((truth_labels == 0).sum()), int((predicted_labels == 0).sum())
    return Overlaps(ti - no_t, pi - no_p, iou, len(truth_labels) - no_t, len(predicted_labels) - no_p,
                    both.astype(np.float64), area_t[no_t:], area_p[no_p:])  # fmt: skip


def restrict(overlaps: Overlaps, truths: Flags, predictions: Flags) -> Overlaps:
    """The overlaps among the flagged truths (truths,) and predictions (predictions,), positions counted anew."""
    kept = truths[overlaps.truth] & predictions[overlaps.predicted]
    t, p = (np.cumsum(flags, dtype=np.int64) - 1 for flags in (truths, predictions))
    return Overlaps(
        t[overlaps.truth[kept]], p[overlaps.predicted[kept]], overlaps.iou[kept], int(truths.sum()),
        int(predictions.sum()), overlaps.shared[kept], overlaps.truth_areas[truths],
        overlaps.predicted_areas[predictions],
    )  # fmt: skip


def match(overlaps: Overlaps, threshold: float = 0.5, order: Order = None) -> NDArray[np.int64]:
    """Greedy matches: (predictions,) int64, the truth each prediction found, or -1.

    Predictions take turns in `order` (best first where there are confidences; otherwise as they come); each
    takes the free truth that it overlaps most, if IoU >= `threshold`. With predictions that do not overlap
    one another and a threshold of 0.5 or more the order makes no difference to the counts (see the module's head).
    """
    found = np.full(overlaps.predictions, -1, np.int64)
    good = overlaps.iou >= threshold
    t, p, iou = overlaps.truth[good], overlaps.predicted[good], overlaps.iou[good]
    turn = np.empty(overlaps.predictions, np.int64)
    turns = np.arange(overlaps.predictions)
    turn[turns if order is None else np.asarray(order, np.int64)] = turns
    queue = np.lexsort((t, -iou, turn[p]))
    used: set[int] = set()
    served: set[int] = set()
    for one, truth in zip(p[queue].tolist(), t[queue].tolist(), strict=True):
        if one not in served and truth not in used:
            found[one] = truth
            used.add(truth)
            served.add(one)
    return found


def matched_iou(overlaps: Overlaps, found: NDArray[np.int64]) -> NDArray[np.float64]:
    """(predictions,) IoU of each with the truth that it found (`match`); 0 without one."""
    iou = np.zeros(overlaps.predictions)
    these = found[overlaps.predicted] == overlaps.truth
    iou[overlaps.predicted[these]] = overlaps.iou[these]
    return iou


def score(overlaps: Overlaps, threshold: float = 0.5, order: Order = None) -> InstanceScores:
    """Counts at an IoU threshold after greedy matching (see `match`)."""
    found = match(overlaps, threshold, order)
    hits = int((found >= 0).sum())
    total = float(matched_iou(overlaps, found).sum())
    return InstanceScores(hits, overlaps.predictions - hits, overlaps.truths - hits, total)


def mostly_in(overlaps: Overlaps) -> tuple[Flags, Flags]:
    """Of which pairs (n,) the prediction lies mostly in the truth, and of which the truth mostly in the prediction.

    Mostly: with more than half of its own area.
    """
    half = 0.5 * (1 + 1e-6)  # one half to within rounding is not more than half
    return (
        overlaps.shared > half * overlaps.predicted_areas[overlaps.predicted],
        overlaps.shared > half * overlaps.truth_areas[overlaps.truth],
    )


def parts(overlaps: Overlaps) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each truth (truths,), how many predictions lie mostly in it; for each prediction, how many truths do.

    Two or more in a truth: it is split; in a prediction: it merges them.
    """
    in_truth, in_prediction = mostly_in(overlaps)
    return (
        np.bincount(overlaps.truth[in_truth], minlength=overlaps.truths),
        np.bincount(overlaps.predicted[in_prediction], minlength=overlaps.predictions),
    )


def mean_f1(cities: Iterable[InstanceScores]) -> float:
    """SpaceNet's final figure: the mean of the cities' F1; 0 where there are none."""
    values = [city.f1 for city in cities]
    return float(np.mean(values)) if values else 0.0


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
