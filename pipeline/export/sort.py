"""Rows along a Hilbert curve, so that what lies close together is read together.

More rows than fit a bucket are sorted outside memory: spilled, dealt into buckets and sorted one at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.export.wkb import boxes_in

if TYPE_CHECKING:
    import pyarrow as pa

BUCKET = 8_192
"""Rows sorted in memory at once, of which there are three copies then."""
BUCKETS = 256
"""Buckets at most, each an open file; of more rows they become larger."""
SPILLED = "rows.arrow"


def hilbert(xy: np.ndarray, bounds: Sequence[float], order: int = 16) -> np.ndarray:
    """Position (n,) uint64 of points (n, 2) on a Hilbert curve of 2^order cells a side over `bounds`.

    `bounds`: xmin, ymin, xmax, ymax; points outside are clamped to it; NaN comes last.
    """
    side = (1 << order) - 1
    span = np.maximum([bounds[2] - bounds[0], bounds[3] - bounds[1]], 1e-300)
    with np.errstate(invalid="ignore"):
        cells = np.clip((xy - [bounds[0], bounds[1]]) / span * side, 0, side)
    x, y = np.nan_to_num(cells).astype(np.uint64).T
    key = np.zeros(len(xy), np.uint64)
    for bit in range(order - 1, -1, -1):
        step = np.uint64(1 << bit)
        rx, ry = (x & step) > 0, (y & step) > 0
        key += step * step * ((np.uint64(3) * rx) ^ ry).astype(np.uint64)
        flip = ~ry & rx
        x, y = np.where(flip, side - x, x), np.where(flip, side - y, y)
        x, y = np.where(ry, x, y), np.where(ry, y, x)
    key[~np.isfinite(xy).all(axis=1)] = np.iinfo(np.uint64).max
    return key


def hilbert_sorted(parts: Iterable[pa.Table], beside: Path, stack: ExitStack) -> tuple[Iterator[pa.Table], int]:
    """The rows along a Hilbert curve over their box centres (ties in input order), and how many there are.

    Up to a bucket of rows stays in memory. More goes to files in a folder in `beside`, which goes when `stack` is
    closed, in two passes: the first learns the curve, the second deals rows into buckets, sorted one at a time.
    """
    import pyarrow as pa

    boxes, count = [np.zeros((0, 4))], 0
    held: list[pa.Table] = []
    schema = folder = None
    with ExitStack() as files:
        for part in parts:
            schema, count = part.schema, count + part.num_rows
            boxes.append(boxes_in(part))
            held.append(part)
            if count > BUCKET:
                if folder is None:
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".sort-", dir=beside)))
                    writer = files.enter_context(pa.ipc.new_stream(str(folder / SPILLED), schema))
                for table in held:
                    writer.write_table(table)
                held = []
                pa.default_memory_pool().release_unused()  # it keeps several batches' worth otherwise
    if schema is None:
        return iter(()), 0
    box = np.concatenate(boxes)
    del boxes
    seen = box[~np.isnan(box).any(axis=1)]
    total = (*seen[:, :2].min(axis=0), *seen[:, 2:].max(axis=0)) if len(seen) else (0.0, 0.0, 1.0, 1.0)
    order = np.argsort(hilbert((box[:, :2] + box[:, 2:]) / 2, total), kind="stable")
    if folder is None:
        return iter([pa.concat_tables(held).combine_chunks().take(pa.array(order))]), count
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    return _deal(schema, rank, folder), count


def _deal(schema: pa.Schema, rank: np.ndarray, folder: Path) -> Iterator[pa.Table]:
    import pyarrow as pa

    size = max(BUCKET, -(-len(rank) // BUCKETS))
    buckets = range(-(-len(rank) // size))
    ranks: list[list[np.ndarray]] = [[] for _ in buckets]
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_stream(str(folder / f"{b}.arrow"), schema)) for b in buckets]
        start = 0
        for batch in stack.enter_context(pa.ipc.open_stream(str(folder / SPILLED))):
            mine = rank[start : start + batch.num_rows]
            start += batch.num_rows
            for b in np.unique(mine // size):
                rows = np.flatnonzero(mine // size == b)
                writers[b].write_batch(batch.take(pa.array(rows)))
                ranks[b].append(mine[rows])
    (folder / SPILLED).unlink()
    for b in buckets:
        with pa.ipc.open_stream(str(folder / f"{b}.arrow")) as stream:
            table = stream.read_all().combine_chunks()
        yield table.take(pa.array(np.argsort(np.concatenate(ranks[b]))))
        (folder / f"{b}.arrow").unlink()
        pa.default_memory_pool().release_unused()
