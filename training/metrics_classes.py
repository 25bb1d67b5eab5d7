"""Scores of a class map: intersection over union a class, overall accuracy, on partial labels too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.targets_classes import BACKGROUND, BUILDING, NOT_BUILDING, NOT_ROAD, ROAD, UNKNOWN

Counts = dict[str, NDArray[np.int64]]


def count(classes: NDArray[np.integer], codes: NDArray[np.uint8]) -> Counts:
    """Pixels of a class map (H, W) in 0..2 against codes (H, W): what `figures` needs, to be summed over scenes.

    'building', 'road', 'background': (intersection, union) over pixels of which it is known whether they are
    of the class, in scenes that label the class. 'accuracy': (right, all) over pixels with exactly one class,
    in scenes that label all. 'building_accuracy': (right, all) of building or not.
    """
    one = np.isin(codes, (BUILDING, ROAD, BACKGROUND))
    complete = bool((codes == BACKGROUND).any())
    counts: Counts = {}
    for name, own, other, labelled in (
        ("building", BUILDING, NOT_BUILDING, complete or not (codes == NOT_ROAD).any()),
        ("road", ROAD, NOT_ROAD, complete or not (codes == NOT_BUILDING).any()),
        ("background", BACKGROUND, UNKNOWN, complete),
    ):
        known = (one | ((codes == other) & (codes != UNKNOWN))) & labelled
        truth, seen = codes == own, classes == own
        counts[name] = np.array([(truth & seen & known).sum(), ((truth | seen) & known).sum()])
    counts["accuracy"] = np.array([((classes == codes) & one & complete).sum(), (one & complete).sum()])
    known = (codes == NOT_BUILDING) | (one & (complete or not (codes == NOT_ROAD).any()))
    right = ((classes == BUILDING) == (codes == BUILDING)) & known
    counts["building_accuracy"] = np.array([right.sum(), known.sum()])
    return counts


def total(counts: list[Counts]) -> Counts:
    """The sum of several scenes' counts."""
    return {name: np.sum([c[name] for c in counts], axis=0) for name in counts[0]}


def figures(counts: Counts) -> dict[str, float]:
    """IoU of each class ('building_iou', ...) and accuracies, 0..1: those that the labels allow, and no others."""
    return {
        name if name.endswith("accuracy") else f"{name}_iou": round(float(part / whole), 4)
        for name, (part, whole) in counts.items()
        if whole > 0
    }
