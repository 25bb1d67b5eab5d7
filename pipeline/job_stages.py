"""The stages of a job: which grid each runs on, how far it reads, and the recipe its receipts stand for."""

from __future__ import annotations

from math import ceil, floor

import numpy as np

from pipeline.grid import TileGrid, Window
from pipeline.job import Job
from pipeline.stage import Stage
from pipeline.stages import align, classify, mask, refine, roads

INGEST_VERSION, SPLIT_VERSION = 1, 1


def stage_of(job: Job, name: str, scene: str) -> Stage:
    """The stage behind a phase of tiles: grid, halo and recipe; `scene` is the digest of its statistics."""
    if name == "ingest":
        recipe: dict[str, object] = {"version": INGEST_VERSION, "min_gsd": job.min_gsd}
        return Stage("ingest", job.blocks(), 1, "cpu", recipe)
    if name == "classify":
        level = job.levels["classify"]
        recipe = {"version": classify.VERSION, "weights": job.weights["coarse"], "scene": scene}
        return Stage(name, job.grid(level, classify.HALO), job.strides["coarse"], job.device, recipe)
    if name == "refine":
        below = stage_of(job, "classify", scene)
        recipe = {**below.recipe, "version": refine.VERSION, "refiner": job.weights["refiner"]}
        return Stage(name, below.grid, below.origin, job.device, recipe)
    if name == "mask":
        recipe = {"version": mask.VERSION, "weights": job.weights["mask"], "scene": scene}
        grid = job.grid(job.levels["mask"], job.halos["mask"])
        return Stage(name, grid, job.strides["mask"], job.device, recipe)
    if name == "split":
        from pipeline.stages.split import HALO

        grid = job.grid(job.levels["mask"], HALO)
        return Stage(name, grid, 1, "cpu", {"version": SPLIT_VERSION, **split_options(job)})
    if name == roads.PHASE:
        grid = job.grid(job.levels["roads"], job.halos["roads"])
        recipe = {"version": roads.VERSION, "weights": job.weights["roads"], "scene": scene}
        return Stage(name, grid, job.strides["roads"], job.device, recipe)
    factor = int(name.removeprefix("align-f").split("p")[0])
    recipe = {
        "version": align.VERSION,
        "weights": job.weights["alignment"],
        "symmetry": job.symmetry,
        "scene": scene,
        "field": [align.CELL, align.SIGMAS, align.REACH, align.FILL_WEIGHT, align.EDGE_WEIGHT, align.EPSILON],
    }
    return Stage(name, job.grid(factor, job.halos["alignment"]), job.strides["alignment"], job.device, recipe)


def split_options(job: Job) -> dict[str, str]:
    """What of the settings decides how instances are drawn; nothing by default, as before there was a choice."""
    return {} if job.outlines == "traced" else {"outlines": job.outlines}


def grid_of(job: Job, stage: str) -> TileGrid | None:
    """The grid whose cores a stage's receipts speak of; None for stages without tiles."""
    if stage in ("ingest", "displacement") or stage.endswith(("-move", "-search", "-check")):
        return job.blocks()
    if stage == roads.PHASE:
        return job.grid(job.levels["roads"])
    if stage in ("classify", "refine"):
        return job.grid(job.levels["classify"])
    if stage in ("mask", "split"):
        return job.grid(job.levels["mask"])
    if stage.endswith("-field"):
        return job.grid(int(stage.removeprefix("align-f").split("p")[0]))
    return None


def scaled(window: Window, level: float, target: float) -> Window:
    """A window of `level`, in px of level `target`, grown to whole pixels."""
    y0, x0 = floor(window.y0 * level / target), floor(window.x0 * level / target)
    y1, x1 = ceil(window.y1 * level / target), ceil(window.x1 * level / target)
    return Window(y0, x0, y1 - y0, x1 - x0)


class Boxes:
    """Blocks' bounding boxes, for finding those that meet a window without a pass over all in Python."""

    def __init__(self, boxes: dict[str, tuple[float, float, float, float]]) -> None:
        self.keys = sorted(boxes)
        self.table = np.array([boxes[key] for key in self.keys], dtype=float).reshape(-1, 4)

    def meeting(self, window: Window) -> list[str]:
        """Keys of the blocks whose box meets the window, sorted."""
        if not self.keys:
            return []
        x0, y0, x1, y1 = self.table.T
        hit = (x0 < window.x1) & (x1 > window.x0) & (y0 < window.y1) & (y1 > window.y0)
        return [self.keys[i] for i in hit.nonzero()[0]]


def around(box: tuple[float, float, float, float], margin: float) -> Window:
    """The whole pixels of a box (x0, y0, x1, y1; px of level 1) grown by `margin`."""
    y0, x0 = int(np.floor(box[1] - margin)), int(np.floor(box[0] - margin))
    y1, x1 = int(np.ceil(box[3] + margin)) + 1, int(np.ceil(box[2] + margin)) + 1
    return Window(y0, x0, y1 - y0, x1 - x0)
