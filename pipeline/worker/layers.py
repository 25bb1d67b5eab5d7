"""Vector products: the aligned cadaster, the buildings, and what changed between the two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import conflate, footprints, polygons
from pipeline.buildings import BuildingTable, SplitPart, combine, read_part
from pipeline.export.copies import write_copy
from pipeline.export.vectors import free_names, write_geoparquet
from pipeline.grid import Window
from pipeline.job import CADASTER, Job
from pipeline.kernels import wkb
from pipeline.putback import STATUSES, put_back
from pipeline.ragged import Ints
from pipeline.stages.gate import ABSTAIN, ABSTAIN_ROADS
from pipeline.stages.seat import confidence_of
from pipeline.worker.placed import read_moved
from pipeline.worker.scene import working_of
from pipeline.worker.scores import scene_of
from pipeline.worker.seat import seating_of
from pipeline.worker.split import part_path

if TYPE_CHECKING:
    import pyarrow as pa

Products = tuple[list[Path], dict[str, Any]]

ALIGNED = ("dx_m", "dy_m", "confidence", "status", "review", "image_date", "input_row")
"""Columns that the aligned cadaster gains, `review` where a row stayed because nothing made it sure; an input's
column of the same name becomes `input_<name>`."""
JUDGED = (STATUSES.index("moved"), STATUSES.index("unmoved"))
"""Statuses of rows that the image had something to say about; others have no confidence."""
PIECE = 4_096


def cadaster_aligned(job: Job, payload: dict[str, Any]) -> Products:
    """`cadaster_aligned.parquet`: every input row in input order, its geometry moved."""
    import pyarrow as pa

    assert job.cadaster is not None
    cadaster = polygons.read_cadaster(job.cadaster, job.cadaster_layer, job.cadaster_crs)
    folder, last = job.work / CADASTER, job.align_line[-1]
    failed = [Window(*box) for boxes in payload["failed"].values() for box in boxes]
    missing = set(payload["unmoved"])

    def moved(key: str) -> NDArray[np.float64] | None:
        if key in missing:
            return None
        table = read_moved(job, last, key)[:, :2]
        table[_inside(footprints.read_block(folder, key).xy, failed)] = np.nan
        return table

    nodata = footprints.over_nodata(scene_of(job), folder)
    unread = [Window(*box) for box in payload["failed"].get("ingest", [])]
    for key in footprints.block_keys(folder) if unread else ():
        block = footprints.read_block(folder, key)
        # What could not be read is a failure, not a fact about the image.
        nodata[block.rows[block.row_means(_inside(block.xy, unread).astype(float)) > 0]] = False
    confidence, least = np.full(len(cadaster), np.nan), np.full(len(cadaster), ABSTAIN)
    for key in footprints.block_keys(folder):
        if key not in missing:
            block = footprints.read_block(folder, key)
            confidence[block.rows] = block.row_means(read_moved(job, last, key)[:, 2])
            if job.roads:
                _, _, line = block.lines(block.xy, footprints.road_rows(folder, key))
                least[block.rows[line]] = ABSTAIN_ROADS
    # groups of rows decide by their mean, so that each row's confidence is measured by what it needs
    sure = confidence * (ABSTAIN / least)

    clear, far = np.full(len(cadaster), np.nan), np.zeros(len(cadaster))

    def seat(groups: Ints) -> NDArray[np.float64]:
        seating = seating_of(job, moved, groups)
        clear[:], far[:] = seating.clear[groups], seating.far[groups]
        return seating.extra[groups]

    back = put_back(
        cadaster, working_of(job), folder, moved, nodata, job.move, sure, ABSTAIN, seat if job.seat else None
    )
    confidence = confidence_of(np.where(back.settled, clear, np.nan), far, confidence)
    confidence[~np.isin(back.status, JUDGED)] = np.nan

    renamed = free_names(cadaster.table.column_names, ALIGNED)
    table = cadaster.table.rename_columns([renamed.get(name, name) for name in cadaster.table.column_names])
    table = table.append_column("dx_m", pa.array(back.dx_m))
    table = table.append_column("dy_m", pa.array(back.dy_m))
    table = table.append_column("confidence", pa.array(confidence, mask=np.isnan(confidence)))
    table = table.append_column("status", pa.array(np.array(STATUSES, dtype=object)[back.status], pa.string()))
    table = table.append_column("review", pa.array(back.abstained))
    if job.sort:
        table = table.append_column("input_row", pa.array(np.arange(len(table))))
    date = scene_of(job).image_date
    if date is not None:
        table = table.append_column("image_date", pa.array([date] * len(table), pa.string()))
    name = free_names([cadaster.geometry_name], table.column_names).get(cadaster.geometry_name, cadaster.geometry_name)
    table = table.append_column(name, back.wkb)
    path = Path(job.folder) / "cadaster_aligned.parquet"
    write_geoparquet(path, table, cadaster.crs, geometry=name, sort="hilbert" if job.sort else None)
    counts = np.bincount(back.status, minlength=len(STATUSES)).tolist()
    figures = {"rows": len(cadaster), "rows_by_status": dict(zip(STATUSES, counts, strict=True)), "renamed": renamed}
    figures |= {"abstained": int(back.abstained.sum()), "seated": int(back.seated.sum())}
    return _with_copies(job, path), figures


def buildings(job: Job, payload: dict[str, Any]) -> Products:
    """`buildings.parquet`: every building once, Hilbert-sorted; says how many were too small or too unsure."""
    import pyarrow as pa

    seen = 0

    def parts() -> Iterator[SplitPart]:
        nonlocal seen
        for stage, key in payload["parts"]:
            part = read_part(part_path(job, stage, key))
            seen += len(part)
            yield part

    table = combine(parts(), job.gsd, job.min_area_m2, job.levels["mask"], job.min_score)
    schema = pa.schema(
        [
            ("building_id", pa.int64()),
            ("score", pa.float64()),
            ("area_m2", pa.float64()),
            ("boundary_score", pa.float64()),
            ("touches_nodata", pa.bool_()),
            ("geometry", pa.large_binary()),
        ]
    )
    path = Path(job.folder) / "buildings.parquet"
    batches = _building_rows(job, table, schema)
    rows = write_geoparquet(path, batches, job.crs, schema=schema, sort="hilbert", expected_rows=len(table))
    figures = {"rows": rows, "left_out": seen - rows, "min_area_m2": job.min_area_m2, "min_score": job.min_score}
    return _with_copies(job, path), figures


def changes(job: Job, payload: dict[str, Any]) -> Products:
    """`changes.parquet`: one verdict for every usable row of the aligned cadaster and for every building."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(job.folder)
    aligned = pq.read_table(folder / "cadaster_aligned.parquet", columns=["status", "dx_m", "dy_m", *sorted_by(job)])
    rows_in = aligned.column("input_row").to_numpy() if job.sort else np.arange(len(aligned))
    found = pq.read_table(folder / "buildings.parquet", columns=["building_id", "geometry"])
    cadaster = _in_working_crs(job)
    image = found.column("geometry").combine_chunks()
    status = aligned.column("status").to_numpy(zero_copy_only=False)
    usable = np.isin(status, [STATUSES[code] for code in JUDGED]) & _areal(cadaster)
    unseen = [Window(*box) for boxes in payload["failed"].values() for box in boxes]
    if unseen:
        usable &= ~_rows_inside(job, cadaster, unseen)
    shift = np.hypot(aligned.column("dx_m").to_numpy(), aligned.column("dy_m").to_numpy())
    verdicts = conflate.conflate(cadaster, image, checked=usable, shift_m=shift)
    ids = found.column("building_id").to_numpy()
    schema = pa.schema(
        [
            ("change", pa.string()),
            ("reason", pa.string()),
            ("cadaster_row", pa.int64()),
            ("building_id", pa.int64()),
            ("iou", pa.float64()),
            ("row_primary", pa.bool_()),
            ("building_primary", pa.bool_()),
            ("geometry", pa.large_binary()),
        ]
    )

    def rows() -> Iterator[pa.Table]:
        for start in range(0, len(verdicts), PIECE):
            stop = min(start + PIECE, len(verdicts))
            row, building = verdicts.row[start:stop], verdicts.building[start:stop]
            columns = [
                pa.array(np.array(conflate.CHANGES, dtype=object)[verdicts.change[start:stop]], pa.string()),
                pa.array(np.array(conflate.REASONS, dtype=object)[verdicts.reason[start:stop]], pa.string()),
                pa.array(rows_in[row] if len(rows_in) else row, pa.int64(), mask=row < 0),
                pa.array(ids[building] if len(ids) else building, pa.int64(), mask=building < 0),
                pa.array(verdicts.iou[start:stop]),
                pa.array(verdicts.row_primary[start:stop]),
                pa.array(verdicts.building_primary[start:stop]),
                pa.array(conflate.geometries(verdicts, cadaster, image, start, stop), pa.large_binary()),
            ]
            yield pa.table(columns, schema=schema)

    path = folder / "changes.parquet"
    write_geoparquet(path, rows(), job.crs, schema=schema, expected_rows=len(verdicts))
    counts = np.bincount(verdicts.change, minlength=len(conflate.CHANGES)).tolist()
    return _with_copies(job, path), {"rows": len(verdicts), "changes": dict(zip(conflate.CHANGES, counts, strict=True))}


def sorted_by(job: Job) -> list[str]:
    """The column that says which input row a row of a sorted cadaster is; none where the order is kept."""
    return ["input_row"] if job.sort else []


def _with_copies(job: Job, path: Path) -> list[Path]:
    return [path, *(write_copy(path, suffix) for suffix in job.copies)]


def _building_rows(job: Job, table: BuildingTable, schema: pa.Schema) -> Iterator[pa.Table]:
    """The buildings as record batches in the working CRS."""
    import pyarrow as pa

    for start in range(0, len(table), PIECE):
        stop = min(start + PIECE, len(table))
        first, last = table.building_offsets[start], table.building_offsets[stop]
        rings = table.polygon_offsets[first], table.polygon_offsets[last]
        span = table.ring_offsets[rings[0]], table.ring_offsets[rings[1]]
        buffer, offsets = wkb.encode_polygons(
            polygons.to_world(table.coords[span[0] : span[1]], working_of(job)),
            table.ring_offsets[rings[0] : rings[1] + 1] - span[0],
            table.polygon_offsets[first : last + 1] - rings[0],
            table.building_offsets[start : stop + 1] - first,
        )
        geometry = [None, pa.py_buffer(offsets), pa.py_buffer(buffer)]
        columns = [
            table.building_id[start:stop],
            table.score[start:stop],
            table.area_m2[start:stop],
            table.boundary_score[start:stop],
            table.touches_nodata[start:stop],
        ]
        arrays = [pa.array(column) for column in columns]
        arrays.append(pa.LargeBinaryArray.from_buffers(pa.large_binary(), stop - start, geometry))
        yield pa.table(arrays, schema=schema)


def _in_working_crs(job: Job) -> pa.LargeBinaryArray:
    """The aligned geometries, WKB in row order, in the working CRS."""
    import pyarrow as pa

    aligned = polygons.read_cadaster(Path(job.folder) / "cadaster_aligned.parquet")
    project = polygons.transformer(aligned.crs, job.crs)
    if project is None or len(aligned) == 0:
        return aligned.wkb
    buffer, offsets = aligned.buffer()
    position = wkb.walk(buffer, offsets)[0]
    data = buffer.copy()
    wkb.write_xy(data, position, project(wkb.read_xy(buffer, position)))
    nulls = aligned.wkb.buffers()[0]
    starts = pa.py_buffer(offsets.copy())
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(aligned), [nulls, starts, pa.py_buffer(data)])


def _areal(wkb_array: pa.LargeBinaryArray) -> NDArray[np.bool_]:
    """Rows whose geometry can have an area: lines and points have no building to be missing."""
    if len(wkb_array) == 0:
        return np.zeros(0, dtype=bool)
    _, offsets, data = wkb_array.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64)[wkb_array.offset : wkb_array.offset + len(wkb_array) + 1]
    here = np.diff(starts) >= 5
    at = starts[:-1][here, None] + np.arange(5)
    head = np.frombuffer(data, dtype=np.uint8)[at]
    orders = head[:, 1:].copy().view("<u4")[:, 0], head[:, 1:].copy().view(">u4")[:, 0]
    code = np.where(head[:, 0] == 1, *orders) & 0x0FFFFFFF  # the high bits say Z, M and SRID in EWKB
    found = np.zeros(len(here), dtype=bool)
    found[here] = np.isin(code % 1000, (3, 6, 7))
    return found


def _rows_inside(job: Job, wkb_array: Any, windows: list[Window]) -> NDArray[np.bool_]:
    """Rows whose bounding box meets one of the windows (px of level 1)."""
    import shapely

    bounds = shapely.bounds(shapely.from_wkb(wkb_array.to_numpy(zero_copy_only=False), on_invalid="ignore"))
    low = polygons.to_px(bounds[:, [0, 3]], working_of(job))
    high = polygons.to_px(bounds[:, [2, 1]], working_of(job))
    hit = np.zeros(len(bounds), dtype=bool)
    for box in windows:
        hit |= (low[:, 0] < box.x1) & (high[:, 0] > box.x0) & (low[:, 1] < box.y1) & (high[:, 1] > box.y0)
    return hit


def _inside(xy: NDArray[np.float64], windows: list[Window]) -> NDArray[np.bool_]:
    """Which points (n, 2) lie in one of the windows."""
    hit = np.zeros(len(xy), dtype=bool)
    for box in windows:
        hit |= (xy[:, 0] >= box.x0) & (xy[:, 0] < box.x1) & (xy[:, 1] >= box.y0) & (xy[:, 1] < box.y1)
    return hit
