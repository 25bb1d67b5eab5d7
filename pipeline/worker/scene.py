"""Tasks before any network: the image into the scene, its statistics, the cadaster into blocks."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pipeline import footprints, polygons, raster, scene, working
from pipeline import statistics as scene_statistics
from pipeline.errors import TileError
from pipeline.job import CADASTER, SCENE, Job
from pipeline.ledger import digest_of, fingerprint
from pipeline.worker.entry import Row, row


@lru_cache(maxsize=4)
def _working(image: str, min_gsd: float, source: str) -> working.WorkingRaster:
    grid = working.working_raster(raster.open_raster(image), min_gsd)
    if grid.content_id != source:
        raise TileError(f"{image}: changed while the run was going on; run again")
    return grid


def working_of(job: Job) -> working.WorkingRaster:
    """The run's working raster, opened once a process."""
    return _working(job.image, job.min_gsd, job.source)


def ingest(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """One block of the image into every level of the scene."""
    digest, share = scene.ingest_tile(working_of(job), job.work / SCENE, key)
    return [row(stage, key, "ok" if share else "nodata", digest, valid_share=round(share, 6))]


def statistics(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Statistics of the whole scene; every later stage's fingerprint rests on their digest."""
    found = scene_statistics.statistics(job.work / SCENE)
    return [row(stage, key, "ok" if found.count else "nodata", fingerprint(str(found)), valid=found.count)]


def index(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """The cadaster's vertices into fixed blocks, in px of the working raster."""
    assert job.cadaster is not None
    cadaster = polygons.read_cadaster(job.cadaster, job.cadaster_layer, job.cadaster_crs)
    if cadaster.source_id != job.cadaster_source:
        raise TileError(f"{job.cadaster}: changed while the run was going on; run again")
    folder = job.work / CADASTER
    roads = polygons.road_rows(cadaster, job.class_column) if job.roads else None
    footprints.index_cadaster(cadaster, working_of(job), folder, roads)
    boxes = {}
    for block in footprints.block_keys(folder):
        xy = footprints.read_block(folder, block).xy
        boxes[block] = [*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist()]
    said = [str(boxes), job.cadaster_source, *(["roads", str(job.class_column)] if job.roads else [])]
    return [row(stage, key, "ok", digest_of(*said), boxes=boxes, rows=len(cadaster.table))]
