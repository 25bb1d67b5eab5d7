"""Buildings found on the evaluation areas, scored from what a run writes: F1 as SpaceNet counts, and what the touching
channel gains over plain connected components.

    python -m benchmarks.instances --data DIR --out DIR [--models DIR] [--card NAME] [--gsd M] [--json FILE]

Each scene goes through `resurvey run --stages split`; its `buildings.parquet` is judged as `resurvey evaluate
instances` judges, inside the area that no recipe trains on. The second row of a scene takes the stored scores of that
very run and leaves the second channel out. `--gsd` resamples the scenes first, for a card of coarser images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SCENES = ("banepa_np", "zanzibar_tz_b", "catanduanes_ph_b", "vegas_us")
"""Scenes with true instances; the part of each that is held out is `training.areas.split`'s."""

COLUMNS = ("truths", "predictions", "precision", "recall", "f1", "mean_iou", "f1_50_95", "pq", "split", "merged")


def area_of(scene: Any, transform: Any) -> Any:
    """The scene's evaluation area as one shapely geometry in the image's CRS."""
    import rasterio.features
    import shapely

    from training.areas import split

    mask = split(scene)[1]
    shapes = rasterio.features.shapes(mask.astype(np.uint8), mask, transform=transform)
    return shapely.union_all([shapely.geometry.shape(shape) for shape, _ in shapes])


def resampled(image: Path, gsd: float, folder: Path) -> Path:
    """The image at `gsd` metres by area averaging, as a GeoTIFF in `folder`; the image itself without a GSD."""
    if not gsd:
        return image
    import rasterio
    from rasterio.enums import Resampling

    folder.mkdir(parents=True, exist_ok=True)
    with rasterio.open(image) as source:
        scale = source.transform.a / gsd
        shape = round(source.height * scale), round(source.width * scale)
        pixels = source.read(out_shape=(source.count, *shape), resampling=Resampling.average)
        seen = source.dataset_mask(out_shape=shape)
        place = source.transform * source.transform.scale(source.width / shape[1], source.height / shape[0])
        profile = {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": source.count, "dtype": "uint8"}
        with rasterio.open(folder / image.name, "w", **profile, crs=source.crs, transform=place) as made:
            made.write(pixels)
            made.write_mask(seen)
    return folder / image.name


def plain_components(run: Path, area: Any) -> Any:
    """What the run's scores say without the touching channel: a frame of polygons about `area`."""
    import geopandas
    import shapely

    from pipeline import buildings
    from pipeline.grid import Window, level_shape
    from pipeline.job import read_job
    from pipeline.stages.split import split_components
    from pipeline.worker.split import read_scores

    job = read_job(str(run))
    level = job.levels["mask"]
    pixel = job.transform[0] * level
    x0, y0, x1, y1 = area.bounds
    left, top = int((x0 - job.transform[2]) / pixel) - 64, int((job.transform[5] - y1) / pixel) - 64
    height, width = (int(side / pixel) + 128 for side in (y1 - y0, x1 - x0))
    shape = level_shape(job.shape, level)
    window = Window(top, left, height, width).clip(shape)
    scores, valid = read_scores(job, window)
    mask = np.ascontiguousarray(np.where(valid, scores[0], 0).astype(np.uint8))
    part = split_components(mask, np.zeros_like(mask), valid, window, shape[1])
    table = buildings.combine([part], job.gsd, job.min_area_m2, level, job.min_score)
    place = (job.transform[2], job.transform[5]), (job.transform[0], job.transform[4])
    buffer, starts = buildings.to_wkb(table, *place)
    shapes = [bytes(buffer[a:b]) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    return geopandas.GeoDataFrame({"score": table.score}, geometry=shapely.from_wkb(shapes), crs=job.crs)


def measure(data: Path, out: Path, options: Sequence[str], gsd: float = 0.0) -> list[dict[str, Any]]:
    """Two rows a scene, with and without the touching channel: figures as `resurvey evaluate instances` has them."""
    import geopandas
    import rasterio

    from flows.evaluate_instances import figures, judge
    from training.chips import load_scenes

    rows = []
    for scene in load_scenes(data, SCENES):
        image = resampled(data / scene.name / f"{scene.name}.tif", gsd, out / "images")
        run = out / scene.name
        command = [sys.executable, "-m", "flows.cli", "run", str(image), "--stages", "split", "--out", str(run)]
        subprocess.run([*command, "--direct", "--workers", "2", *options], check=True)
        with rasterio.open(data / scene.name / f"{scene.name}.tif") as source:
            area = area_of(scene, source.transform)
        truth = geopandas.read_parquet(data / scene.name / f"{scene.name}_buildings.parquet")
        found = {"touching": geopandas.read_parquet(run / "buildings.parquet"), "plain": plain_components(run, area)}
        for channel, frame in found.items():
            rows.append({"scene": scene.name, "borders": channel, **figures([judge(frame, truth, area)])})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown, the mean of the cities last."""
    means = []
    for channel in ("touching", "plain"):
        some = [row for row in rows if row["borders"] == channel]
        means.append({"scene": "mean", "borders": channel, **{n: np.mean([row[n] for row in some]) for n in COLUMNS}})
    lines = ["| scene | borders | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for row in [*rows, *means]:
        cells = [f"{row[n]:.3f}" if isinstance(row[n], float) else str(row[n]) for n in COLUMNS]
        lines.append(f"| {row['scene']} | {row['borders']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs; what is there is used again")
    parser.add_argument("--models", type=Path, help="cards other than the shipped")
    parser.add_argument("--card", help="the mask card to use, by name")
    parser.add_argument("--min-score", type=float, help="as the run's option")
    parser.add_argument("--outlines", help="as the run's option")
    parser.add_argument("--gsd", type=float, default=0.0, help="resample the scenes to this first, m")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    said = {"--models": given.models, "--card": given.card and f"mask={given.card}", "--outlines": given.outlines}
    said["--min-score"] = given.min_score
    extra = [str(word) for name, value in said.items() if value is not None for word in (name, value)]
    measured = measure(given.data, given.out, extra, given.gsd)
    print(table(measured))
    if given.json:
        given.json.write_text(json.dumps(measured, indent=1))
