"""Copies of a GeoParquet layer in the formats that desktop users expect: GeoPackage and FlatGeobuf.

Batches stream from one file to the other. Types that OGR has no column for (lists, structs, maps)
become JSON text, and the covering column stays behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import StoreError
from pipeline.export.wkb import COVERING

if TYPE_CHECKING:
    import pyarrow as pa

DRIVERS = {"gpkg": "GPKG", "fgb": "FlatGeobuf"}


def write_copy(parquet: Path, suffix: str, *, batch: int = 10_000) -> Path:
    """Write `<name>.gpkg` or `<name>.fgb` beside a GeoParquet layer and return its path.

    The same layer gives the same bytes. StoreError names the file that could not be read or written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pyogrio
    import pyproj

    parquet = Path(parquet)
    out = parquet.with_suffix(f".{suffix}")
    draft = out.with_name(f".{out.stem}.part.{suffix}")
    # GeoPackage writes the time of its last change into itself, unless told when that was.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z"})
    try:
        draft.unlink(missing_ok=True)
        with pq.ParquetFile(parquet) as file:
            geo = json.loads(file.schema_arrow.metadata[b"geo"])
            primary = geo["primary_column"]
            crs = geo["columns"][primary]["crs"]
            schema = _plain(file.schema_arrow.empty_table()).schema
            reader = pa.RecordBatchReader.from_batches(schema, _batches(file, batch, schema))
            pyogrio.write_arrow(
                reader,
                draft,
                layer=parquet.stem,
                driver=DRIVERS[suffix],
                geometry_name=primary,
                geometry_type="Unknown",
                crs=None if crs is None else pyproj.CRS.from_json_dict(crs).to_wkt(),
            )
        os.replace(draft, out)
    except (OSError, RuntimeError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"{out}: copy of {parquet.name} failed ({error}); free space and rerun") from error
    finally:
        draft.unlink(missing_ok=True)
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    return out


def _batches(file: Any, rows: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for part in file.iter_batches(batch_size=rows):
        yield from _plain(part).cast(schema).to_batches()


def _plain(part: Any) -> pa.Table:
    """A table of types that OGR knows, without the covering."""
    import pyarrow as pa

    table = part if isinstance(part, pa.Table) else pa.table(part)
    table = table.replace_schema_metadata(None).drop_columns([COVERING])
    for i, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_dictionary(kind):
            table = table.set_column(i, field.name, table.column(i).cast(kind.value_type))
        elif _foreign(kind):
            text = [None if v is None else json.dumps(v, default=str) for v in table.column(i).to_pylist()]
            table = table.set_column(i, field.name, pa.array(text, pa.string()))
    return table


def _foreign(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_nested, pa.types.is_decimal, pa.types.is_null, pa.types.is_duration)
    return any(test(kind) for test in tests)
