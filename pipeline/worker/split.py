"""Splitting tasks: a tile's scores into buildings, and the few components that no tile saw whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import buildings, scene, seams, store
from pipeline.grid import Window, level_shape
from pipeline.job import PARTS, SCENE, Job, values_of
from pipeline.ledger import digest_of
from pipeline.stages import split as split_stage
from pipeline.stages.split_large import split_large as split_component
from pipeline.worker.entry import Row, row
from pipeline.worker.scores import scene_of


def part_path(job: Job, stage: str, key: str) -> Path:
    """Where a splitting task's buildings lie."""
    return job.work / PARTS / stage / f"{key}.arrow"


def read_scores(job: Job, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Scores (2, h, w) and validity (h, w) of a window of the mask level."""
    scores = store.read(store.open_array(job.work / SCENE, values_of("mask")), window)
    return scores, scene.read_valid(scene_of(job), job.levels["mask"], window) != 0


def split(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Buildings whose component a tile owns, and the record of what crosses its faces."""
    level = job.levels["mask"]
    margin = split_stage.margin_of(job.outlines)
    tile = job.grid(level, split_stage.HALO - margin).at(key)
    scores, valid = read_scores(job, tile.read.grow(margin))
    part, faces = split_stage.split_tile(scores, valid, tile, level_shape(job.shape, level), outlines=job.outlines)
    status = "ok" if len(part) or faces.label.size else "empty"
    digest = _write(job, stage, key, {**buildings.part_arrays(part), **seams.face_arrays(faces)})
    return [row(stage, key, status, digest, buildings=len(part), crossing=int(faces.label.size))]


def split_large(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Buildings of one component that no tile saw whole."""
    said = payload["component"]
    component = seams.LargeComponent(said["first"], Window(*said["box"]), said["area"], said["windowed"])
    shape = level_shape(job.shape, job.levels["mask"])
    part, audit = split_component(
        lambda window: read_scores(job, window), component, shape, outlines=job.outlines
    )
    arrays = {**buildings.part_arrays(part), **{f"seam_{name}": value for name, value in audit_arrays(audit).items()}}
    digest = _write(job, stage, key, arrays)
    figures = {"buildings": len(part), "seams": len(audit.merged), "merged": int(audit.merged.sum())}
    return [row(stage, key, "ok" if len(part) else "empty", digest, **figures)]


def audit_arrays(audit: Any) -> dict[str, NDArray[Any]]:
    """A seam audit's columns by name."""
    from dataclasses import fields

    return {field.name: getattr(audit, field.name) for field in fields(audit)}


def large_components(job: Job, keys: list[str]) -> list[seams.LargeComponent]:
    """Components that no tile saw whole, from the face records of the tiles that are done."""
    grid = job.grid(job.levels["mask"], split_stage.HALO - split_stage.margin_of(job.outlines))
    tiles = sorted((grid.at(key) for key in keys), key=lambda tile: (tile.row, tile.column))
    faces = ((tile, seams.read_faces(part_path(job, "split", tile.key))) for tile in tiles)
    return seams.find_large(faces, grid)


def _write(job: Job, stage: str, key: str, arrays: dict[str, NDArray[Any]]) -> str:
    buildings.write_arrays(part_path(job, stage, key), arrays)
    return digest_of(*(np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays)))
