"""Vector layers on disk: GeoParquet 1.1 that a bounding box can be read from, and copies for QGIS.

WKB geometry, a `bbox` covering, zstd, explicit row groups. Rows come as Arrow batches and leave as
row groups, so memory follows the row group (and, when sorting, a bucket of `sort.BUCKET` rows), not
the nation. Bytes depend on the rows and their order only: never on how batches were cut, or on time.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.errors import InputError, StoreError
from pipeline.export.sort import hilbert_sorted
from pipeline.export.wkb import COVERING, SIDES, boxes_in, boxes_of, iso_wkb, type_names

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST_ROW_GROUP = 50_000
SMALLEST_ROW_GROUP = 128


def write_geoparquet(
    path: Path,
    rows: pa.Table | Iterable[pa.RecordBatch | pa.Table],
    crs: Any,
    *,
    schema: pa.Schema | None = None,
    geometry: str = "geometry",
    sort: Literal["hilbert"] | None = None,
    row_group: int | None = None,
    expected_rows: int | None = None,
) -> int:
    """Write `rows` as GeoParquet 1.1 and return how many there were.

    `rows`: a table, or batches that share `schema` (needed only where there may be none). Their column
    `geometry` is WKB (binary or large binary, nulls allowed); every other Arrow type that Parquet can
    hold goes through as it is. A column called `bbox` must have been renamed before (`free_names`); a
    stale covering (struct of xmin, ymin, xmax, ymax) is replaced.
    `crs`: anything pyproj takes, or None. `sort`: None keeps the order. `row_group`: rows; by default a
    sixteenth of the table between 128 and 50 000, so that a small table can still be skipped in part.
    The file appears under its name only when whole. InputError names a column that Parquet cannot hold;
    StoreError where the disk refuses.
    """
    import pyarrow as pa

    if isinstance(rows, pa.Table):
        schema, expected_rows = rows.schema, rows.num_rows
        batches: Iterator[pa.Table] = iter([rows])
    else:
        batches = (pa.table(part) if isinstance(part, pa.RecordBatch) else part for part in rows)
    path = Path(path)
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            prepared = _covered(batches, geometry)
            if sort == "hilbert":
                prepared, expected_rows = hilbert_sorted(prepared, path.parent, stack)
            size = row_group or default_row_group(expected_rows)
            count = _write(draft, _cut(prepared, size), crs, geometry, schema)
        _sync(draft)
        os.replace(draft, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error}); free space and rerun") from error
    except BaseException:
        _forget(draft)
        raise
    return count


def default_row_group(rows: int | None) -> int:
    """Rows in a row group for a table of `rows`: a sixteenth, between 128 and 50 000 (4 096 if unknown)."""
    if rows is None:
        return 4_096
    return min(LARGEST_ROW_GROUP, max(SMALLEST_ROW_GROUP, math.ceil(rows / 16)))


def free_names(names: Sequence[str], ours: Sequence[str]) -> dict[str, str]:
    """New names for input columns that would collide with `ours` or `bbox`, as {"status": "input_status"}.

    Ours keep their names; the input's become `input_<name>`, or `input_<name>_2`, ... where that is taken.
    """
    taken = set(names) | set(ours) | {COVERING}
    renamed: dict[str, str] = {}
    for name in names:
        if name not in {*ours, COVERING}:
            continue
        candidate, n = f"input_{name}", 1
        while candidate in taken:
            n += 1
            candidate = f"input_{name}_{n}"
        taken.add(candidate)
        renamed[name] = candidate
    return renamed


def wkb_array(buffer: np.ndarray, offsets: np.ndarray) -> pa.LargeBinaryArray:
    """WKB of n geometries (uint8 buffer, int64 offsets (n + 1)) as an Arrow array, without a copy."""
    import pyarrow as pa

    parts = [
        None,
        pa.py_buffer(np.ascontiguousarray(offsets, np.int64)),
        pa.py_buffer(np.ascontiguousarray(buffer)),
    ]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, parts)


def _covered(batches: Iterable[pa.Table], geometry: str) -> Iterator[pa.Table]:
    """Tables whose geometry is ISO WKB, with the covering column last and pandas' metadata gone."""
    import pyarrow as pa

    for part in batches:
        if geometry not in part.column_names:
            raise InputError(f"no column {geometry} among {', '.join(part.column_names)}")
        if COVERING in part.column_names:
            part = part.drop_columns([COVERING])
        wkb = part.column(geometry).cast(pa.large_binary()).combine_chunks()
        wkb = pa.concat_arrays(wkb.chunks) if isinstance(wkb, pa.ChunkedArray) else wkb
        wkb = iso_wkb(wkb)
        box = boxes_of(wkb)
        empty = np.isnan(box).any(axis=1)
        sides = [pa.array(box[:, i], pa.float64()) for i in range(4)]
        covering = pa.StructArray.from_arrays(sides, names=list(SIDES), mask=pa.array(empty))
        part = part.set_column(part.column_names.index(geometry), pa.field(geometry, pa.large_binary()), wkb)
        part = part.append_column(pa.field(COVERING, covering.type), covering)
        yield part.replace_schema_metadata(None)


def _cut(parts: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of exactly `rows` (the last may be shorter), each in one chunk a column."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += part.num_rows
        while count >= rows:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, rows).combine_chunks()
            waiting, count = [whole.slice(rows)], count - rows
    if waiting and (rest := pa.concat_tables(waiting)).num_rows:
        yield rest.combine_chunks()


def _write(draft: Path, groups: Iterable[pa.Table], crs: Any, geometry: str, schema: pa.Schema | None) -> int:
    """Write row groups and, last, the `geo` metadata that only the whole file knows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None
    names: set[str] = set()
    total = np.array([np.inf, np.inf, -np.inf, -np.inf])
    count = 0
    try:
        for group in groups:
            wkb = group.column(geometry).combine_chunks()
            names |= type_names(wkb)
            box = boxes_in(group)
            total[:2] = np.fmin(total[:2], np.fmin.reduce(box[:, :2], axis=0, initial=np.inf))
            total[2:] = np.fmax(total[2:], np.fmax.reduce(box[:, 2:], axis=0, initial=-np.inf))
            at = group.column_names.index(geometry)
            group = group.set_column(at, pa.field(geometry, pa.binary()), wkb.cast(pa.binary()))
            writer = writer or _open(draft, group.schema, geometry, crs)
            writer.write_table(group, row_group_size=max(group.num_rows, 1))
            count += group.num_rows
        if writer is None:
            empty = next(_covered([(schema or pa.schema([(geometry, pa.binary())])).empty_table()], geometry))
            writer = _open(draft, empty.schema, geometry, crs)
        bounds = [float(v) for v in total] if np.isfinite(total).all() else None
        writer.add_key_value_metadata({"geo": json.dumps(_geo(crs, geometry, names, bounds))})
    finally:
        if writer is not None:
            writer.close()
    return count


def _open(draft: Path, schema: pa.Schema, geometry: str, crs: Any) -> Any:
    """A Parquet writer; dictionaries only for the columns where they pay.

    The schema carries a first `geo` without types and bounds, for readers that look nowhere else: it must
    be known at the start, and the whole file's bounds are not.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = [
        f.name for f in schema if f.name != geometry and (pa.types.is_string(f.type) or pa.types.is_integer(f.type))
    ]
    geo = json.dumps(_geo(crs, geometry, {""}, None))
    try:
        return pq.ParquetWriter(
            draft,
            schema.with_metadata({"geo": geo}),
            compression="zstd",
            compression_level=3,
            use_dictionary=plain,
            version="2.6",
        )
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise InputError(f"a column cannot be stored in Parquet ({error}); drop or convert it") from error


def _geo(crs: Any, geometry: str, names: set[str], bounds: list[float] | None) -> dict[str, Any]:
    """The GeoParquet 1.1.0 metadata: pure."""
    import pyproj

    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": [] if "" in names else sorted(names),
        "crs": None if crs is None else pyproj.CRS.from_user_input(crs).to_json_dict(),
        "covering": {"bbox": {side: [COVERING, side] for side in SIDES}},
    }
    if bounds is not None:
        column["bbox"] = bounds
    return {"version": "1.1.0", "primary_column": geometry, "columns": {geometry: column}}


def _sync(path: Path) -> None:
    """Force a file to disk: a receipt may name it from now on."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _forget(draft: Path) -> None:
    with suppress(OSError):  # the disk may be the very thing that failed
        draft.unlink(missing_ok=True)
