"""The whole tail, from scores in memory to GeoParquet on disk, against the usual stack: same rows first.

    python -m benchmarks.tail [--size 2500|5000|10000] [--input city|dense|speckle|all] [--rounds 5]
                              [--clock wall|cpu] [--patience 60] [--json FILE] [--docs docs/kernels.md]

Ours is what the split stage and the export do: instances, their sums, outlines, one table, Hilbert-sorted
GeoParquet with a bbox covering. The usual stack is SciPy's labels, scikit-image's watershed, rasterio's shapes,
shapely and geopandas. The rows that it gives with a watershed of the same tie rule are asserted to be ours: ids,
areas, mean scores, boundary scores, nodata flags and geometries. It is timed with scikit-image's watershed.

    as traced            the usual stack gives id, area, score and geometry; ours always has all columns
    all columns          NumPy adds boundary score and nodata flag
    simplified           ours with shared walls; the usual with shapely's coverage simplifier (another result)
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import pandas
import pyarrow as pa
import shapely

from benchmarks import peers
from benchmarks.cities import INPUTS, Scene
from benchmarks.timing import Contest, Peer, arguments, finish
from pipeline import kernels
from pipeline.buildings import combine, to_wkb
from pipeline.export.vectors import default_row_group, wkb_array, write_geoparquet
from pipeline.grid import Window
from pipeline.stages.split import MIN_PIXELS, TOLERANCE, split_components

CRS = "EPSG:32645"
GSD, ORIGIN = 0.3, (340_000.0, 3_060_000.0)
COMPRESSION = 3
"""Level of zstd, as the export's."""

COLUMNS = ("building_id", "score", "area_m2", "boundary_score", "touches_nodata")
Flood = Callable[[Scene], np.ndarray]


def ours(scene: Scene, valid: np.ndarray, out: np.ndarray, path: Path, tolerance: float = TOLERANCE) -> int:
    """Scores to GeoParquet with the pipeline's own steps, labels in `out`; how many rows."""
    height, width = scene.mask.shape
    window = Window(0, 0, height, width)
    part = split_components(scene.mask, scene.touching, valid, window, width, tolerance, out=out)
    table = combine([part], GSD, 0.0, 1)
    buffer, offsets = to_wkb(table, ORIGIN, (GSD, -GSD))
    columns = {name: pa.array(getattr(table, name)) for name in COLUMNS}
    return write_geoparquet(path, pa.table({**columns, "geometry": wkb_array(buffer, offsets)}), CRS, sort="hilbert")


def usual(
    scene: Scene, path: Path, flood: Flood = peers.split_skimage, tolerance: float = 0.0, everything: bool = False
) -> int:
    """The same with SciPy, scikit-image, rasterio, shapely and geopandas; how many rows."""
    labels = flood(scene).astype(np.int32)
    area = np.bincount(labels.reshape(-1))
    score = np.bincount(labels.reshape(-1), scene.mask.reshape(-1))
    extra = evidence(labels, scene) if everything else {}
    large = area >= MIN_PIXELS
    large[0] = False
    labels = np.where(large[labels], labels, 0).astype(np.int32)
    shapes, values = zip(*peers.trace_gdal(labels), strict=True)
    pieces = geopandas.GeoSeries([shapely.geometry.shape(shape) for shape in shapes])
    if tolerance > 0:
        pieces = pieces.simplify_coverage(tolerance)
    world = pieces.affine_transform([GSD, 0, 0, -GSD, *ORIGIN])
    frame = geopandas.GeoDataFrame({"label": np.array(values, np.int64)}, geometry=world.values, crs=CRS)
    several = frame["label"].duplicated(keep=False)
    if several.any():
        joined = frame[several].groupby("label").geometry.agg(lambda some: shapely.MultiPolygon(list(some)))
        joined = geopandas.GeoDataFrame(joined.reset_index(), geometry="geometry", crs=CRS)
        frame = geopandas.GeoDataFrame(pandas.concat([frame[~several], joined], ignore_index=True), crs=CRS)
    index = frame["label"].to_numpy()
    first = np.full(area.size, labels.size)
    flat = np.flatnonzero(labels)
    first[labels.reshape(-1)[flat[::-1]]] = flat[::-1]
    frame["building_id"], frame["score"] = first[index], score[index] / (255.0 * area[index])
    frame["area_m2"] = frame.geometry.area
    for name, column in extra.items():
        frame[name] = column[index]
    frame = frame.drop(columns="label").iloc[np.argsort(frame.hilbert_distance().to_numpy())]
    level = {"compression_level": COMPRESSION, "row_group_size": default_row_group(len(frame))}
    frame.to_parquet(path, compression="zstd", write_covering_bbox=True, schema_version="1.1.0", **level)
    return len(frame)


def evidence(labels: np.ndarray, scene: Scene) -> dict[str, np.ndarray]:
    """Boundary score and nodata flag (the scene's edge) of each label, as `kernels.instances.measure` defines them."""
    count = int(labels.max()) + 1
    total, edges = np.zeros(count), np.zeros(count, np.int64)
    mask, touching = scene.mask.astype(np.int32), scene.touching
    for one, other in (
        (np.s_[:-1], np.s_[1:]), (np.s_[1:], np.s_[:-1]), (np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:, 1:], np.s_[:, :-1]),
    ):  # fmt: skip
        rows, columns = np.nonzero((labels[one] != labels[other]) & (labels[one] != 0))
        here, there = (array[rows, columns] for array in (labels[one], labels[other]))
        wall = np.maximum(touching[one][rows, columns], touching[other][rows, columns])
        step = mask[one][rows, columns] - mask[other][rows, columns]
        total += np.bincount(here, np.where(there != 0, wall, step), count)
        edges += np.bincount(here, minlength=count)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    touches = np.zeros(count, np.bool_)
    touches[rim] = True
    return {"boundary_score": total / (255.0 * np.maximum(edges, 1)), "touches_nodata": touches}


def flooded(scene: Scene) -> np.ndarray:
    """The reference's instances."""
    _, labels = peers.seeds(scene)
    peers.heap_flood(scene.mask, scene.touching, labels, 127)
    return labels


def check(scene: Scene, folder: Path) -> int:
    """Both files hold the same rows; how many."""
    shape = scene.mask.shape
    ours(scene, np.ones(shape, np.bool_), np.empty(shape, np.int32), folder / "ours.parquet", 0.0)
    usual(scene, folder / "usual.parquet", flooded, everything=True)
    one, other = (
        geopandas.read_parquet(folder / f"{name}.parquet").sort_values("building_id", ignore_index=True)
        for name in ("ours", "usual")
    )
    assert len(one) == len(other)
    for name in ("building_id", "touches_nodata"):
        assert np.array_equal(one[name], other[name]), name
    for name in ("score", "area_m2", "boundary_score"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-7, err_msg=name)
    assert one.crs == other.crs
    shapes = (shapely.normalize(frame.geometry.values) for frame in (one, other))
    assert shapely.equals_exact(*shapes, tolerance=1e-6).all()
    return len(one)


def tail_rows(contest: Contest, scene: Scene, folder: Path) -> int:
    """Time the tail on one scene; how many rows it gives."""
    count = check(scene, folder)
    one, other = folder / "ours.parquet", folder / "usual.parquet"
    valid, out = np.ones(scene.mask.shape, np.bool_), np.empty(scene.mask.shape, np.int32)
    contest.row("scores → GeoParquet, as traced", lambda: ours(scene, valid, out, one, 0.0), {
        "usual stack": Peer(lambda: usual(scene, other), target=25),
        "usual stack, all columns": Peer(lambda: usual(scene, other, everything=True)),
    }, "same rows")  # fmt: skip
    contest.row("scores → GeoParquet, simplified", lambda: ours(scene, valid, out, one), {
        "usual stack": Peer(lambda: usual(scene, other, tolerance=TOLERANCE), other=True, target=25),
    }, "same rows but for the simplifier")  # fmt: skip
    return count


def main() -> None:
    """Print the table."""
    options: Any = arguments(argparse.ArgumentParser(description=__doc__), INPUTS)
    cv2.setNumThreads(1)
    kernels.warm()
    rows, scenes = [], {}
    for name in options.inputs:
        scene = INPUTS[name](options.size, 0)
        contest = Contest(name, options.rounds, options.clock, options.patience)
        with tempfile.TemporaryDirectory() as folder:
            count = tail_rows(contest, scene, Path(folder))
        side, cover = scene.mask.shape[0], np.mean(scene.mask > 127)
        scenes[name] = f"{name}, {side}²: {cover:.0%} cover, {count} buildings of {MIN_PIXELS} px or more"
        rows += contest.rows
    finish(rows, options, f"tail {options.size}", scenes)


if __name__ == "__main__":
    main()
