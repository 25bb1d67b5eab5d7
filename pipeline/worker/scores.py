"""Network tasks on the raster: classes, refined classes, and the scores that buildings are split from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import networks, scene, store
from pipeline.grid import WINDOW, Tile, Window
from pipeline.job import SCENE, Job, values_of
from pipeline.ledger import digest_of
from pipeline.stages import classify as coarse_stage
from pipeline.stages import mask as mask_stage
from pipeline.stages import refine as refine_stage
from pipeline.worker.entry import Row, row


def scene_of(job: Job) -> scene.Scene:
    """The run's scene, opened once a process and again when its statistics change."""
    return scene.open_scene(job.work / SCENE)


def network_of(job: Job, task: str) -> Any:
    """The network of the run's card for `task`, loaded once a process."""
    return networks.load(job.cards[task], job.models, job.device)


def seen_by(job: Job, task: str, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The bands of an image (bands, h, w) that the network of the run's card for `task` sees."""
    return networks.seen(image, networks.bands_of(job.cards[task], job.models))


class Reader:
    """A tile's image, read once; windows are cut from it. `valid` says where there is data."""

    def __init__(self, job: Job, level: float, tile: Tile) -> None:
        core = tile.core
        # Windows at the raster's edge reach over it: read as much as the last of them.
        whole = Window(core.y0, core.x0, -(-core.height // WINDOW) * WINDOW, -(-core.width // WINDOW) * WINDOW)
        self.window = whole.grow(tile.core.y0 - tile.read.y0)
        self.valid = scene.read_valid(scene_of(job), level, self.window) != 0
        self.image: NDArray[np.float32] | None = None
        if self.valid.any():
            self.image = scene.read_stretched(scene_of(job), level, self.window)

    def cut(self, window: Window) -> NDArray[np.float32] | None:
        """The stretched image (bands, h, w) of a window, or None where it has no valid pixel."""
        if self.image is None or not self.valid[window.slices(self.window)].any():
            return None
        return np.ascontiguousarray(self.image[(slice(None), *window.slices(self.window))])


def classify(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Scores of a tile for the stages that are due: `classify`, `refine` or both from the same arrays."""
    level = job.levels["classify"]
    tile = job.grid(level, coarse_stage.HALO).at(key)
    due = payload["stages"]
    reader = Reader(job, level, tile)
    if reader.image is None:
        return [row(name, key, "nodata") for name in due]
    coarse = network_of(job, "coarse")
    shape = (len(due), 3, tile.core.height, tile.core.width)

    def forward(window: Window) -> NDArray[np.float32] | None:
        image = reader.cut(window.grow(coarse_stage.HALO))
        if image is None:
            return None
        scores = coarse_stage.coarse_scores(coarse, seen_by(job, "coarse", image), job.device)
        results = []
        for name in due:
            final = scores
            if name == "refine":
                shown = seen_by(job, "refiner", image)
                final = refine_stage.refined_scores(network_of(job, "refiner"), scores, shown, job.device)
            results.append(coarse_stage.probabilities(final, window.height))
        return np.concatenate(results)

    flat, _ = networks.run_windows(forward, tile, shape[0] * 3, networks.to_scores)
    answers = flat.reshape(shape)
    rows = []
    for name, scores in zip(due, answers, strict=True):
        store.write(store.open_array(job.work / SCENE, values_of(name)), tile.core, scores)
        rows.append(row(name, key, "ok", digest_of(scores.tobytes())))
    return rows


def mask(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Mask and touching-border scores of a tile."""
    level, halo = job.levels["mask"], job.halos["mask"]
    tile = job.grid(level, halo).at(key)
    reader = Reader(job, level, tile)
    if reader.image is None:
        return [row(stage, key, "nodata")]
    network = network_of(job, "mask")

    def forward(window: Window) -> NDArray[np.float32] | None:
        image = reader.cut(window.grow(halo))
        if image is None:
            return None
        return mask_stage.mask_scores(network, seen_by(job, "mask", image), window.height, job.device)

    scores, _ = networks.run_windows(forward, tile, 2, networks.to_scores)
    # Nodata holds no building, whatever a network makes of black pixels.
    core = reader.valid[tile.core.slices(reader.window)]
    scores[:, ~core] = 0
    store.write(store.open_array(job.work / SCENE, values_of("mask")), tile.core, scores)
    return [row(stage, key, "ok", digest_of(scores.tobytes()))]
