"""Buildings found and told apart: what `resurvey evaluate instances` says of predictions against truth, row by row.

The metrics are `training.metrics_instances`' (docs/instances.md has the formulas). Here is what counts, and how images
make cities. Polygons are compared in the CRS of the truth; IoU is a ratio of areas next to each other, so that degrees
serve as well as metres.

What counts. A row without area (null, empty, a line) never does. Without an area of interest, all others do. With one:
a truth counts if more than half of it lies inside. A prediction goes with the truths that it lies on, if more than half
of it does: it counts with those that count and is set aside with those that do not; any other prediction counts if more
than half of itself lies inside. So nothing is false for lying on a building that the area cuts off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.evaluate import reprojected
from pipeline.errors import InputError
from training.metrics_instances import (
    ABOVE_HALF,
    THRESHOLDS,
    InstanceScores,
    Overlaps,
    parts,
    polygon_overlaps,
    polygonal,
    restrict,
    score,
)

if TYPE_CHECKING:
    import geopandas
    from numpy.typing import NDArray

IOU = 0.5
"""SpaceNet's threshold: an IoU of 0.5 or more finds a building."""

BEST_FIRST = ("confidence", "score")
"""Columns that order the matching, the first that is there: the highest value takes its turn first."""

COUNTS, ASIDE, NO_AREA = 0, 1, 2
"""What becomes of a row: it counts, lies outside the area of interest, or has no area."""

RATES = ("precision", "recall", "f1")
MEANS = (*RATES, "mean_iou", *(f"{name}_50_95" for name in RATES), "pq", "sq", "rq")
"""Figures of a city that the mean over cities is taken of."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An image's predictions on its truth. `overlaps` among the rows that count; `order` (predictions,) whose turn it
    is, or None for the order of rows; `truth_fate` and `predicted_fate` (rows,) COUNTS, ASIDE or NO_AREA; `true` and
    `seen` (rows,) geometries in `crs`, of every row."""

    overlaps: Overlaps
    order: NDArray[np.int64] | None
    ordered_by: str | None
    truth_fate: NDArray[np.int8]
    predicted_fate: NDArray[np.int8]
    true: NDArray[Any]
    seen: NDArray[Any]
    crs: Any


def judge(
    pred: geopandas.GeoDataFrame, truth: geopandas.GeoDataFrame, area: Any = None, name: str = "--pred"
) -> Judged:
    """Lay one image's predictions on its truth; `area` is a geometry in the truth's CRS, None is everywhere.

    Raises InputError, which calls the prediction `name`, where it cannot be reprojected, its column of confidence is
    not numbers, or `area` has no area.
    """
    true, seen = polygonal(truth.geometry.array), polygonal(reprojected(pred, truth.crs, name))
    overlaps = polygon_overlaps(true, seen)
    truths, predictions = overlaps.truth_areas > 0, overlaps.predicted_areas > 0
    fates = [np.where(each, COUNTS, NO_AREA).astype(np.int8) for each in (truths, predictions)]
    if area is not None:
        truths &= _mostly_inside(true, overlaps.truth_areas, area)
        predictions &= _follows(overlaps, truths, _mostly_inside(seen, overlaps.predicted_areas, area))
        for fate, counted in zip(fates, (truths, predictions), strict=True):
            fate[~counted & (fate == COUNTS)] = ASIDE
    values, column = _confidence(pred, name)
    order = None if values is None else np.argsort(-values[predictions], kind="stable")
    return Judged(restrict(overlaps, truths, predictions), order, column, fates[0], fates[1], true, seen, truth.crs)


def figures(images: Sequence[Judged]) -> dict[str, Any]:
    """A city's figures, from the counts of its images; 0 where there is nothing to divide by."""
    curve = [_summed(images, threshold) for threshold in THRESHOLDS]
    at, above = curve[0], _summed(images, ABOVE_HALF)
    pieces = [parts(image.overlaps) for image in images]
    in_truths, in_predictions = (np.concatenate(side) for side in zip(*pieces, strict=True))
    split, merged = in_truths >= 2, in_predictions >= 2
    truth_fate = np.concatenate([image.truth_fate for image in images])
    predicted_fate = np.concatenate([image.predicted_fate for image in images])
    by_iou = {name: [getattr(each, name) for each in curve] for name in RATES}
    return {
        "images": len(images),
        "iou": IOU,
        "truths": at.true_positives + at.false_negatives,
        "predictions": at.true_positives + at.false_positives,
        "found": at.true_positives,
        "missed": at.false_negatives,
        "false": at.false_positives,
        "precision": at.precision,
        "recall": at.recall,
        "f1": at.f1,
        "mean_iou": at.mean_iou,
        **{f"{name}_50_95": float(np.mean(values)) for name, values in by_iou.items()},
        "pq": above.panoptic,
        "sq": above.mean_iou,
        "rq": above.f1,
        "split": int(split.sum()),
        "split_into": int(in_truths[split].sum()),
        "merged": int(merged.sum()),
        "merged_from": int(in_predictions[merged].sum()),
        "truths_outside": int((truth_fate == ASIDE).sum()),
        "predictions_outside": int((predicted_fate == ASIDE).sum()),
        "truths_without_area": int((truth_fate == NO_AREA).sum()),
        "predictions_without_area": int((predicted_fate == NO_AREA).sum()),
        "by_iou": {"iou": list(THRESHOLDS), **by_iou},
    }


def report(cities: Mapping[str, Sequence[Judged]]) -> dict[str, Any]:
    """Everything that `resurvey evaluate instances` says: `cities` by name, and the `mean` of the cities' rates."""
    found = {name: figures(images) for name, images in cities.items()}
    columns = sorted({each.ordered_by for images in cities.values() for each in images if each.ordered_by})
    mean: dict[str, Any] = {name: float(np.mean([each[name] for each in found.values()])) for name in MEANS}
    curves = [each["by_iou"] for each in found.values()]
    rates = {name: np.mean([curve[name] for curve in curves], axis=0).tolist() for name in RATES}
    mean["by_iou"] = {"iou": list(THRESHOLDS), **rates}
    return {"iou": IOU, "ordered_by": columns, "cities": found, "mean": mean}


def _summed(images: Sequence[Judged], threshold: float) -> InstanceScores:
    return reduce(add, (score(image.overlaps, threshold, image.order) for image in images), InstanceScores(0, 0, 0))


def _mostly_inside(shapes: NDArray[Any], areas: NDArray[np.float64], area: Any) -> NDArray[np.bool_]:
    """Which shapes (n,) of `areas` lie inside a geometry with more than half of their area."""
    import shapely

    if area.is_empty or area.area == 0:
        raise InputError("--aoi: has no polygon with an area; give the area in which the truth is complete")
    shapely.prepare(area)
    inside = shapely.covers(area, shapes)
    cut = np.flatnonzero(shapely.intersects(area, shapes) & ~inside)
    inside[cut] = shapely.area(shapely.intersection(area, shapes[cut])) > 0.5 * areas[cut]
    return inside


def _follows(overlaps: Overlaps, truths: NDArray[np.bool_], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which predictions count, where `truths` (truths,) do and `inside` (predictions,) lie inside themselves."""
    half = 0.5 * overlaps.predicted_areas
    good = truths[overlaps.truth]
    on_counted, on_aside = (
        np.bincount(overlaps.predicted[pairs], overlaps.shared[pairs], overlaps.predictions) > half
        for pairs in (good, ~good)
    )
    return on_counted | (inside & ~on_aside)


def _confidence(pred: geopandas.GeoDataFrame, name: str) -> tuple[NDArray[np.float64] | None, str | None]:
    """What orders the matching, (rows,), the unknown last, and the column that it is from; None without one."""
    import pandas

    column = next((each for each in BEST_FIRST if each in pred.columns), None)
    if column is None:
        return None, None
    try:
        values = pandas.to_numeric(pred[column]).to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise InputError(f"{name}: column {column!r} orders the matching, and is not numbers; rename it") from None
    return np.where(np.isnan(values), -np.inf, values), column
