"""Alignment tasks: predict a tile's field, move a block's polygons, stitch a window of the dense field."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import footprints, scene, store
from pipeline.errors import StoreError
from pipeline.grid import WINDOW, Window
from pipeline.job import CADASTER, SCENE, Job, values_of
from pipeline.job_stages import grid_of
from pipeline.ledger import digest_of
from pipeline.networks import run_windows
from pipeline.ragged import offsets_of
from pipeline.stages import align
from pipeline.stages import gate as gate_stage
from pipeline.stages import search as search_stage
from pipeline.stages.gate import Gate, Verdicts
from pipeline.stages.search import Search
from pipeline.worker.entry import Row, row
from pipeline.worker.placed import (
    Points,
    box_of,
    load_table,
    moved_path,
    read_common,
    save_table,
    verdicts_path,
    vertices,
)
from pipeline.worker.scores import network_of, scene_of

NODE = 8
"""Spacing, px of level 1, of the dense field's nodes: finer than anything that the smoothing keeps."""


def field(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Weighted field of one tile at one step, from the polygons as the step before left them."""
    step = next(step for step in job.align_line if step.source == stage)
    assert isinstance(step, align.Step)
    halo = job.halos["alignment"]
    tile = job.grid(step.factor, halo).at(key)
    drawing = draw(job, step, payload["blocks"])
    cells = align.cell_windows(tile.core)
    if drawing is None:
        return [blank(job, stage, key, "empty", step.name, cells, 4)]
    whole = Window(
        tile.core.y0, tile.core.x0, -(-tile.core.height // WINDOW) * WINDOW, -(-tile.core.width // WINDOW) * WINDOW
    ).grow(halo)
    if drawing.inside(whole) is None:
        return [blank(job, stage, key, "empty", step.name, cells, 4)]
    valid = scene.read_valid(scene_of(job), step.factor, whole) != 0
    if not valid.any():
        return [blank(job, stage, key, "nodata", step.name, cells, 4)]
    gray = to_gray(scene.read_stretched(scene_of(job), step.factor, whole))
    network = align.network_at(network_of(job, "alignment"), step.factor, job.symmetry)
    sums = np.zeros((4, cells.height, cells.width), np.float32)
    ran = 0

    def forward(window: Window) -> None:
        nonlocal ran
        if not valid[window.slices(whole)].any():
            return  # each window for itself: what a tile sees beside it must not matter
        image = np.ascontiguousarray(gray[window.grow(halo).slices(whole)])
        answer = align.predict_window(network, image, drawing, window, halo, step.factor, job.device)
        if answer is not None:
            place = align.cell_windows(window).clip((cells.y1, cells.x1))
            sums[(slice(None), *place.slices(cells))] = answer[:, : place.height, : place.width]
            ran += 1

    run_windows(forward, tile, 1, lambda result: result)
    if not ran:
        return [blank(job, stage, key, "empty", step.name, cells, 4)]
    store.write(store.open_array(job.work / SCENE, values_of(step.name)), cells, sums)
    return [row(stage, key, "ok", digest_of(sums.tobytes()), windows=ran)]


def blank(job: Job, stage: str, key: str, status: str, name: str, window: Window, bands: int) -> Row:
    """The receipt of a tile with nothing in it, once what an earlier run left there is gone."""
    store.write(
        store.open_array(job.work / SCENE, values_of(name)),
        window,
        np.zeros((bands, window.height, window.width), np.float32),
    )
    return row(stage, key, status)


def move(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Move a block's vertices as far as a step says, or let through what the gate does."""
    step = next(step for step in job.align_line if f"{step.name}-move" == stage)
    block = footprints.read_block(job.work / CADASTER, key)
    xy = vertices(job, step, key)
    if isinstance(step, Gate):
        moved, sure = gate_stage.move(block.xy, xy, read_verdicts(job, payload["blocks"]), step)
        if key not in payload["blocks"]:
            raise StoreError(f"{stage}: this block's own check failed, so nothing says whether its moves are any good")
        own = read_verdicts(job, [key])
        counts = np.diff(block.row_vertices)
        sure = gate_stage.together(np.repeat(own.confidence, counts), np.repeat(own.weight, counts), sure)
    else:
        moved, sure = by_nodes(job, step, xy, payload["holes"])
    digest = save_table(moved_path(job, step, key), np.column_stack([moved, sure]))
    return [row(stage, key, "ok", digest, box=box_of(moved))]


def displacement(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """The dense field on one block: every node moved through all steps, as a vertex there would be.

    `folded` counts the nodes in reach of polygons where the field folds over itself: no negative Jacobian may
    be where polygons are.
    """
    core = job.blocks().at(key).core
    # A node more to the right and below: a fold may lie between two blocks.
    ys = np.arange(core.y0, core.y1 + NODE, NODE) + NODE / 2
    xs = np.arange(core.x0, core.x1 + NODE, NODE) + NODE / 2
    start = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    xy, sure = start + read_common(job), np.zeros(len(start))
    for step in job.align_line:
        if isinstance(step, Gate):
            xy, sure = gate_stage.move(start, xy, read_verdicts(job, payload["near"][key]), step)
        else:
            xy, _ = by_nodes(job, step, xy, payload["holes"].get(step.source, []))
    values = np.concatenate(((xy - start).T, sure[None])).astype(np.float32)
    values[:, sure == 0] = 0  # beyond every polygon's reach nobody says anything
    values = values.reshape(3, len(ys), len(xs))
    turned, window = folded(values), Window(core.y0 // NODE, core.x0 // NODE, len(ys) - 1, len(xs) - 1)
    values = np.ascontiguousarray(values[:, :-1, :-1])
    if not values.any():
        return [blank(job, stage, key, "empty", stage, window, 3)]
    store.write(store.open_array(job.work / SCENE, values_of("displacement")), window, values)
    return [row(stage, key, "ok", digest_of(values.tobytes()), folded=turned)]


def folded(values: NDArray[np.float32]) -> int:
    """How many cells of a field (3, h, w: dx, dy in px, confidence; a node each NODE px) are turned inside out."""
    dx, dy, sure = values
    if min(dx.shape) < 2:
        return 0
    xx, xy = np.diff(dx, axis=1)[:-1] / NODE, np.diff(dx, axis=0)[:, :-1] / NODE
    yx, yy = np.diff(dy, axis=1)[:-1] / NODE, np.diff(dy, axis=0)[:, :-1] / NODE
    known = (sure[:-1, :-1] > 0) & (sure[1:, :-1] > 0) & (sure[:-1, 1:] > 0) & (sure[1:, 1:] > 0)
    return int((((1 + xx) * (1 + yy) - xy * yx <= 0) & known).sum())


def by_nodes(job: Job, step: Search | align.Step, xy: Points, holes: list[str]) -> tuple[Points, Points]:
    """Points (n, 2), px of level 1, moved by a step's stitched field; and how sure it is there (n).

    The field is read around the points of one block of the scene at a time: a row may be longer than a city.
    """
    moved, sure = xy.copy(), np.zeros(len(xy))
    cell = np.floor(xy / scene.BLOCK).astype(np.int64)
    for one in np.unique(cell, axis=0):
        here = (cell == one).all(axis=1)
        moved[here], sure[here] = _by_nodes(job, step, xy[here], holes)
    return moved, sure


def _by_nodes(job: Job, step: Search | align.Step, xy: Points, holes: list[str]) -> tuple[Points, Points]:
    box = box_of(xy)
    region = search_stage.nodes_around(box, step) if isinstance(step, Search) else align.cells_around(box, step.factor)
    sums = store.read(store.open_array(job.work / SCENE, values_of(step.name)), region)
    grid = grid_of(job, step.source)
    assert grid is not None
    for key in holes:  # what an earlier run left where this one failed says nothing
        core = grid.at(key).core
        gone = step.nodes(core) if isinstance(step, Search) else align.cell_windows(core)
        y0, x0 = max(gone.y0 - region.y0, 0), max(gone.x0 - region.x0, 0)
        sums[:, y0 : max(gone.y1 - region.y0, 0), x0 : max(gone.x1 - region.x0, 0)] = 0
    if not sums[2].any():
        return xy, np.zeros(len(xy))
    if isinstance(step, align.Step):
        return align.move(xy, align.smooth_field(sums, step.factor), region, step.factor)
    return search_stage.move(xy, search_stage.field_of(step, sums), region, step)


def read_verdicts(job: Job, blocks: list[str]) -> Verdicts:
    """What the footprints of several blocks say of their moves."""
    tables = [load_table(verdicts_path(job, key)) for key in blocks]
    return Verdicts.of(np.concatenate([np.zeros((0, 5)), *tables]))


def draw(job: Job, step: align.Step, blocks: list[str], moved: bool = True) -> align.Drawing | None:
    """The polygons of the given blocks as they stand before a step (or as they came), in px of its level."""
    parts = []
    for key in blocks:
        block = footprints.read_block(job.work / CADASTER, key)
        part = block.polygons((vertices(job, step, key) if moved else block.xy) / step.factor)
        if len(part[2]) > 1:
            parts.append(part)
    if not parts:
        return None
    coords = np.concatenate([part[0] for part in parts])
    rings = offsets_of(np.concatenate([np.diff(part[1]) for part in parts]))
    polygons = offsets_of(np.concatenate([np.diff(part[2]) for part in parts]))
    starts = rings[polygons[:-1]]
    low = np.minimum.reduceat(coords, starts)
    high = np.maximum.reduceat(coords, starts)
    return align.Drawing(coords, rings, polygons, np.concatenate((low, high), axis=1))


def to_gray(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the first three bands, or the first one of an image with fewer: (h, w) float32."""
    bands = image[:3] if image.shape[0] >= 3 else image[:1]
    return bands.mean(axis=0, dtype=np.float32)
