"""The report's data from a run: small samples of large things, read once the products stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import footprints, scene
from pipeline.events import read_events
from pipeline.grid import LEVELS, TileGrid, Window, level_shape
from pipeline.job import CADASTER, Job
from pipeline.ledger import Receipt
from pipeline.report.data import Changes, Ragged, ReportData, rows_to_show

OVERVIEW = 1600
"""Longest side of the overview, px."""
MOST_BUILDINGS = 20_000
MOST_VECTORS = 600
LISTED = 200


def report_data(
    job: Job, receipts: Sequence[Receipt], certificate: Mapping[str, Any], seen: scene.Scene, seconds: float
) -> ReportData:
    """Everything that the report shows, capped so that a large city gives a page like a small one."""
    folder = Path(job.folder)
    status, dx, dy, confidence, shown, before, after = _cadaster(job, folder)
    image, scale = overview(seen)
    export = {receipt.key: receipt.extra for receipt in receipts if receipt.stage in ("export", "conflate")}
    return ReportData(
        title=Path(job.image).stem,
        subtitle=f"{job.shape[1]:,} × {job.shape[0]:,} px at {job.gsd:.2f} m".replace(",", "\u202f"),
        shape=job.shape,
        gsd=job.gsd,
        overview=image,
        overview_scale=scale,
        status=status,
        dx_m=dx,
        dy_m=dy,
        confidence=confidence,
        shown=shown,
        before=before,
        after=after,
        certificate=certificate,
        receipts=receipts,
        read=lambda window: _rgb(seen, 1, window),
        buildings=_buildings(job, folder),
        building_count=export.get("buildings", {}).get("rows"),
        changes=export.get("changes", {}).get("changes", {}),
        change_places=_changes(job, folder),
        vectors=_vectors(job, folder),
        phase_seconds=phase_seconds(folder),
        wall_seconds=seconds,
        settings={**job.identity, "stages": ",".join(job.stages)},
        models=_models(job),
        notes=job.notes,
        files=sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")),
    )


def overview(seen: scene.Scene) -> tuple[NDArray[np.uint8], float]:
    """The whole scene as (3, h, w) uint8, and how many px of level 1 a pixel of it is wide.

    Read strip by strip at the first level that is small enough, or thinned from the coarsest.
    """
    level = next((at for at in LEVELS if max(level_shape(seen.shape, at)) <= OVERVIEW), LEVELS[-1])
    height, width = level_shape(seen.shape, level)
    step = max(1, -(-max(height, width) // OVERVIEW))
    strips = []
    for tile in TileGrid((height, width), max(step, 512 // step * step), 0):
        if tile.column == 0:
            window = Window(tile.core.y0, 0, tile.core.height, width)
            strips.append(_rgb(seen, level, window)[:, ::step, ::step])
    return np.concatenate(strips, axis=1), float(level * step)


def _rgb(seen: scene.Scene, level: int, window: Window) -> NDArray[np.uint8]:
    """A window as a person sees it: three bands, stretched, uint8."""
    image = scene.read_stretched(seen, level, window)
    bands = image[:3] if image.shape[0] >= 3 else np.repeat(image[:1], 3, axis=0)
    return np.asarray(np.rint(bands * 255), dtype=np.uint8)


def _cadaster(job: Job, folder: Path) -> tuple[Any, Any, Any, Any, Any, Ragged, Ragged]:
    """Columns of the aligned cadaster, and the polygons to show, before and after, px of level 1."""
    import pyarrow.parquet as pq

    nothing = Ragged(np.zeros((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64))
    path = folder / "cadaster_aligned.parquet"
    if not path.exists() or not job.align_line:
        none = np.zeros(0)
        return np.zeros(0, dtype=object), none, none, none, np.zeros(0, np.int64), nothing, nothing
    table = pq.read_table(path, columns=["status", "dx_m", "dy_m", "confidence", *(["input_row"] if job.sort else [])])
    if job.sort:
        table = table.take(np.argsort(table.column("input_row").to_numpy()))
    status = table.column("status").to_numpy(zero_copy_only=False)
    dx, dy = table.column("dx_m").to_numpy(), table.column("dy_m").to_numpy()
    confidence = table.column("confidence").to_numpy(zero_copy_only=False).astype(float)
    wanted = np.zeros(len(status), dtype=bool)
    wanted[rows_to_show(confidence, dx, dy)] = True
    rows, before, after = _polygons(job, wanted, status)
    order = np.argsort(rows, kind="stable")
    return status, dx, dy, confidence, rows[order], before.take(order), after.take(order)


def _polygons(job: Job, wanted: NDArray[np.bool_], status: Any) -> tuple[NDArray[np.int64], Ragged, Ragged]:
    """First polygon of each wanted row with its input row, where it was and where it is now."""
    from pipeline.worker.placed import moved_path, read_moved

    rows, lengths, old, new = [], [], [], []
    for key in footprints.block_keys(job.work / CADASTER):
        block = footprints.read_block(job.work / CADASTER, key)
        step = job.align_line[-1]
        moved = read_moved(job, step, key)[:, :2] if moved_path(job, step, key).exists() else block.xy
        shells = np.flatnonzero(block.ring_kind == 0)
        first = shells[np.unique(block.ring_row[shells], return_index=True)[1]]
        first = first[wanted[block.rows[block.ring_row[first]]]]
        for ring in first:
            span = slice(block.ring_offsets[ring], block.ring_offsets[ring + 1])
            row = block.rows[block.ring_row[ring]]
            rows.append(row)
            lengths.append(span.stop - span.start)
            old.append(block.xy[span])
            new.append(moved[span] if status[row] == "moved" else block.xy[span])
    ring_offsets = footprints.offsets_of(np.array(lengths, dtype=np.int64))
    polygon_offsets = np.arange(len(rows) + 1, dtype=np.int64)
    before = np.concatenate(old) if old else np.zeros((0, 2))
    after = np.concatenate(new) if new else np.zeros((0, 2))
    return (
        np.array(rows, dtype=np.int64),
        Ragged(before, ring_offsets, polygon_offsets),
        Ragged(after, ring_offsets, polygon_offsets),
    )


def _to_px(job: Job, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    a, _, c, _, e, f = job.transform
    return (xy - (c, f)) / (a, e)


def _buildings(job: Job, folder: Path) -> Ragged | None:
    """Outlines of the buildings (at most `MOST_BUILDINGS`), px of level 1."""
    import pyarrow.parquet as pq
    import shapely

    path = folder / "buildings.parquet"
    if not path.exists() or "split" not in job.stages:
        return None
    file = pq.ParquetFile(path)
    every = -(-file.metadata.num_rows // MOST_BUILDINGS)
    wkb = [
        file.read_row_group(group, columns=["geometry"]).column(0).to_numpy(zero_copy_only=False)[::every]
        for group in range(file.num_row_groups)
    ]
    if not wkb:
        return None
    shapes = shapely.get_parts(shapely.from_wkb(np.concatenate(wkb)))
    _, coords, offsets = shapely.to_ragged_array(shapes)
    return Ragged(_to_px(job, coords), offsets[0].astype(np.int64), offsets[1].astype(np.int64))


def _changes(job: Job, folder: Path) -> Changes | None:
    """The largest changes that a person should look at first."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    import shapely

    path = folder / "changes.parquet"
    if not path.exists() or not {"align", "split"} <= set(job.stages):
        return None
    table = pq.read_table(path, columns=["change", "reason", "cadaster_row", "building_id", "iou", "geometry"])
    table = table.filter(pc.is_in(table.column("change"), value_set=_text(["changed", "missing", "new"])))
    shapes = shapely.from_wkb(table.column("geometry").to_numpy(zero_copy_only=False), on_invalid="ignore")
    area = np.nan_to_num(shapely.area(shapes))
    order = np.argsort(-area, kind="stable")[:LISTED]
    centre = shapely.centroid(shapes[order])
    xy = _to_px(job, np.column_stack([shapely.get_x(centre), shapely.get_y(centre)]))
    kinds = table.column("change").to_numpy(zero_copy_only=False)[order]
    rows = table.column("cadaster_row").to_pylist()
    ids = table.column("building_id").to_pylist()
    labels = [f"row {rows[i]}" if rows[i] is not None else f"building {ids[i]}" for i in order.tolist()]
    good = np.isfinite(xy).all(axis=1)
    return Changes(kinds[good], xy[good], np.array(labels, dtype=object)[good], area[order][good])


def _text(values: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(values)


def _vectors(job: Job, folder: Path) -> NDArray[np.float64] | None:
    """Samples of the field: x, y (px of level 1), dx_m, dy_m, confidence."""
    import pyarrow.parquet as pq
    import shapely

    path = folder / "displacement.parquet"
    if not path.exists() or not job.align_line:
        return None
    table = pq.read_table(path, columns=["dx_m", "dy_m", "confidence", "geometry"])
    step = max(1, len(table) // MOST_VECTORS)
    table = table.take(np.arange(0, len(table), step))
    places = shapely.get_coordinates(shapely.from_wkb(table.column("geometry").to_numpy(zero_copy_only=False)))
    columns = [table.column(name).to_numpy() for name in ("dx_m", "dy_m", "confidence")]
    return np.column_stack([_to_px(job, places), *columns])


def phase_seconds(folder: Path) -> dict[str, float]:
    """Wall time of each phase of the run that has just ended, from its events; resumed ones stand alone."""
    from datetime import datetime

    began: dict[str, datetime] = {}
    seconds: dict[str, float] = {}
    for event in read_events(folder):
        time = datetime.fromisoformat(event["time"])
        if event["event"] == "run":
            seconds = {}
        elif event["event"] == "phase":
            began[event["phase"]] = time
        elif event["event"] == "phase-end" and event["phase"] in began:
            seconds[event["phase"]] = round((time - began[event["phase"]]).total_seconds(), 2)
    return seconds


def _models(job: Job) -> list[dict[str, Any]]:
    """The cards that the run used, as the page lists them."""
    from catalogs.cards import load_card

    folder = Path(job.models) if job.models else None
    cards = [(task, load_card(name, folder)) for task, name in job.cards.items()]
    return [
        {"task": task, "name": card.name, "sha256": card.sha256[:12], "scores": card.scores, "licence": card.licence}
        for task, card in cards
    ]
