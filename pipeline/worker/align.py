"""Alignment tasks: predict a tile's field, move a block's polygons, stitch a window of the dense field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import footprints, scene, store
from pipeline.errors import StoreError
from pipeline.grid import WINDOW, Window
from pipeline.job import CADASTER, SCENE, Job, values_of
from pipeline.job_stages import around, scaled
from pipeline.kernels import edges
from pipeline.ledger import digest_of
from pipeline.networks import run_windows
from pipeline.stages import align
from pipeline.stages import search as search_stage
from pipeline.stages.search import Search
from pipeline.worker.entry import Row, row
from pipeline.worker.scores import network_of, scene_of

NODE = 8
"""Spacing, px of level 1, of the dense field's nodes: finer than anything that the smoothing keeps."""


def search(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Shifts of a block's footprints, each agreed with its neighbours, those of other blocks included."""
    step = of_stage(job, stage)
    assert isinstance(step, Search)
    factor, halo = step.factor, step.reach * step.factor + search_stage.SEEN
    names = [key, *(other for other in payload["blocks"] if other != key)]
    blocks = [footprints.read_block(job.work / CADASTER, name) for name in names]
    points = [vertices(job, step, name) for name in names]
    outer = around(box_of(np.concatenate(points)), 0).grow(halo)
    kept = job.blocks().at(key).core.grow(int(step.neighbourhood) + halo)
    region = scaled(Window(*_common(outer, kept)), 1, factor)
    image = scene.read_stretched(scene_of(job), factor, region)
    gx, gy = search_stage.gradients(image, scene.read_valid(scene_of(job), factor, region) != 0)
    volumes, lengths, middles = [], [], []
    for block, xy in zip(blocks, points, strict=True):
        coords, ring_offsets, ring_row = block.outlines(xy)
        local = coords / factor - (region.x0, region.y0)
        volume, length = edges.evidence(gx, gy, local, ring_offsets, ring_row, len(block.rows), step.reach)
        volumes.append(volume)
        lengths.append(length)
        middles.append(search_stage.centres(xy, block.row_vertices))
    own = len(blocks[0].rows)
    shifts = search_stage.find_shifts(
        np.concatenate(volumes), np.concatenate(lengths), np.concatenate(middles), own, step
    )
    return [row(stage, key, "ok", save_table(shifts_path(job, step, key), shifts.table()), rows=own)]


def field(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Weighted field of one tile at one step, from the polygons as the step before left them."""
    step = of_stage(job, stage)
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
    if not scene.read_valid(scene_of(job), step.factor, whole).any():
        return [blank(job, stage, key, "nodata", step.name, cells, 4)]
    gray = to_gray(scene.read_stretched(scene_of(job), step.factor, whole))
    network = network_of(job, "alignment")
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
    """Move a block's vertices by the step's stitched field."""
    step = of_stage(job, stage)
    xy = vertices(job, step, key)
    if isinstance(step, Search):
        moved, confidence = search_stage.move(xy, read_shifts(job, step, payload["blocks"]), step)
    else:
        moved, confidence = by_field(job, step, xy)
        if job.searches:  # what was found first was searched widest: its word on the place counts most
            confidence = read_moved(job, job.align_line[len(job.searches) - 1], key)[:, 2]
    digest = save_table(moved_path(job, step, key), np.column_stack([moved, confidence]))
    return [row(stage, key, "ok", digest, box=box_of(moved))]


def displacement(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """The dense field on one block: every node moved through all steps, as a vertex there would be."""
    core = job.blocks().at(key).core
    ys = np.arange(core.y0, core.y1, NODE) + NODE / 2
    xs = np.arange(core.x0, core.x1, NODE) + NODE / 2
    start = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    xy, confidence = start, np.zeros(len(start))
    for step in job.align_line:
        if isinstance(step, Search):
            near = [name for name in nearby(job, core) if name not in payload["unmoved"]]
            near = [name for name in near if close(job, name, xy, step)]
            xy, confidence = search_stage.move(xy, read_shifts(job, step, near), step)
        else:
            xy, seen = by_field(job, step, xy)
            confidence = confidence if job.searches else seen
    values = np.concatenate(((xy - start).T, confidence[None])).astype(np.float32)
    values = values.reshape(3, len(ys), len(xs))
    window = Window(core.y0 // NODE, core.x0 // NODE, len(ys), len(xs))
    if not values.any():
        return [blank(job, stage, key, "empty", stage, window, 3)]
    store.write(store.open_array(job.work / SCENE, values_of("displacement")), window, values)
    return [row(stage, key, "ok", digest_of(values.tobytes()))]


def by_field(
    job: Job, step: align.Step, xy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (n, 2), px of level 1, moved by a network step's stitched field; and confidence (n)."""
    region = align.cells_around(box_of(xy), step.factor)
    sums = read_sums(job, step, region)
    if not sums[2].any():
        return xy, np.zeros(len(xy))
    return align.move(xy, align.smooth_field(sums, step.factor), region, step.factor)


def box_of(xy: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Bounding box x0, y0, x1, y1 of points."""
    (x0, y0), (x1, y1) = xy.min(axis=0), xy.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def shifts_path(job: Job, step: Search, key: str) -> Path:
    """Where the shifts that a search found for a block lie."""
    return job.work / CADASTER / step.name / f"{key}.shifts.npy"


def read_shifts(job: Job, step: Search, blocks: list[str]) -> search_stage.Shifts:
    """The shifts found for the footprints of several blocks; those of failed ones are missing."""
    paths = [shifts_path(job, step, key) for key in blocks]
    tables = [np.load(path, allow_pickle=False) for path in paths if path.exists()]
    return search_stage.Shifts.of(np.concatenate([np.zeros((0, 6)), *tables]))


def nearby(job: Job, core: Window) -> list[str]:
    """Keys of blocks that own footprints and lie around `core`, with room for what sticks out of them."""
    owning = set(footprints.block_keys(job.work / CADASTER))
    return [tile.key for tile in job.blocks().touching(core.grow(scene.BLOCK)) if tile.key in owning]


def close(job: Job, key: str, xy: NDArray[np.float64], step: Search) -> bool:
    """Whether a block's footprints can have a say on the points `xy`."""
    x0, y0, x1, y1 = box_of(vertices(job, step, key))
    near = box_of(xy)
    reach = step.neighbourhood
    return x0 - reach < near[2] and x1 + reach > near[0] and y0 - reach < near[3] and y1 + reach > near[1]


def _common(one: Window, other: Window) -> tuple[int, int, int, int]:
    """The pixels of both windows: y0, x0, height, width."""
    y0, x0 = max(one.y0, other.y0), max(one.x0, other.x0)
    return y0, x0, max(min(one.y1, other.y1) - y0, 1), max(min(one.x1, other.x1) - x0, 1)


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


def vertices(job: Job, step: Search | align.Step, key: str) -> NDArray[np.float64]:
    """A block's vertices (n, 2), px of level 1, before `step`."""
    position = job.align_line.index(step)
    if position == 0:
        return footprints.read_block(job.work / CADASTER, key).xy
    return read_moved(job, job.align_line[position - 1], key)[:, :2]


def moved_path(job: Job, step: Search | align.Step, key: str) -> Path:
    """Where a block's vertices lie after `step`."""
    return job.work / CADASTER / step.name / f"{key}.npy"


def read_moved(job: Job, step: Search | align.Step, key: str) -> NDArray[np.float64]:
    """A block's vertices after `step` and their confidence: (n, 3) float64."""
    path = moved_path(job, step, key)
    try:
        table: NDArray[np.float64] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run again") from None
    return table


def save_table(path: Path, table: NDArray[np.float64]) -> str:
    """Write a table whole or not at all; returns its digest."""
    footprints.save(path, table)
    return digest_of(np.ascontiguousarray(table).tobytes())


def of_stage(job: Job, stage: str) -> Search | align.Step:
    """The search or step that a phase belongs to."""
    return next(step for step in job.align_line if stage.startswith(f"{step.name}-"))
