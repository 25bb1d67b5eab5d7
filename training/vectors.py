"""Vector files of polygons, read or refused in one line: what scores and targets are made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    import geopandas


def read_vectors(path: Path) -> geopandas.GeoDataFrame:
    """A vector file as a GeoDataFrame with a CRS. Raises InputError."""
    import geopandas
    import numpy as np
    import shapely

    try:
        frame = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
    except Exception as error:  # each reader has its own
        said = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as polygons ({said})") from None
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise InputError(f"{path}: has no geometries; give a vector file")
    if not np.isfinite(shapely.get_coordinates(frame.geometry.array)).all():
        raise InputError(f"{path}: has coordinates that are not finite; repair or remove those rows")
    if frame.crs is None:
        raise InputError(f"{path}: has no CRS; write it again with one")
    return frame
