"""What each group of touching rows is moved by beyond the field, from what its rows' own outlines say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline import footprints
from pipeline.job import CADASTER, Job
from pipeline.ragged import Ints
from pipeline.stages.gate import Gate
from pipeline.stages.seat import Seating
from pipeline.worker.placed import Points, load_table, ratings_path, vertices


def seating_of(job: Job, moved: Callable[[str], Points | None], groups: Ints) -> Seating:
    """What is known of the seats of `groups` (rows,), the group of each row.

    `moved(key)` gives a block's vertices after the gate, None where that failed, NaN where a vertex did.
    """
    gate = job.align_line[-1]
    assert isinstance(gate, Gate)
    folder, seating = job.work / CADASTER, Seating(groups)
    for key in footprints.block_keys(folder):
        block, now = footprints.read_block(folder, key), moved(key)
        if now is None:
            continue
        counts = np.diff(block.row_vertices).astype(np.float64)
        before = block.row_means(vertices(job, gate, key) - block.xy)
        after = block.row_means(now - block.xy)
        known = np.flatnonzero(np.isfinite(after).all(axis=1))
        moves = np.column_stack([counts, before * counts[:, None], after * counts[:, None]])
        seating.add(block.rows[known], load_table(ratings_path(job, key))[known], moves[known])
    return seating
