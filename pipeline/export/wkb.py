"""What GeoParquet has to know of WKB: its types, its boxes, and that it is ISO and not extended WKB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.kernels import wkb_rows

if TYPE_CHECKING:
    import pyarrow as pa

COVERING = "bbox"
SIDES = ("xmin", "ymin", "xmax", "ymax")
_NAMES = {
    1: "Point",
    2: "LineString",
    3: "Polygon",
    4: "MultiPoint",
    5: "MultiLineString",
    6: "MultiPolygon",
    7: "GeometryCollection",
}
_CHUNK = 4_096  # geometries held as shapely objects at once


def type_codes(wkb: pa.LargeBinaryArray) -> np.ndarray:
    """WKB type code (n,) uint32 of each row as the bytes have it; 0 where null or shorter than 5 bytes."""
    codes = wkb_rows.types(*_bytes(wkb))
    if wkb.null_count:
        codes[~wkb.is_valid().to_numpy(zero_copy_only=False)] = 0
    return codes


def _bytes(wkb: pa.LargeBinaryArray) -> tuple[np.ndarray, np.ndarray]:
    """The array's own memory: bytes, and (n + 1,) where each row starts in them."""
    _, offsets, data = wkb.buffers()
    if not len(wkb) or data is None:
        return np.zeros(0, np.uint8), np.zeros(len(wkb) + 1, np.int64)
    return np.frombuffer(data, np.uint8), np.frombuffer(offsets, np.int64)[wkb.offset : wkb.offset + len(wkb) + 1]


def type_names(wkb: pa.LargeBinaryArray) -> set[str]:
    """GeoParquet's names of the geometry types present, e.g. {"Polygon", "MultiPolygon Z"}.

    A type that GeoParquet has no name for (measures, curves, unreadable rows) gives the name "".
    """
    names = set()
    for code in set(type_codes(wkb).tolist()) - {0}:
        dimension, base = divmod(code, 1000)
        known = _NAMES.get(base, "") if dimension in (0, 1) else ""
        names.add(known + " Z" if known and dimension == 1 else known)
    return names


def iso_wkb(wkb: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """The same geometries as ISO WKB: rows of extended WKB are written again, the others keep their bytes."""
    import pyarrow as pa

    rows = np.flatnonzero(type_codes(wkb) & np.uint32(0xE0000000))
    if not len(rows):
        return wkb
    import shapely

    values = wkb.to_numpy(zero_copy_only=False)
    geometries = shapely.from_wkb(values[rows], on_invalid="ignore")
    again = shapely.to_wkb(geometries, flavor="iso", output_dimension=4)
    values[rows] = [new if new is not None else old for new, old in zip(again, values[rows], strict=True)]
    return pa.array(values, pa.large_binary())


def boxes_of(wkb: pa.LargeBinaryArray) -> np.ndarray:
    """Boxes (n, 4) float64 xmin, ymin, xmax, ymax; NaN where null, empty or unreadable."""
    out, known = wkb_rows.boxes(*_bytes(wkb))
    known &= wkb.is_valid().to_numpy(zero_copy_only=False)  # a null may have bytes under it
    if known.all():
        return out
    import pyarrow as pa
    import shapely

    others = np.flatnonzero(~known)
    for start in range(0, len(others), _CHUNK):
        rows = others[start : start + _CHUNK]
        values = wkb.take(pa.array(rows)).to_numpy(zero_copy_only=False)
        out[rows] = shapely.bounds(shapely.from_wkb(values, on_invalid="ignore"))
    return out


def boxes_in(table: pa.Table) -> np.ndarray:
    """Boxes (n, 4) float64 of a table that has the covering column; NaN where there is none."""
    import pyarrow as pa

    column = table.column(COVERING)
    column = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    return np.column_stack([column.field(i).to_numpy(zero_copy_only=False) for i in range(4)])
