"""Label a large mask in tiles and join across the seams, against dask_image, in one process.

    python -m benchmarks.seams [--side 10000] [--tiles 4] [--rounds 3]

Both give the whole scene's labels, 8-connected; that they are the same partition as SciPy's is asserted
before anything is timed. dask_image is not a dependency: without it only the own figure is shown. It runs
on one thread and on all. Ratios count, not seconds: rounds alternate, the best of each is taken.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.faces import face_record
from pipeline.grid import TileGrid
from pipeline.kernels import components
from pipeline.seams import unite


def city(side: int, seed: int = 0) -> np.ndarray:
    """A mask (side, side) bool of houses on a jittered grid, some in terraces; about 18 % cover."""
    random = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.bool_)
    for y in range(10, side - 60, 79):
        for x in range(10, side - 70, 79):
            height, width = random.integers(20, 44, 2)
            top, left = y + random.integers(0, 20), x + random.integers(0, 20)
            mask[top : top + height, left : left + (79 if random.random() < 0.2 else width)] = True
    return mask


def label_tiled(mask: np.ndarray, core: int) -> tuple[np.ndarray, int]:
    """Labels of the whole mask (h, w) int32 by tiles; numbers are in no particular order, 1 to count."""
    grid = TileGrid(mask.shape, core, 0)
    out = np.empty(mask.shape, np.int32)
    records, counts = [], []
    for tile in grid:
        labels, count = components.label(np.ascontiguousarray(mask[tile.core.slices()]))
        out[tile.core.slices()] = labels
        records.append((tile, face_record(labels, count, tile.core, grid.shape)))
        counts.append(count)
    united = unite(records, grid)
    total = united.first.size
    for (tile, _), count in zip(records, counts, strict=True):
        labels, index = united.of.get((tile.row, tile.column), (np.zeros(0, np.int32), np.zeros(0, np.int64)))
        table = np.zeros(count + 1, np.int32)
        table[labels] = index + 1
        alone = np.flatnonzero(table[1:] == 0) + 1
        table[alone] = np.arange(total + 1, total + 1 + alone.size)
        total += alone.size
        block = out[tile.core.slices()]
        np.take(table, block, out=block)
    return out, total


def same_partition(one: np.ndarray, other: np.ndarray, count: int) -> bool:
    """Whether two label arrays name the same sets of pixels; `count` is of each."""
    if not np.array_equal(one > 0, other > 0):
        return False
    first = np.zeros(count + 1, np.int64)
    first[one.reshape(-1)] = other.reshape(-1)
    return np.unique(first).size == count + 1 and bool(np.array_equal(first[one], other))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--tiles", type=int, default=4, help="along each axis")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from scipy import ndimage

    mask = city(options.side)
    core = -(-options.side // options.tiles)
    eight = np.ones((3, 3))
    runs: dict[str, Callable[[], Any]] = {"resurvey": lambda: label_tiled(mask, core)}
    found, count = label_tiled(mask, core)
    truth, expected = ndimage.label(mask, eight)
    assert count == expected, (count, expected)
    assert same_partition(found, truth, count), "labels differ from SciPy's"
    try:
        import dask
        import dask.array as da
        from dask_image.ndmeasure import label
    except ImportError:
        print("dask_image is not installed: no peer to compare with")
    else:

        def peer(**options: Any) -> Any:
            labels, n = label(da.from_array(mask, chunks=core), eight)
            return dask.compute(labels, n, **options)

        labels, n = peer(scheduler="threads")
        assert n == count and same_partition(labels, found, count), "dask_image differs"
        runs["dask_image, 1 thread"] = lambda: peer(scheduler="synchronous")
        runs["dask_image, all threads"] = lambda: peer(scheduler="threads")
        del labels
    del found, truth
    best = dict.fromkeys(runs, np.inf)
    for _ in range(options.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    print(f"{options.side}² px, {options.tiles**2} tiles, {count} components, cover {mask.mean():.0%}")
    for name, seconds in best.items():
        print(f"{name:26s} {seconds * 1000:9.0f} ms {seconds / best['resurvey']:7.1f} ×")


if __name__ == "__main__":
    main()
