"""Scores of products against truth: what `resurvey evaluate` and the demo print. The metrics are training's.

Buildings that reach over the edge of what is scored are set aside on both sides: a truth counts only if it lies
fully within; a prediction that finds none is false only if it neither touches the edge nor lies mostly on truths
that were set aside.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.evaluate_alignment import alignment as alignment
from pipeline.errors import InputError

if TYPE_CHECKING:
    import geopandas
    import numpy as np
    from numpy.typing import NDArray

EDGE = 0.5
"""Metres: a building cut by an image's edge ends on it only to within a pixel or so."""


def read_vectors(path: Path) -> geopandas.GeoDataFrame:
    """A vector file as a GeoDataFrame with a CRS. Raises InputError."""
    import geopandas
    import numpy as np
    import shapely

    try:
        frame = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
    except Exception as error:  # each reader has its own
        raise InputError(f"{path}: cannot be read as polygons ({str(error).splitlines()[0]})") from None
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise InputError(f"{path}: has no geometries; give a vector file")
    if not np.isfinite(shapely.get_coordinates(frame.geometry.array)).all():
        raise InputError(f"{path}: has coordinates that are not finite; repair or remove those rows")
    if frame.crs is None:
        raise InputError(f"{path}: has no CRS; write it again with one")
    return frame


def read_area(path: Path | None, crs: Any) -> Any:
    """The union of an area file's polygons in `crs`, or None without a file."""
    return None if path is None else read_vectors(path).to_crs(crs).geometry.union_all()


def instances(
    pred: geopandas.GeoDataFrame, truth: geopandas.GeoDataFrame, *, area: Any = None, iou: float = 0.5
) -> dict[str, Any]:
    """Buildings found at an IoU: recall, precision, F1, and the counts. Set aside at the edge as said above.

    `area`: a polygon in the CRS of `truth`; with none, everything counts.
    """
    import numpy as np
    import shapely

    from training.metrics_instances import InstanceScores, match, polygon_overlaps

    seen = np.asarray(pred.to_crs(truth.crs).geometry.array)
    true = np.asarray(truth.geometry.array)
    overlaps = polygon_overlaps(true, seen)
    found = match(overlaps, iou)
    counts, free = np.ones(len(true), bool), found < 0
    if area is not None:
        counts = shapely.covers(area, true)
        # From the IoU back to the area shared; then how much of a prediction lies on truths that the edge cuts.
        areas = shapely.area(true)[overlaps.truth] + _areas(seen)[overlaps.predicted]
        both = overlaps.iou / (1 + overlaps.iou) * areas
        on_edge = np.zeros(len(seen))
        np.add.at(on_edge, overlaps.predicted, np.where(counts[overlaps.truth], 0, both))
        clear = shapely.covers(area, seen) & (shapely.distance(shapely.boundary(area), seen) > EDGE)
        free &= clear & (on_edge <= 0.5 * _areas(seen))
    hits = int(counts[found[found >= 0]].sum())
    counted = InstanceScores(hits, int(free.sum()), int(counts.sum()) - hits)
    return {
        "iou": iou,
        "truths": int(counts.sum()),
        "predictions": hits + int(free.sum()),
        "found": hits,
        "recall": counted.recall,
        "precision": counted.precision,
        "f1": counted.f1,
    }


def _areas(shapes: NDArray[Any]) -> NDArray[np.float64]:
    """Areas, at least enough to divide by."""
    import numpy as np
    import shapely

    return np.maximum(shapely.area(shapes), 1e-9)


def classification(pred: Path, truth: Path, *, area: Path | None = None) -> dict[str, Any]:
    """Per-class IoU and accuracy of a class map: those that the truth allows.

    `truth`: a raster on the map's grid with its codes (0, 1, 2 for building, road, background; all else unknown),
    or building polygons, against which buildings alone are scored. Raises InputError.
    """
    import numpy as np
    import rasterio
    from rasterio.features import geometry_mask

    from training.metrics_classes import count, figures
    from training.targets_classes import BUILDING, NOT_BUILDING, UNKNOWN

    try:
        with rasterio.open(pred) as map_:
            seen, transform, crs = map_.read(1), map_.transform, map_.crs
        if truth.suffix in (".tif", ".tiff", ".vrt"):
            with rasterio.open(truth) as labels:
                if (labels.shape, labels.crs) != (seen.shape, crs) or not labels.transform.almost_equals(transform):
                    raise InputError(f"{truth}: is not on the grid of {pred}; warp it onto that grid first")
                codes = labels.read(1).astype(np.uint8)
            codes[codes > 2] = UNKNOWN
        else:
            shapes = read_vectors(truth).to_crs(crs).geometry
            outside = geometry_mask(shapes[~shapes.is_empty & shapes.notna()], seen.shape, transform)
            codes = np.where(outside, NOT_BUILDING, BUILDING).astype(np.uint8)
    except rasterio.RasterioIOError as error:
        raise InputError(f"{pred} or {truth}: cannot be read ({error})") from None
    if area is not None:
        codes[geometry_mask([read_area(area, crs)], codes.shape, transform)] = UNKNOWN
    codes[seen > 2] = UNKNOWN  # nodata
    return figures(count(seen, codes))
