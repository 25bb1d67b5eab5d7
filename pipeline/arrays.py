"""The arrays that tiles write into, made by the driver before a phase starts: whole tiles are whole shards."""

from __future__ import annotations

from pipeline import scene, store
from pipeline.grid import WINDOW, level_shape
from pipeline.job import SCENE, Job, values_of
from pipeline.stages import roads
from pipeline.stages.align import CELL
from pipeline.stages.search import Search
from pipeline.worker.align import NODE
from pipeline.worker.scene import working_of

CLASSES = 3


def create_arrays(job: Job, phase: str) -> None:
    """Make the arrays of a phase's stages under `work/scene.zarr`; those that are there must be alike."""
    root = job.work / SCENE
    if phase == "ingest":
        scene.create_scene(root, working_of(job))
    elif phase.endswith("-field"):
        name = phase.removesuffix("-field")
        factor = next(step.factor for step in job.align_line if step.name == name)
        height, width = level_shape(level_shape(job.shape, factor), CELL)
        chunk, shard = WINDOW // CELL, job.tile // CELL
        _create(job, name, (4, height, width), "float32", chunk, shard, factor * CELL)
    elif phase.endswith("-search"):
        search = next(step for step in job.align_line if step.source == phase)
        assert isinstance(search, Search)
        height, width = level_shape(job.shape, search.spacing)
        side = scene.BLOCK // search.spacing
        _create(job, search.name, (4, height, width), "float32", side, side, search.spacing)
    elif phase == roads.PHASE:
        _scores(job, phase, job.levels["roads"], 1)
    elif phase == "displacement":
        height, width = level_shape(job.shape, NODE)
        _create(job, phase, (3, height, width), "float32", WINDOW, scene.BLOCK // NODE, NODE)
    elif phase == "classify":
        for name in ("classify", "refine"):
            if name in job.stages:
                _scores(job, name, job.levels["classify"], CLASSES)
    elif phase == "mask":
        _scores(job, "mask", job.levels["mask"], 2)


def _scores(job: Job, name: str, level: float, channels: int) -> None:
    _create(job, name, (channels, *level_shape(job.shape, level)), "uint8", WINDOW, job.tile, level)


def _create(
    job: Job, stage: str, shape: tuple[int, int, int], dtype: str, chunk: int, shard: int, level: float
) -> None:
    """A stage's array in a group of its own, with the coordinates of pixels `level` px of level 1 wide."""
    root = job.work / SCENE
    bands = shape[0]
    store.create_array(
        root,
        values_of(stage),
        shape,
        dtype,
        (bands, chunk, chunk),
        (bands, shard, shard),
        attributes=scene.MAPPED,
        dimensions=("band", "y", "x"),
    )
    scene.georeference(root, stage, level)
