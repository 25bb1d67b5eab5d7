"""Label a large mask in tiles and join across the seams, against dask_image, in one process.

    python -m benchmarks.seams [--size 10000] [--tiles 4] [--input city|dense|speckle|all] [--rounds 5]
                               [--clock wall|cpu] [--patience 3] [--json FILE] [--docs docs/kernels.md]

Both give the whole scene's labels, 8-connected; that they are the same partition as SciPy's is asserted
before anything is timed. dask_image runs on one thread and on all; without it SciPy's whole labelling is the only
peer. Only the wall's seconds are fair to threads.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.cities import INPUTS
from benchmarks.peers import EIGHT
from benchmarks.timing import Contest, Peer, arguments, finish
from pipeline.faces import face_record
from pipeline.grid import TileGrid
from pipeline.kernels import components
from pipeline.seams import unite

try:
    import dask
    import dask.array
    import dask_image.ndmeasure as dask_image
except ImportError:  # an extra peer: its cells are left out
    dask_image = None


def label_tiled(mask: np.ndarray, core: int) -> tuple[np.ndarray, int]:
    """Labels of the whole mask (h, w) int32 by tiles; numbers are in no particular order, 1 to count."""
    grid = TileGrid(mask.shape, core, 0)
    out, room = np.empty(mask.shape, np.int32), np.empty(core * core, np.int32)
    records, counts = [], []
    for tile in grid:
        memory = room[: tile.core.area].reshape(tile.core.height, tile.core.width)
        labels, count = components.label(np.ascontiguousarray(mask[tile.core.slices()]), out=memory)
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
        components.renumber(out, table, *tile.core.slices())
    return out, total


def same_partition(one: np.ndarray, other: np.ndarray, count: int) -> bool:
    """Whether two label arrays name the same sets of pixels; `count` is of each."""
    if not np.array_equal(one > 0, other > 0):
        return False
    first = np.zeros(count + 1, np.int64)
    first[one.reshape(-1)] = other.reshape(-1)
    return np.unique(first).size == count + 1 and bool(np.array_equal(first[one], other))


def seam_rows(contest: Contest, mask: np.ndarray, tiles: int) -> int:
    """Time labelling and joining of `tiles` × `tiles` tiles; how many components there are."""
    core = -(-mask.shape[0] // tiles)
    found, count = label_tiled(mask, core)
    truth, expected = ndimage.label(mask, EIGHT)
    assert count == expected
    assert same_partition(found, truth, count), "labels differ from SciPy's"
    contestants = {"scipy, untiled": Peer(lambda: ndimage.label(mask, EIGHT))}
    if dask_image is not None:

        def peer(**options: Any) -> Any:
            labels, number = dask_image.label(dask.array.from_array(mask, chunks=core), EIGHT)
            return dask.compute(labels, number, **options)

        labels, number = peer(scheduler="threads")
        assert number == count
        assert same_partition(labels, found, count), "dask_image differs"
        contestants["dask_image"] = Peer(lambda: peer(scheduler="synchronous"), target=40)
        contestants["dask_image, all threads"] = Peer(lambda: peer(scheduler="threads"))
        del labels
    del found, truth
    contest.row(f"label {tiles**2} tiles, join seams", lambda: label_tiled(mask, core), contestants, "SciPy, untiled")
    return count


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=4, help="along each axis")
    options: Any = arguments(parser, INPUTS, 10_000)
    rows, scenes = [], {}
    for name in options.inputs:
        mask = INPUTS[name](options.size, 0).mask > 127
        contest = Contest(name, options.rounds, options.clock, options.patience)
        count = seam_rows(contest, mask, options.tiles)
        scenes[name] = f"{name}, {mask.shape[0]}²: {mask.mean():.0%} cover, {count} components"
        rows += contest.rows
    finish(rows, options, "seams", scenes)


if __name__ == "__main__":
    main()
