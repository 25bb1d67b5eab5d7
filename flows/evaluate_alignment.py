"""How well an aligned cadaster lies: vertex errors before and after, IoU, by status, and what its confidence is worth.

Distances are measured on the ground: in the truth's CRS where its units hold there to 1 %, else (degrees, Web
Mercator away from the equator) in the local UTM zone. A ring's closing vertex counts, as it does in training.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from pipeline.errors import InputError
from pipeline.ground import ground_sampling
from training.metrics import (
    CURVE,
    accuracy_curve,
    more_confident,
    polygon_means,
    reliability,
    summary,
    vertex_errors,
)

if TYPE_CHECKING:
    import geopandas
    from numpy.typing import NDArray

SHARES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Distances, px, that a report gives the share of vertices within."""

WELL = 2.0
"""Mean vertex error, px, up to which a polygon lies well: what its confidence should foretell."""

POLYGONS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


@dataclass(frozen=True, slots=True)
class Compared:
    """A prediction laid on its truth. `errors` (vertices,), px of `gsd` metres, row after row; `counts` (rows,) of
    vertices; `rows` the prediction's; `placed` and `true` (rows,) geometries in one CRS of even units."""

    errors: NDArray[np.float64]
    counts: NDArray[np.int64]
    rows: geopandas.GeoDataFrame
    placed: NDArray[Any]
    true: NDArray[Any]
    gsd: float


def compare(
    pred: geopandas.GeoDataFrame,
    truth: geopandas.GeoDataFrame,
    *,
    gsd: float,
    key: str | None,
    area: Any = None,
    name: str = "--pred",
) -> Compared:
    """The rows of `pred` on those of `truth` within `area` (a geometry in the truth's CRS; None: everywhere).

    Rows correspond by column `key`; without one by order (a sorted cadaster's: `input_row`). Both must have the same
    vertices in the same order. Raises InputError, which calls the prediction `name`, where they do not correspond.
    """
    pred, truth = _paired(pred, truth, key, name)
    if area is not None:
        shapely.prepare(area)
        inside = shapely.covers(area, np.asarray(truth.geometry.array))
        pred, truth = pred[inside], truth[inside]
    crs, metres = _ground(truth)
    true, placed = (np.asarray(frame.geometry.to_crs(crs).array) for frame in (truth, pred))
    counts, expected = shapely.get_num_coordinates(placed), shapely.get_num_coordinates(true)
    if (counts != expected).any():
        row = int(np.flatnonzero(counts != expected)[0])
        which = "; match rows by a column, --key NAME" if key is None else f" ({key} {truth[key].iloc[row]})"
        raise InputError(
            f"{name}: row {row} of those compared has {counts[row]} vertices, its truth {expected[row]}{which}"
        )
    errors = vertex_errors(shapely.get_coordinates(placed), shapely.get_coordinates(true)) * (metres / gsd)
    return Compared(errors, counts.astype(np.int64), pred, placed, true, gsd)


def _paired(
    pred: geopandas.GeoDataFrame, truth: geopandas.GeoDataFrame, key: str | None, name: str
) -> tuple[geopandas.GeoDataFrame, geopandas.GeoDataFrame]:
    """Both frames, row for row."""
    if key is not None:
        for option, frame in ((name, pred), ("--truth", truth)):
            if key not in frame.columns or frame[key].duplicated().any():
                raise InputError(f"{option}: needs a column {key!r} of unique values; choose it with --key")
        truth = truth[truth[key].isin(pred[key])]
        return pred.set_index(key, drop=False).loc[truth[key]], truth
    if len(pred) != len(truth):
        raise InputError(f"{name} has {len(pred)} rows, --truth {len(truth)}: match them by a column, --key NAME")
    pred, truth = (each.sort_values("input_row") if "input_row" in each.columns else each for each in (pred, truth))
    return pred, truth


def _ground(frame: geopandas.GeoDataFrame) -> tuple[Any, float]:
    """A CRS whose units are the same length everywhere on `frame`, and that length in metres."""
    crs, bounds = frame.crs, frame.total_bounds
    unit = float(crs.axis_info[0].unit_conversion_factor) if crs.axis_info else 1.0
    if not np.isfinite(bounds).all():
        return crs, unit
    if not crs.is_geographic:
        centre = (bounds[:2] + bounds[2:]) / 2
        transform = (1.0, 0.0, float(centre[0]), 0.0, -1.0, float(centre[1]))
        if np.allclose(ground_sampling(crs.to_wkt(), transform, (0, 0)), unit, rtol=1e-9):
            return crs, unit
    return frame.estimate_utm_crs(), 1.0


def alignment(
    pred: geopandas.GeoDataFrame, truth: geopandas.GeoDataFrame, *, gsd: float, key: str | None, area: Any = None
) -> dict[str, Any]:
    """How far the vertices of `pred` lie from those of `truth`: median and mean, px of `gsd` and m, and the shares
    within 1, 2, 4, 8 px. Rows as in `compare`; all NaN where there are none. Raises InputError."""
    found = compare(pred, truth, gsd=gsd, key=key, area=area)
    figures = summary(found.errors)
    return {
        "buildings": len(found.counts),
        "vertices": len(found.errors),
        **_both("median", figures["median"], gsd),
        **_both("mean", figures["mean"], gsd),
        **{name: value for name, value in figures.items() if name.startswith("within_")},
    }


def report(
    pred: geopandas.GeoDataFrame,
    truth: geopandas.GeoDataFrame,
    *,
    gsd: float,
    key: str | None = None,
    area: Any = None,
    before: geopandas.GeoDataFrame | None = None,
) -> dict[str, Any]:
    """Everything that `resurvey evaluate alignment` says, units in the names; `before` is the cadaster as it came.

    `before` (where given) and `after`: see `_figures`. `by_status` where `pred` has a column `status`; `confidence`
    where it has one. With `key`, truths without a row of `pred` and rows without a truth are set aside and counted.
    Raises InputError where rows do not correspond or none is left.
    """
    after = compare(pred, truth, gsd=gsd, key=key, area=area)
    if len(after.errors) == 0:
        where = "" if area is None else " within --aoi"
        raise InputError(f"--pred and --truth: no row of both{where} has a vertex; check --key and the extents")
    first = None
    if before is not None:
        if key is not None and key in before.columns and not after.rows[key].isin(before[key]).all():
            lacking = after.rows[key][~after.rows[key].isin(before[key])].iloc[0]
            raise InputError(f"--before: has no row with {key} {lacking}, which --pred has; name the run's cadaster")
        chosen = truth if key is None else truth[truth[key].isin(pred[key])]
        first = compare(before, chosen, gsd=gsd, key=key, area=area, name="--before")
    found: dict[str, Any] = {"gsd_m": gsd, "buildings": len(after.counts), "vertices": len(after.errors)}
    if key is not None:
        found["truths_without_prediction"] = int((~truth[key].isin(pred[key])).sum())
        found["predictions_without_truth"] = int((~pred[key].isin(truth[key])).sum())
    if first is not None:
        found["before"] = _figures(first)
    found["after"] = _figures(after)
    if "status" in after.rows.columns:
        found["by_status"] = _by_status(after, first)
    if "confidence" in after.rows.columns:
        found["confidence"] = _confidence(after)
    return found


def _both(name: str, pixels: float, gsd: float) -> dict[str, float]:
    """A distance in px as `name_px` and `name_m`."""
    return {f"{name}_px": float(pixels), f"{name}_m": float(pixels) * gsd}


def _figures(found: Compared) -> dict[str, Any]:
    """Median, mean, 90th percentile, shares, IoU (where polygons are compared), and the accuracy curve."""
    shares = accuracy_curve(found.errors, SHARES)
    return {
        **_both("median", np.nanmedian(found.errors), found.gsd),
        **_both("mean", np.nanmean(found.errors), found.gsd),
        **_both("p90", np.nanquantile(found.errors, 0.9), found.gsd),
        **{f"within_{at:g}_px": float(share) for at, share in zip(SHARES, shares, strict=True)},
        **_iou(found.placed, found.true),
        "curve": {
            "threshold_px": list(CURVE),
            "threshold_m": [at * found.gsd for at in CURVE],
            "share": accuracy_curve(found.errors, CURVE).tolist(),
        },
    }


def _iou(placed: NDArray[Any], true: NDArray[Any]) -> dict[str, Any]:
    """Mean and median IoU of polygons with their truths: (n,) each; nothing where no truth is a polygon.

    A truth that is not valid is repaired, and left out where no area remains; a polygon placed that is not valid (or
    none) counts as 0, since that is what became of the building.
    """
    polygons = np.isin(shapely.get_type_id(true), POLYGONS)
    placed, true = placed[polygons], true[polygons]
    broken = ~shapely.is_valid(true)
    true = true.copy()
    true[broken] = shapely.make_valid(true[broken], method="structure", keep_collapsed=False)
    areas = shapely.area(true)
    placed, true, areas = placed[areas > 0], true[areas > 0], areas[areas > 0]
    if len(true) == 0:
        return {}
    sound = shapely.is_valid(placed) & np.isin(shapely.get_type_id(placed), POLYGONS)
    shared = shapely.area(shapely.intersection(placed[sound], true[sound]))
    iou = np.zeros(len(true))
    iou[sound] = shared / (shapely.area(placed[sound]) + areas[sound] - shared)
    return {
        "iou_mean": float(iou.mean()),
        "iou_median": float(np.median(iou)),
        "polygons": len(iou),
        "invalid_polygons": int((~sound).sum()),
    }


def _median(found: Compared, rows: NDArray[np.bool_], name: str = "median") -> dict[str, float]:
    """Median error of the vertices of some rows (rows,); NaN without one."""
    errors = found.errors[np.repeat(rows, found.counts)]
    return _both(name, np.nanmedian(errors) if len(errors) else np.nan, found.gsd)


def _by_status(after: Compared, before: Compared | None) -> dict[str, Any]:
    """Rows, vertices and median error for each value of the column `status`, the most frequent first."""
    given = after.rows["status"]
    status = np.where(given.isna(), "none", given.astype(str))
    names, numbers = np.unique(status.astype(str), return_counts=True)
    found = {}
    for name in names[np.argsort(-numbers, kind="stable")].tolist():
        rows = status == name
        found[name] = {
            "buildings": int(rows.sum()),
            "vertices": int(after.counts[rows].sum()),
            **(_median(before, rows, "median_before") if before is not None else {}),
            **_median(after, rows),
        }
    return found


def _confidence(found: Compared) -> dict[str, Any]:
    """How far confidence foretells error, over the rows that have one and a vertex."""
    import pandas

    given = pandas.to_numeric(found.rows["confidence"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    rows = np.isfinite(given) & (found.counts > 0)
    sure = np.zeros(len(rows), bool)
    sure[rows] = more_confident(given[rows])
    bins = reliability(given[rows], polygon_means(found.errors, found.counts)[rows], within=WELL)
    halves = (("more_confident_half", sure), ("rest", rows & ~sure))
    return {
        "buildings": int(rows.sum()),
        "within_px": WELL,
        "within_m": WELL * found.gsd,
        "bins": [asdict(each) for each in bins],
        **{name: {"buildings": int(half.sum()), **_median(found, half)} for name, half in halves},
    }
