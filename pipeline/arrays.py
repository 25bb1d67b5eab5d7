"""The arrays that tiles write into, made by the driver before a phase starts: whole tiles are whole shards."""

from __future__ import annotations

from pipeline import scene, store
from pipeline.grid import WINDOW, level_shape
from pipeline.job import BLOCK, SCENE, Job
from pipeline.stages.align import CELL
from pipeline.worker_align import NODE
from pipeline.worker_scene import working_of

CLASSES = 3


def create_arrays(job: Job, phase: str) -> None:
    """Make the arrays of a phase's stages under `work/scene.zarr`; those that are there must be alike."""
    root = job.work / SCENE
    if phase == "ingest":
        scene.create_scene(root, working_of(job))
    elif phase.endswith("-field"):
        name = phase.removesuffix("-field")
        factor = next(step.factor for step in job.align_steps if step.name == name)
        height, width = level_shape(level_shape(job.shape, factor), CELL)
        chunk, shard = WINDOW // CELL, job.tile // CELL
        store.create_array(root, name, (4, height, width), "float32", (4, chunk, chunk), (4, shard, shard))
    elif phase == "displacement":
        height, width = level_shape(job.shape, NODE)
        shard = BLOCK // NODE
        store.create_array(
            root, phase, (3, height, width), "float32", (3, WINDOW, WINDOW), (3, shard, shard)
        )
    elif phase == "classify":
        for name in ("classify", "refine"):
            if name in job.stages:
                _scores(job, name, job.levels["classify"], CLASSES)
    elif phase == "mask":
        _scores(job, "mask", job.levels["mask"], 2)


def _scores(job: Job, name: str, level: int, channels: int) -> None:
    shape = (channels, *level_shape(job.shape, level))
    chunks, shards = (channels, WINDOW, WINDOW), (channels, job.tile, job.tile)
    store.create_array(job.work / SCENE, name, shape, "uint8", chunks, shards)
