"""Where polygons are on their way: each block's vertices after each step of the alignment, as files of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import footprints
from pipeline.errors import StoreError
from pipeline.footprints_block import FootprintBlock
from pipeline.grid import Window
from pipeline.job import CADASTER, AlignStep, Job
from pipeline.ledger import digest_of
from pipeline.ragged import offsets_of
from pipeline.stages import common
from pipeline.stages.search import Outlines

Points = NDArray[np.float64]


def box_of(xy: Points) -> tuple[float, float, float, float]:
    """Bounding box x0, y0, x1, y1 of points."""
    (x0, y0), (x1, y1) = xy.min(axis=0), xy.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def vertices(job: Job, step: AlignStep, key: str) -> Points:
    """A block's vertices (n, 2), px of level 1, before `step`; before the first, moved by the common shift."""
    position = job.align_line.index(step)
    if position == 0:
        return footprints.read_block(job.work / CADASTER, key).xy + read_common(job)
    return read_moved(job, job.align_line[position - 1], key)[:, :2]


def read_common(job: Job) -> Points:
    """The common shift of the whole cadaster (2,), px of level 1."""
    return load_table(common_path(job))


def common_path(job: Job) -> Path:
    """Where the common shift is kept."""
    return job.work / CADASTER / common.PHASE / "shift.npy"


def moved_path(job: Job, step: AlignStep, key: str) -> Path:
    """Where a block's vertices lie after `step`."""
    return job.work / CADASTER / step.name / f"{key}.npy"


def verdicts_path(job: Job, key: str) -> Path:
    """Where the verdicts of a block's footprints on their moves are kept."""
    return job.work / CADASTER / "align-gate" / f"{key}.verdicts.npy"


def ratings_path(job: Job, key: str) -> Path:
    """Where the ratings of a block's rows for shifts of their own are kept: (rows, s, s) float32."""
    return job.work / CADASTER / "align-gate" / f"{key}.ratings.npy"


def read_moved(job: Job, step: AlignStep, key: str) -> Points:
    """A block's vertices after `step` (n, 3): x, y, and what the step says of how sure it is there."""
    return load_table(moved_path(job, step, key))


def load_table(path: Path) -> Points:
    """A table of floats. StoreError where it is not there or cannot be read."""
    try:
        table: Points = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run again") from None
    return table


def save_table(path: Path, table: NDArray[np.floating]) -> str:
    """Write a table whole or not at all; returns its digest."""
    footprints.save(path, table)
    return digest_of(np.ascontiguousarray(table).tobytes())


def outlines_within(block: FootprintBlock, xy: Points, region: Window) -> Outlines:
    """Outlines (coords, ring_offsets) of the block's rings and lines whose box meets a region of level 1."""
    coords, ring_offsets, _ = block.outlines(xy)
    if len(ring_offsets) < 2:
        return coords, ring_offsets
    low = np.minimum.reduceat(coords, ring_offsets[:-1])
    high = np.maximum.reduceat(coords, ring_offsets[:-1])
    hit = (low <= (region.x1, region.y1)).all(axis=1) & (high >= (region.x0, region.y0)).all(axis=1)
    counts = np.diff(ring_offsets)
    return coords[np.repeat(hit, counts)], offsets_of(counts[hit])
