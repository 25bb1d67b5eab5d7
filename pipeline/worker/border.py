"""What a window's border does to a pixel, per network: its own window against a much larger one.

Where the halo covers the receptive field the two cores agree to rounding; a deeper network would show
here what it loses. The figure goes into the certificate (DESIGN 2, invariant 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import scene
from pipeline.drawing import draw_cadaster
from pipeline.errors import StoreError
from pipeline.grid import WINDOW, Window, level_shape
from pipeline.job import Job
from pipeline.ledger import digest_of
from pipeline.networks import centre_crop
from pipeline.stages import align, classify, mask, refine
from pipeline.worker.align import draw, to_gray
from pipeline.worker.entry import Row, row
from pipeline.worker.placed import box_of
from pipeline.worker.scores import network_of, scene_of, seen_by

LARGER = 3
"""How many times as wide as the run's halo the reference window's is."""
PLACES = 2
"""Windows measured: those with the most valid pixels (or polygons), spread over the scene."""

Answer = Callable[[Window, int], NDArray[np.float32] | None]


def border(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Largest difference on the cores of a few windows, in the unit of the network's answer."""
    level, halo, unit, answer = _measure(job, key)
    worst, measured = 0.0, 0
    for window in _places(job, level, key):
        small, large = answer(window, halo), answer(window, halo * LARGER)
        if small is None or large is None:
            continue
        worst = max(worst, float(np.abs(small - large).max()))
        measured += 1
    figures: dict[str, Any] = {"difference": worst, "unit": unit, "halo": halo, "windows": measured}
    figures["reference_halo"] = halo * LARGER
    if not measured:
        return [row(stage, key, "empty", **figures)]
    return [row(stage, key, "ok", digest_of(key), **figures)]


def _measure(job: Job, task: str) -> tuple[float, int, str, Answer]:
    """Level, halo, unit and function (window, halo) → core for a task's network."""
    if task == "alignment":
        return 1, job.halos[task], "px", lambda window, halo: _field(job, window, halo)
    if task == "mask":
        level = job.levels["mask"]
        return level, job.halos[task], "probability", lambda window, halo: _mask(job, level, window, halo)
    level, refined = job.levels["classify"], task == "refiner"
    return level, classify.HALO, "probability", lambda window, halo: _classes(job, level, window, halo, refined)


def _places(job: Job, level: float, task: str) -> list[Window]:
    """A few full windows of the level with much to see: most vertices of polygons, or most valid pixels."""
    grid = job.grid(level, core=WINDOW)
    seen = coarse_share(scene_of(job), level, WINDOW)
    if task == "alignment":
        seen *= _drawn(job, grid.rows, grid.columns)
    order = np.argsort(-seen, axis=None, kind="stable")[:PLACES]
    rows, columns = np.unravel_index(order, seen.shape)
    return [Window(int(r) * WINDOW, int(c) * WINDOW, WINDOW, WINDOW) for r, c in zip(rows, columns, strict=True)]


def coarse_share(seen: scene.Scene, level: float, side: int) -> NDArray[np.float64]:
    """Valid share of each window of `side` px of `level`, (rows, columns) float64, judged at the coarsest level.

    `side` must be a whole number of pixels there. Windows over the edge count what lies outside as invalid.
    """
    coarsest = seen.levels[-1]
    step = int(side * level // coarsest)
    if step < 1 or step * coarsest != side * level:
        raise StoreError(f"windows of {side} px at level {level} are no whole pixels of level {coarsest}")
    height, width = level_shape(seen.shape, level)
    rows, columns = -(-height // side), -(-width // side)
    share = np.empty((rows, columns))
    for line in range(rows):
        valid = scene.read_valid(seen, coarsest, Window(line * step, 0, step, columns * step))
        share[line] = valid.reshape(step, columns, step).mean(axis=(0, 2))
    return share


def _drawn(job: Job, rows: int, columns: int) -> NDArray[np.float64]:
    """Number of vertices of the cadaster, as it came, in each window of level 1."""
    from pipeline import footprints
    from pipeline.job import CADASTER

    count = np.zeros((rows, columns))
    for key in footprints.block_keys(job.work / CADASTER):
        xy = footprints.read_block(job.work / CADASTER, key).xy // WINDOW
        inside = (xy[:, 0] >= 0) & (xy[:, 0] < columns) & (xy[:, 1] >= 0) & (xy[:, 1] < rows)
        np.add.at(count, (xy[inside, 1].astype(int), xy[inside, 0].astype(int)), 1)
    return count


def _image(job: Job, level: float, window: Window, halo: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(scene.read_stretched(scene_of(job), level, window.grow(halo)))


def _field(job: Job, window: Window, halo: int) -> NDArray[np.float32] | None:
    from pipeline import footprints
    from pipeline.job import CADASTER

    read, folder = window.grow(halo), job.work / CADASTER
    level = align.Step(1, 0)
    meeting = []
    for key in footprints.block_keys(folder):
        x0, y0, x1, y1 = box_of(footprints.read_block(folder, key).xy)
        if x0 < read.x1 and x1 > read.x0 and y0 < read.y1 and y1 > read.y0:
            meeting.append(key)
    drawing = draw(job, level, meeting, moved=False)
    seen = drawing.inside(read) if drawing is not None else None
    if seen is None:
        return None
    drawn = draw_cadaster(seen.coords, seen.ring_offsets, seen.polygon_offsets, (read.height, read.width))
    gray = to_gray(_image(job, 1, window, halo))
    network = align.network_at(network_of(job, "alignment"), 1, job.symmetry)
    return centre_crop(align.displacement(network, gray, drawn, seen.coords, job.device), WINDOW)


def _mask(job: Job, level: float, window: Window, halo: int) -> NDArray[np.float32]:
    image = seen_by(job, "mask", _image(job, level, window, halo))
    return mask.mask_scores(network_of(job, "mask"), image, WINDOW, job.device)


def _classes(job: Job, level: float, window: Window, halo: int, refined: bool) -> NDArray[np.float32]:
    image = _image(job, level, window, halo)
    scores = classify.coarse_scores(network_of(job, "coarse"), seen_by(job, "coarse", image), job.device)
    if refined:
        shown = seen_by(job, "refiner", image)
        scores = refine.refined_scores(network_of(job, "refiner"), scores, shown, job.device)
    return classify.probabilities(scores, WINDOW)
