"""Scores of products against truth: what `resurvey evaluate` and the demo print. The metrics are training's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.evaluate_alignment import alignment as alignment
from pipeline.errors import InputError
from training.vectors import read_vectors as read_vectors

if TYPE_CHECKING:
    import geopandas
    from numpy.typing import NDArray

RASTERS = (".tif", ".tiff", ".vrt")
"""Files with these endings are rasters where either may be given."""


def reprojected(frame: geopandas.GeoDataFrame, crs: Any, name: str) -> NDArray[Any]:
    """The geometries of a frame (rows,) in `crs`. Raises InputError, which calls the frame `name`."""
    import numpy as np
    import pyproj
    import shapely

    try:
        shapes = np.asarray(frame.geometry.to_crs(crs).array)
        if np.isfinite(shapely.get_coordinates(shapes)).all():
            return shapes
    except pyproj.exceptions.ProjError:
        pass  # said below
    raise InputError(f"{name}: cannot be reprojected to the truth's CRS ({crs.name}); check its CRS")


def read_area(path: Path | None, crs: Any) -> Any:
    """The union of an area file's polygons, or the extent of a raster, in `crs`; None without a file.

    Raises InputError.
    """
    import shapely

    if path is None:
        return None
    frame = _extent(path) if path.suffix.lower() in RASTERS else read_vectors(path)
    area = shapely.union_all(shapely.make_valid(reprojected(frame, crs, str(path))))
    if area.area == 0:
        raise InputError(f"{path}: has no polygon; --aoi is the area in which the truth is complete")
    return area


def _extent(path: Path) -> geopandas.GeoDataFrame:
    """The outline of a raster, with enough vertices to be bent by a reprojection."""
    import geopandas
    import rasterio
    import shapely.affinity

    try:
        with rasterio.open(path) as raster:
            (height, width), transform, crs = raster.shape, raster.transform, raster.crs
    except rasterio.RasterioIOError as error:
        raise InputError(f"{path}: cannot be read as an image ({str(error).splitlines()[0]})") from None
    if crs is None:
        raise InputError(f"{path}: has no CRS; write it again with one")
    outline = shapely.box(0, 0, width, height).segmentize(max(width, height) / 16)
    world = shapely.affinity.affine_transform(outline, transform.to_shapely())
    return geopandas.GeoDataFrame(geometry=[world], crs=crs)


def instances(pred: geopandas.GeoDataFrame, truth: geopandas.GeoDataFrame, *, area: Any = None) -> dict[str, Any]:
    """Buildings found in one image, told apart or not: `evaluate_instances.figures`.

    `area`: a polygon in the CRS of `truth`; with none, everything counts.
    """
    from flows.evaluate_instances import figures, judge

    return figures([judge(pred, truth, area)])


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
        if truth.suffix.lower() in RASTERS:
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
