"""Alignment tasks: predict a tile's field, move a block's polygons, stitch a window of the dense field."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import footprints, scene, store
from pipeline.errors import StoreError
from pipeline.grid import WINDOW, Window
from pipeline.job import CADASTER, SCENE, Job, values_of
from pipeline.ledger import digest_of
from pipeline.networks import run_windows
from pipeline.stages import align
from pipeline.worker.entry import Row, row
from pipeline.worker.scores import network_of, scene_of

NODE = 4
"""Spacing, px of level 1, of the dense field's nodes: finer than anything the smoothing keeps."""


def field(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Weighted field of one tile at one step, from the polygons as the step before left them."""
    step = _step(job, stage)
    halo = job.halos["alignment"]
    tile = job.grid(step.factor, halo).at(key)
    drawing = draw(job, step, payload["blocks"])
    if drawing is None:
        return [row(stage, key, "empty")]
    whole = Window(
        tile.core.y0, tile.core.x0, -(-tile.core.height // WINDOW) * WINDOW, -(-tile.core.width // WINDOW) * WINDOW
    ).grow(halo)
    if drawing.inside(whole) is None:
        return [row(stage, key, "empty")]
    if not scene.read_valid(scene_of(job), step.factor, whole).any():
        return [row(stage, key, "nodata")]
    gray = to_gray(scene.read_stretched(scene_of(job), step.factor, whole))
    network = network_of(job, "alignment")
    cells = align.cell_windows(tile.core)
    sums = np.zeros((4, cells.height, cells.width), np.float32)
    ran = 0

    def forward(window: Window) -> None:
        nonlocal ran
        image = np.ascontiguousarray(gray[window.grow(halo).slices(whole)])
        answer = align.predict_window(network, image, drawing, window, halo, step.factor, job.device)
        if answer is not None:
            place = align.cell_windows(window).clip((cells.y1, cells.x1))
            sums[(slice(None), *place.slices(cells))] = answer[:, : place.height, : place.width]
            ran += 1

    run_windows(forward, tile, 1, lambda result: result)
    if not ran:
        return [row(stage, key, "empty")]
    store.write(store.open_array(job.work / SCENE, values_of(step.name)), cells, sums)
    return [row(stage, key, "ok", digest_of(sums.tobytes()), windows=ran)]


def move(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Move a block's vertices by the step's stitched field."""
    step = _step(job, stage)
    xy = vertices(job, step, key)
    box = (*xy.min(axis=0), *xy.max(axis=0))
    region = align.cells_around((float(box[0]), float(box[1]), float(box[2]), float(box[3])), step.factor)
    smoothed = align.smooth_field(read_sums(job, step, region))
    moved, confidence = align.move(xy, smoothed, region, step.factor)
    digest = save_vertices(job, step, key, moved, confidence)
    after = [*moved.min(axis=0).tolist(), *moved.max(axis=0).tolist()]
    return [row(stage, key, "ok", digest, box=after)]


def displacement(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """The dense field on one block: every node moved through all steps, as a vertex there would be."""
    core = job.blocks().at(key).core
    ys = np.arange(core.y0, core.y1, NODE) + NODE / 2
    xs = np.arange(core.x0, core.x1, NODE) + NODE / 2
    start = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    xy, confidence = start, np.zeros(len(start))
    for step in job.align_steps:
        box = (*xy.min(axis=0), *xy.max(axis=0))
        region = align.cells_around((float(box[0]), float(box[1]), float(box[2]), float(box[3])), step.factor)
        sums = read_sums(job, step, region)
        if not sums[2].any():
            confidence = np.zeros(len(start))
            continue
        xy, confidence = align.move(xy, align.smooth_field(sums), region, step.factor)
    values = np.concatenate(((xy - start).T, confidence[None])).astype(np.float32)
    values = values.reshape(3, len(ys), len(xs))
    window = Window(core.y0 // NODE, core.x0 // NODE, len(ys), len(xs))
    if not values.any():
        return [row(stage, key, "empty")]
    store.write(store.open_array(job.work / SCENE, values_of("displacement")), window, values)
    return [row(stage, key, "ok", digest_of(values.tobytes()))]


def draw(job: Job, step: align.Step, blocks: list[str]) -> align.Drawing | None:
    """The polygons of the given blocks as they stand before a step, in px of the step's level."""
    parts = []
    for key in blocks:
        block = footprints.read_block(job.work / CADASTER, key)
        part = block.polygons(vertices(job, step, key) / step.factor)
        if len(part[2]) > 1:
            parts.append(part)
    if not parts:
        return None
    coords = np.concatenate([part[0] for part in parts])
    rings = footprints.offsets_of(np.concatenate([np.diff(part[1]) for part in parts]))
    polygons = footprints.offsets_of(np.concatenate([np.diff(part[2]) for part in parts]))
    starts = rings[polygons[:-1]]
    low = np.minimum.reduceat(coords, starts)
    high = np.maximum.reduceat(coords, starts)
    return align.Drawing(coords, rings, polygons, np.concatenate((low, high), axis=1))


def to_gray(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the first three bands, or the first one of an image with fewer: (h, w) float32."""
    bands = image[:3] if image.shape[0] >= 3 else image[:1]
    return bands.mean(axis=0, dtype=np.float32)


def read_sums(job: Job, step: align.Step, region: Window) -> NDArray[np.float32]:
    """Weighted sums (4, h, w) of a step over a window of cells; zero outside the scene."""
    return store.read(store.open_array(job.work / SCENE, values_of(step.name)), region)


def vertices(job: Job, step: align.Step, key: str) -> NDArray[np.float64]:
    """A block's vertices (n, 2), px of level 1, before `step`."""
    position = job.align_steps.index(step)
    if position == 0:
        return footprints.read_block(job.work / CADASTER, key).xy
    return read_moved(job, job.align_steps[position - 1], key)[:, :2]


def moved_path(job: Job, step: align.Step, key: str) -> Path:
    """Where a block's vertices lie after `step`."""
    return job.work / CADASTER / step.name / f"{key}.npy"


def read_moved(job: Job, step: align.Step, key: str) -> NDArray[np.float64]:
    """A block's vertices after `step` and their confidence: (n, 3) float64."""
    path = moved_path(job, step, key)
    try:
        table: NDArray[np.float64] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run again with --force-new") from None
    return table


def save_vertices(
    job: Job, step: align.Step, key: str, xy: NDArray[np.float64], confidence: NDArray[np.float64]
) -> str:
    """Write a block's vertices whole or not at all; returns their digest."""
    path = moved_path(job, step, key)
    table = np.concatenate((xy, confidence[:, None]), axis=1)
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    with store.reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_bytes(buffer.getbuffer())
        os.replace(temporary, path)
    return digest_of(table.tobytes())


def _step(job: Job, stage: str) -> align.Step:
    return next(step for step in job.align_steps if stage.startswith(f"{step.name}-"))
