"""Scores of instances: greedy matching at an IoU threshold, as SpaceNet counts (DeepGlobe 2018).

Overlaps come from polygons (`polygon_overlaps`) or from two label images (`label_overlaps`); what follows is
the same. A truth is used once, a prediction finds at most one truth; counts are summed over the images of a
city, and F1 is taken per city.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pairs that share area: `truth`, `predicted` (n,) int64 positions, `iou` (n,) float64; and the totals."""

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    iou: NDArray[np.float64]
    truths: int
    predictions: int


@dataclass(frozen=True, slots=True)
class InstanceScores:
    """Counts: matches, predictions without a truth (false positives), missed truths (false negatives)."""

    true_positives: int
    false_positives: int
    false_negatives: int

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
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    def __add__(self, other: InstanceScores) -> InstanceScores:
        """Sum of the counts: images of one city."""
        return InstanceScores(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )


def polygon_overlaps(truth: Iterable[Any], predicted: Iterable[Any]) -> Overlaps:
    """Overlaps of two sets of shapely (multi)polygons in one CRS; invalid ones are repaired first.

    None and empty geometries overlap nothing but stay in the totals: a prediction without area is a false
    positive.
    """
    import shapely

    truths, predictions = _repaired(truth), _repaired(predicted)
    p, t = shapely.STRtree(truths).query(predictions, predicate="intersects")
    both = shapely.area(shapely.intersection(truths[t], predictions[p]))
    some = both > 0
    p, t, both = p[some], t[some], both[some]
    either = shapely.area(truths)[t] + shapely.area(predictions)[p] - both
    return Overlaps(t.astype(np.int64), p.astype(np.int64), both / either, len(truths), len(predictions))


def label_overlaps(truth: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]]) -> Overlaps:
    """Overlaps of two label images (h, w), 0 = background; positions are 0-based ranks of the labels present.

    Truth labels are ranked by value, predictions too; IoU counts pixels.
    """
    truth_labels, t = np.unique(truth, return_inverse=True)
    predicted_labels, p = np.unique(predicted, return_inverse=True)
    t, p = t.reshape(-1).astype(np.int64), p.reshape(-1).astype(np.int64)
    pairs, both = np.unique(t * len(predicted_labels) + p, return_counts=True)
    ti, pi = np.divmod(pairs, len(predicted_labels))
    area_t, area_p = np.bincount(t), np.bincount(p)
    inside = (truth_labels[ti] > 0) & (predicted_labels[pi] > 0)
    ti, pi, both = ti[inside], pi[inside], both[inside]
    iou = both / (area_t[ti] + area_p[pi] - both)
    no_t, no_p = int((truth_labels == 0).sum()), int((predicted_labels == 0).sum())
    return Overlaps(ti - no_t, pi - no_p, iou, len(truth_labels) - no_t, len(predicted_labels) - no_p)


def match(
    overlaps: Overlaps, threshold: float = 0.5, order: Sequence[int] | NDArray[np.integer[Any]] | None = None
) -> NDArray[np.int64]:
    """Greedy matches: (predictions,) int64, the truth each prediction found, or -1.

    Predictions take turns in `order` (best first where there are confidences; otherwise as they come); each
    takes the free truth that it overlaps most, if IoU >= `threshold`. With predictions that do not overlap
    one another and a threshold above 0.5 the order makes no difference.
    """
    found = np.full(overlaps.predictions, -1, np.int64)
    good = overlaps.iou >= threshold
    t, p, iou = overlaps.truth[good], overlaps.predicted[good], overlaps.iou[good]
    turn = np.empty(overlaps.predictions, np.int64)
    turn[np.arange(overlaps.predictions) if order is None else np.asarray(order)] = np.arange(overlaps.predictions)
    used: set[int] = set()
    for k in np.lexsort((t, -iou, turn[p])):
        if found[p[k]] < 0 and int(t[k]) not in used:
            found[p[k]] = t[k]
            used.add(int(t[k]))
    return found


def score(
    overlaps: Overlaps, threshold: float = 0.5, order: Sequence[int] | NDArray[np.integer[Any]] | None = None
) -> InstanceScores:
    """Counts at an IoU threshold after greedy matching (see `match`)."""
    hits = int((match(overlaps, threshold, order) >= 0).sum())
    return InstanceScores(hits, overlaps.predictions - hits, overlaps.truths - hits)


def mean_f1(cities: Iterable[InstanceScores]) -> float:
    """SpaceNet's final figure: the mean of the cities' F1; 0 where there are none."""
    values = [city.f1 for city in cities]
    return float(np.mean(values)) if values else 0.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _repaired(shapes: Iterable[Any]) -> NDArray[Any]:
    import shapely

    array = np.array([shapely.Polygon() if s is None else s for s in shapes], dtype=object)
    bad = ~shapely.is_valid(array)
    array[bad] = shapely.make_valid(array[bad])
    return array
