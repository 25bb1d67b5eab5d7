"""How long the alignment takes: `resurvey run --stages align` on one scene, by aligner and by phase.

    python -m benchmarks.alignment_time [--image IMAGE --cadaster POLYGONS] [--side 5000] [--aligner search both ...]
                                        [--workers 2] [--rounds 1] [--work DIR]

The scene is a square of `--side` px: cut from the middle of a larger image, or a smaller one mirrored until it is
large enough, its polygons too; the demo city unless another is given. Every run is a process of its own with a
new folder. One run on the middle of the scene comes first for each aligner: it compiles the kernels and brings
libraries and weights into memory, and is not counted.

Prints JSON: of each aligner the fastest round's seconds in all (`wall_s`, from start to exit), of the run itself
(`run_s`) and of its phases, the seconds its workers were busy, and the most memory of one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from catalogs.demo import demo_city

ALIGNERS = ("search", "network", "both")
WARM = 768
"""Side of the middle that the first run surveys, px."""
Files = tuple[Path, Path]


def make_scene(image: Path, cadaster: Path, side: int, folder: Path) -> Files:
    """A scene of `side` × `side` px, cut or mirrored, as `image.tif` and `cadaster.parquet` in `folder`."""
    import rasterio
    from rasterio.windows import Window

    folder.mkdir(parents=True, exist_ok=True)
    with rasterio.open(image) as source:
        width, height = min(side, source.width), min(side, source.height)
        x0, y0 = (source.width - width) // 2, (source.height - height) // 2
        window = Window(x0, y0, width, height)
        pixels, known = source.read(window=window), source.dataset_mask(window=window)
        place = source.window_transform(window)
        profile = {
            "driver": "GTiff", "height": side, "width": side, "count": source.count, "dtype": source.dtypes[0],
            "crs": source.crs, "transform": place, "nodata": source.nodata,
            "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1,
        }  # fmt: skip
        crs = source.crs
    more = ((0, side - height), (0, side - width))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(folder / "image.tif", "w", **profile) as out:
        out.write(np.pad(pixels, ((0, 0), *more), mode="symmetric"))
        if not known.all() and profile["nodata"] is None:
            out.write_mask(np.pad(known, more, mode="symmetric"))
    rows = mirrored(cadaster, crs, place, (height, width), side)
    rows.to_parquet(folder / "cadaster.parquet", schema_version="1.1.0")
    return folder / "image.tif", folder / "cadaster.parquet"


def mirrored(cadaster: Path, crs: Any, place: Any, shape: tuple[int, int], side: int) -> Any:
    """Rows of `cadaster` that meet the first `shape` px, and those mirrored with the pixels beyond: a GeoDataFrame.

    Of a mirrored image only rows wholly inside are kept: others would lie over themselves.
    """
    import geopandas
    import pandas
    import shapely

    rows = geopandas.read_parquet(cadaster) if cadaster.suffix == ".parquet" else geopandas.read_file(cadaster)
    rows = rows.to_crs(crs)
    px = shapely.transform(np.asarray(rows.geometry.values), lambda xy: np.column_stack(~place * tuple(xy.T)))
    low, high = shapely.bounds(px)[:, :2], shapely.bounds(px)[:, 2:]
    (height, width), extent = shape, np.array(shape[::-1])
    meets = ((low < extent) & (high > 0)).all(axis=1)  # not so for rows without a geometry, whose bounds are NaN
    whole = ((low >= 0) & (high <= extent)).all(axis=1)
    parts = []
    for j in range(-(-side // height)):
        for i in range(-(-side // width)):
            turn = np.array([-1 if i % 2 else 1, -1 if j % 2 else 1])
            shift = np.array([i + i % 2, j + j % 2]) * extent
            laid = shapely.transform(px, lambda xy, turn=turn, shift=shift: xy * turn + shift)
            seen = (whole if i or j else meets) & (shapely.bounds(laid)[:, :2] < side).all(axis=1)
            world = shapely.transform(laid[seen], lambda xy: np.column_stack(place * tuple(xy.T)))
            parts.append(rows[seen].set_geometry(world, crs=crs))
    return pandas.concat(parts, ignore_index=True)


def survey(scene: Files, out: Path, aligner: str, workers: int) -> dict[str, Any]:
    """One run in a process of its own; its seconds. SystemExit where it did not end well."""
    command = [
        sys.executable, "-m", "flows.cli", "run", str(scene[0]), "--cadaster", str(scene[1]), "--out", str(out),
        "--stages", "align", "--aligner", aligner, "--workers", str(workers), "--direct", "--json", "--force-new",
    ]  # fmt: skip
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a worker is one core, for every aligner
    began = time.perf_counter()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | one_thread, cwd=Path(__file__).parents[1]
    )
    wall = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{out}: the run ended with exit status {done.returncode}")
    figures = json.loads(done.stdout)["figures"]
    return {
        "wall_s": round(wall, 1),
        "run_s": figures["seconds"],
        "phases_s": figures["phase_seconds"],
        "workers_s": figures["worker_seconds"],
        "peak_worker_mb": figures["peak_worker_mb"],
        "status": figures["status"],
    }


def main(given: Sequence[str] | None = None) -> None:
    """Make the scene, warm up, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--cadaster", type=Path)
    parser.add_argument("--side", type=int, default=5000, help="px")
    parser.add_argument("--aligner", nargs="+", default=["search", "both"], choices=ALIGNERS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--work", type=Path, metavar="DIR", help="where scene and runs stay; nowhere if not given")
    options = parser.parse_args(given)
    if (options.image is None) != (options.cadaster is None):
        parser.error("--image and --cadaster go together: give both, or neither for the demo city")
    if options.rounds < 1 or options.side < WARM:
        parser.error(f"--rounds must be at least 1 and --side at least {WARM}")
    city = demo_city()
    with tempfile.TemporaryDirectory() as passing:
        folder: Path = options.work or Path(passing)
        scene = make_scene(options.image or city.image, options.cadaster or city.cadaster, options.side, folder)
        middle = make_scene(*scene, WARM, folder / "middle")
        found = {}
        for aligner in options.aligner:
            survey(middle, folder / "warm", aligner, options.workers)
            runs = [survey(scene, folder / aligner, aligner, options.workers) for _ in range(options.rounds)]
            found[aligner] = min(runs, key=lambda run: run["wall_s"])
    rows = sum(next(iter(found.values()))["status"].values())
    print(json.dumps({"side_px": options.side, "rows": rows, "workers": options.workers, "aligners": found}, indent=1))


if __name__ == "__main__":
    main()
