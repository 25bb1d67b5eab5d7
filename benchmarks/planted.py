"""Made-up scores through the pipeline's own split and export tasks, tile by tile, each scene in a process of its own.

    python -m benchmarks.planted plant FOLDER --size 5000 --input city     # scores as the store has them; no network
    python -m benchmarks.planted run FOLDER                                # one line of JSON: seconds and memory

`benchmarks.scaling` and `benchmarks.bounds` call these two. `plant` lays out a run's folder over an empty image and
writes scores and valid pixels as ingest and the network do. `run` does every split task, the components that no
tile saw whole, and the export to `buildings.parquet`, one after the other in one process: what is not timed is the
start (imports, compiled kernels, one tile). Memory is RssAnon, sampled every 2 ms, beyond what stood after the start.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cities import HARD

TILE = 1024
BLOCK = 5 * TILE
"""Side of what is drawn at once, px: whole shards."""
LEAST = 0.8
"""Mean score under which a planted building is left out."""


def plant(folder: Path, size: int, kind: str, tile: int = TILE) -> None:
    """A run of `size` × `size` px at 0.3 m, in tiles of `tile` px, that has scores and nothing else."""
    import rasterio

    from pipeline import arrays, job, prepare, store
    from pipeline.grid import Window
    from pipeline.settings import load

    folder.mkdir(parents=True)
    image = folder / "image.tif"
    profile = {"driver": "GTiff", "height": size, "width": size, "count": 3, "dtype": "uint8", "crs": "EPSG:32645"}
    place = rasterio.Affine(0.3, 0, 340_000, 0, -0.3, 3_060_000)
    with rasterio.open(image, "w", **profile, transform=place, tiled=True, sparse_ok=True):
        pass
    said = load(image=str(image), out=folder / "out", stages=("split",), tile=tile, device="cpu")
    made = prepare.prepare(said)
    made = replace(made, levels={**made.levels, "mask": 1}, min_score=LEAST)  # whatever card ships
    Path(made.folder).mkdir()
    prepare.settle(made, said)
    for phase in ("ingest", "mask"):
        arrays.create_arrays(made, phase)
    valid = store.open_array(made.work / job.SCENE, "image/1/valid")
    for block in made.blocks():
        store.write(valid, block.core, np.ones((block.core.height, block.core.width), np.uint8))
    values = store.open_array(made.work / job.SCENE, job.values_of("mask"))
    for number, (y, x) in enumerate(np.ndindex(-(-size // BLOCK), -(-size // BLOCK))):
        window = Window(y * BLOCK, x * BLOCK, BLOCK, BLOCK).clip((size, size))
        drawn = HARD[kind](BLOCK, number)
        scores = np.stack([drawn.mask, drawn.touching])[:, : window.height, : window.width]
        store.write(values, window, np.ascontiguousarray(scores))


def rss_anon() -> int:
    """Bytes of anonymous memory that this process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("no RssAnon in /proc/self/status: memory is measured on Linux only")


@contextmanager
def watched(peak: list[int]) -> Iterator[None]:
    """Append to `peak` the most anonymous memory held within."""
    done = threading.Event()
    seen = [rss_anon()]

    def watch() -> None:
        while not done.wait(0.002):
            seen[0] = max(seen[0], rss_anon())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        peak.append(seen[0])


def run(folder: Path) -> dict[str, Any]:
    """Split and export a planted run; seconds (wall and CPU), buildings, their file's sha256, and peak bytes."""
    from pipeline import kernels
    from pipeline.job import read_job
    from pipeline.stages import split
    from pipeline.worker.entry import run_task
    from pipeline.worker.split import large_components

    out = str(folder / "out")
    job = read_job(out)

    def task(stage: str, key: str, payload: dict[str, Any]) -> dict[str, Any]:
        (row,) = run_task(out, stage, key, payload)
        assert row["status"] != "failed", row["reason"]
        return row

    kernels.warm()
    keys = [tile.key for tile in job.grid(1, split.HALO)]
    task("split", keys[0], {})
    task("export", "buildings", {"parts": [["split", keys[0]]]})
    before, peaks, seconds = rss_anon(), [], {}  # peaks: of splitting, then of the export
    clock = time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter(), time.process_time()
        seconds[name] = {"wall": now[0] - clock[0], "cpu": now[1] - clock[1]}
        clock = now

    with watched(peaks):
        rows = [task("split", key, {}) for key in keys]
        lap("split")
        large = large_components(job, [row["key"] for row in rows if row["extra"]["crossing"]])
        for component in large:
            box = component.box
            said = {"first": component.first, "box": [box.y0, box.x0, box.height, box.width]}
            said |= {"area": component.area, "windowed": component.windowed}
            rows.append(task("split-large", component.key, {"component": said}))
        lap("split-large")
    with watched(peaks):
        parts = [[row["stage"], row["key"]] for row in rows if row["status"] == "ok"]
        exported = task("export", "buildings", {"parts": parts})
        lap("export")
    seconds["all"] = {name: sum(each[name] for each in seconds.values()) for name in ("wall", "cpu")}
    return {
        "pixels": job.shape[0] * job.shape[1],
        "buildings": exported["extra"]["rows"],
        "large": len(large),
        "sha256": hashlib.sha256((Path(out) / "buildings.parquet").read_bytes()).hexdigest(),
        "seconds": seconds,
        "peak_bytes": max(peaks),
        "grown_bytes": max(peaks) - before,
        "grown_bytes_split": peaks[0] - before,
        "grown_bytes_export": peaks[1] - before,
    }


def measured(folder: Path, size: int, kind: str, tile: int = TILE) -> dict[str, Any]:
    """Plant and run a scene, each in a process of its own; `folder` must not exist."""
    module = [sys.executable, "-m", "benchmarks.planted"]
    said = ["--size", str(size), "--input", kind, "--tile", str(tile)]
    subprocess.run([*module, "plant", str(folder), *said], check=True)
    done = subprocess.run([*module, "run", str(folder)], check=True, stdout=subprocess.PIPE, text=True)
    return {"input": kind, "side": size, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("plant", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=5000)
    parser.add_argument("--input", choices=HARD, default="city")
    parser.add_argument("--tile", type=int, default=TILE)
    options = parser.parse_args()
    if options.what == "plant":
        plant(options.folder, options.size, options.input, options.tile)
    else:
        print(json.dumps(run(options.folder)))


if __name__ == "__main__":
    main()
