"""The cadaster as it comes: any vector layer, its rows and columns in order, its geometry as WKB.

Geometry is never rebuilt. It stays the WKB that was read, and only the bytes of x and y are replaced
later (`putback`), so that Z, M, holes, parts, collections, empties and nulls survive by construction.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, SettingsError
from pipeline.locate import source_id
from pipeline.working import WorkingRaster

if TYPE_CHECKING:
    import pyarrow as pa

PIECE = 1 << 20
"""Vertices that are reprojected at once."""

Points = NDArray[np.float64]
"""(n, 2) float64, x then y."""


@dataclass(frozen=True, slots=True)
class Cadaster:
    """Every row of a layer, in input order.

    `table`: all attribute columns (and the input's schema metadata but for 'geo'); `wkb`: large_binary,
    one a row, nulls kept; `crs`: WKT; `geometry_name`: what the geometry column is called, and
    `geometry_index` where it stands among the columns; `source_id` changes when the file does.
    """

    path: str
    table: pa.Table
    wkb: pa.LargeBinaryArray
    crs: str
    geometry_name: str
    geometry_index: int
    source_id: str

    def __len__(self) -> int:
        return len(self.wkb)

    def buffer(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The WKB of all rows as one uint8 array, and where each row starts in it: (rows + 1) int64."""
        if len(self.wkb) == 0:
            return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
        _, offsets, data = self.wkb.buffers()
        starts = np.frombuffer(offsets, dtype=np.int64)[self.wkb.offset : self.wkb.offset + len(self.wkb) + 1]
        return np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8), starts


def read_cadaster(path: str | Path, layer: str | None = None, crs: str | None = None) -> Cadaster:
    """Every row of the vector layer at `path`: whatever pyogrio opens, or GeoParquet.

    `layer` is needed where the file has several; `crs` (--cadaster-crs) replaces the file's. InputError,
    one line, where the file is missing, unreadable, without geometry or without CRS. No rows are fine.
    """
    import pyproj

    text = str(path)
    local = "://" not in text and not text.startswith("/vsi")
    if local and not Path(text).exists():
        raise InputError(f"{text}: no such file; give the path of a vector layer")
    table, name, index, said = (_read_parquet if _is_parquet(text) else _read_layer)(text, layer)
    if crs is not None:
        try:
            system = pyproj.CRS.from_user_input(crs)
        except pyproj.exceptions.CRSError:
            raise SettingsError(f"--cadaster-crs {crs}: not a CRS; give one like EPSG:32645") from None
    elif said is None:
        raise InputError(f"{text}: has no CRS; say which one with --cadaster-crs EPSG:…")
    else:
        try:
            system = pyproj.CRS.from_user_input(said)
        except pyproj.exceptions.CRSError:
            raise InputError(f"{text}: its CRS cannot be read; say which one with --cadaster-crs") from None
    wkb = _one_array(table.column(index))
    files = [text] if local and Path(text).is_file() else []
    if files and text.lower().endswith(".shp"):
        files += [str(Path(text).with_suffix(end)) for end in (".dbf", ".prj") if Path(text).with_suffix(end).exists()]
    if local and Path(text).is_dir():
        files = [str(file) for file in Path(text).rglob("*") if file.is_file()]
    identity = source_id(text, files)
    return Cadaster(text, table.remove_column(index), wkb, system.to_wkt(), name, index, identity)


def _one_array(column: pa.ChunkedArray) -> pa.LargeBinaryArray:
    import pyarrow as pa

    array = column.cast(pa.large_binary())
    joined = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined


def _read_layer(path: str, layer: str | None) -> tuple[pa.Table, str, int, str | None]:
    import pyogrio

    try:
        layers = {str(name): kind for name, kind in pyogrio.list_layers(path)}
        spatial = [name for name, kind in layers.items() if kind is not None]
        if layer is not None and layer not in layers:
            raise SettingsError(f"{path}: has no layer {layer!r}; it has {', '.join(layers)}")
        if layer is None and len(spatial) > 1:
            raise SettingsError(f"{path}: has several layers ({', '.join(spatial)}); choose with --cadaster-layer")
        if not spatial or (layer is not None and layer not in spatial):
            raise InputError(f"{path}: has no geometry; give a layer of polygons")
        meta, table = pyogrio.read_arrow(path, layer=layer or spatial[0])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a vector layer that GDAL can open ({reason}); give a GeoPackage") from None
    column = meta["geometry_name"] or "wkb_geometry"
    index = table.column_names.index(column)
    return table, meta["geometry_name"] or "geometry", index, meta["crs"]


def _is_parquet(path: str) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(4) == b"PAR1"
    except OSError:
        return False


def _read_parquet(path: str, layer: str | None) -> tuple[pa.Table, str, int, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as Parquet ({reason}); write it again") from None
    metadata = dict(table.schema.metadata or {})
    try:
        geo = json.loads(metadata.pop(b"geo"))
        name = geo["primary_column"]
        said = geo["columns"][name]
        index = table.column_names.index(name)
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{path}: Parquet without GeoParquet metadata; write it with geopandas or GDAL") from None
    if said.get("encoding", "WKB") != "WKB":
        table = _from_geoarrow(path, table, index, name)
    # the covering describes where rows were; the exporter writes one for where they are
    covering = (said.get("covering") or {}).get("bbox", {}).get("xmin", [None])[0]
    table = table.replace_schema_metadata(metadata or None)
    if covering in table.column_names and covering != name:
        table = table.drop_columns([covering])
    return table, name, table.column_names.index(name), said.get("crs", "OGC:CRS84")


def _from_geoarrow(path: str, table: pa.Table, index: int, name: str) -> pa.Table:
    """The table with a geometry column in a native encoding turned into WKB."""
    import geopandas
    import pyarrow as pa

    wkb = geopandas.read_parquet(path, columns=[name])[name].to_wkb()
    values = [None if value is None else bytes(value) for value in wkb]
    return table.set_column(index, name, pa.array(values, type=pa.large_binary()))


def road_rows(cadaster: Cadaster, column: str | None) -> NDArray[np.bool_]:
    """Rows (n,) that are roads: those of class `road` in `column`; all rows that hold a line if None.

    SettingsError where there is no such column. Only open lines of such rows are looked for as roads.
    """
    if column is None:
        from pipeline.kernels import wkb

        _, _, _, ring_row, ring_kind, _ = wkb.walk(*cadaster.buffer())
        return np.bincount(ring_row[ring_kind == wkb.LINE], minlength=len(cadaster)) > 0
    if column not in cadaster.table.column_names:
        names = ", ".join(cadaster.table.column_names) or "none"
        raise SettingsError(f"--class-column {column}: {cadaster.path} has no such column; it has {names}")
    said = cadaster.table.column(column).to_pylist()
    return np.array([str(value).strip().lower() == "road" for value in said], dtype=bool)


def transformer(source: str, target: str) -> Callable[[Points], Points] | None:
    """Reprojection of (n, 2) points between two CRSs (WKT), x first; None where they are the same.

    Points that cannot be reprojected become infinite. The result of a point does not depend on the others.
    """
    import pyproj

    a, b = pyproj.CRS.from_wkt(source), pyproj.CRS.from_wkt(target)
    if a.equals(b, ignore_axis_order=True) or (a.to_epsg() is not None and a.to_epsg() == b.to_epsg()):
        return None
    project = pyproj.Transformer.from_crs(a, b, always_xy=True)

    def apply(points: Points) -> Points:
        out = np.empty_like(points)
        for start in range(0, len(points), PIECE):
            piece = points[start : start + PIECE]
            out[start : start + PIECE, 0], out[start : start + PIECE, 1] = project.transform(piece[:, 0], piece[:, 1])
        return out

    return apply


def to_px(points: Points, working: WorkingRaster) -> Points:
    """Points in the working CRS → px of level 1: x right, y down, (0, 0) the raster's corner."""
    a, _, c, _, e, f = working.transform
    return (points - (c, f)) / (a, e)


def to_world(px: Points, working: WorkingRaster) -> Points:
    """Px of level 1 → points in the working CRS."""
    a, _, c, _, e, f = working.transform
    return px * (a, e) + (c, f)


def check_overlap(working: WorkingRaster, cadaster: Cadaster) -> None:
    """InputError, with both extents in the cadaster's CRS, where no row comes near the image.

    A cadaster without any vertices passes: there is nothing to be wrong about.
    """
    import pyproj

    from pipeline.kernels import wkb

    buffer, offsets = cadaster.buffer()
    position = wkb.walk(buffer, offsets)[0]
    xy = wkb.read_xy(buffer, position)
    xy = xy[np.isfinite(xy).all(axis=1)]
    if len(xy) == 0:
        return
    west, south = xy.min(axis=0).tolist()
    east, north = xy.max(axis=0).tolist()
    try:
        project = pyproj.Transformer.from_crs(working.crs, cadaster.crs, always_xy=True)
        image = project.transform_bounds(*working.bounds, densify_pts=21)
    except pyproj.exceptions.ProjError as error:
        raise InputError(f"{cadaster.path}: no way from the image's CRS to its CRS ({error})") from None
    hit = west <= image[2] and image[0] <= east and south <= image[3] and image[1] <= north
    if not (np.isfinite(image).all() and hit):
        name = pyproj.CRS.from_wkt(cadaster.crs).name
        raise InputError(
            f"{cadaster.path}: lies outside the image: cadaster {_extent((west, south, east, north))}, "
            f"image {_extent(image)} (west, south, east, north in {name}); check both CRSs"
        )


def _extent(bounds: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.10g}" for value in bounds) + ")"
