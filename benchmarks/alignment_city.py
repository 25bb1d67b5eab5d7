"""The alignment on a whole procedural city: is every row still there, every wall still shared, every vertex nearer?

    python -m benchmarks.alignment_city --out DIR [--polygons 100000] [--aligner search] [--workers 2] [--runs NAME ...]

Draws a city of at least so many rows (terraces wall to wall, courtyards, multipolygons, some rows 3-D and a few
broken) in strips, moves its cadaster off by a published field (Zampieri et al. 2018) and aligns it with
`resurvey run --stages align`, in a process of its own. Runs: `displaced`; `again`, whose cadaster is what `displaced`
gave; `true`, whose cadaster is right. Each result is held against its input and the truth.

Prints JSON: figures of every run, and under `wrong` what does not hold; exit status 1 if anything stands there.
The city is drawn once and kept in DIR; what a run wrote there is replaced.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.city import Plan, plan_city
from training.city_draw import BLOCK, _block, _look  # block by block: `draw` would hold the whole image
from training.deform import misalign

Floats = NDArray[np.float64]

GSD, LARGEST, SEED = 0.5, 32.0, 2018
"""Metres a px; the field's largest displacement by component, px; the city's seed and the field's."""
CRS, CORNER = "EPSG:32645", (500_000.0, 3_000_000.0)
PER_MPX = 640
"""Rows on a million px, about; where it is too few a larger city is planned."""
MULTI, HIGH, BROKEN = 0.02, 0.04, 0.0005
"""Shares of rows: two houses in one row; 3-D; and of each kind that is broken (a twisted ring, empty, null)."""
RUNS = ("displaced", "again", "true")
AGAIN, TRUE = 0.3, 0.5
"""Most px that half of the rows may move when they were aligned already, and when they were right."""


@dataclass(frozen=True, slots=True)
class Files:
    """A city on disk; rows of `cadaster` and `truth` correspond, vertex by vertex. `shape` (height, width) px."""

    image: Path
    cadaster: Path
    truth: Path
    shape: tuple[int, int]


def make_city(folder: Path, polygons: int) -> Files:
    """The city of at least `polygons` rows in `folder`, drawn unless it is there already."""
    side = -(-int(1000 * (polygons / PER_MPX) ** 0.5) // 256) * 256 or 256
    mark, wanted = folder / "city.json", {"polygons": polygons, "gsd": GSD, "largest": LARGEST, "seed": SEED}
    found = json.loads(mark.read_text()) if mark.exists() else {}
    files = Files(folder / "image.tif", folder / "displaced.parquet", folder / "truth.parquet", (0, 0))
    if {name: found.get(name) for name in wanted} == wanted:
        return Files(files.image, files.cadaster, files.truth, tuple(found["shape"]))
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        plan = plan_city((side, side), GSD, SEED, density=0.9)
        shapes, kinds, heights = rows_of(plan)
        if len(shapes) >= polygons:
            break
        side += 256
    draw_image(plan, files.image)
    write_rows(shapes, kinds, heights, files)
    mark.write_text(json.dumps(wanted | {"shape": plan.shape, "rows": len(shapes)}), encoding="utf-8")
    return Files(files.image, files.cadaster, files.truth, plan.shape)


def draw_image(plan: Plan, path: Path) -> None:
    """Write the plan's image (3, h, w) uint8 a strip of blocks at a time."""
    import rasterio
    from rasterio.windows import Window

    height, width = plan.shape
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8", "crs": CRS,
        "transform": rasterio.Affine(plan.gsd, 0, CORNER[0], 0, -plan.gsd, CORNER[1]),
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1,
    }  # fmt: skip
    look = _look(plan)
    with rasterio.open(path, "w", **profile) as out:
        for y in range(0, height, BLOCK):
            strip = np.concatenate([_block(plan, look, y, x) for x in range(0, width, BLOCK)], axis=1)
            strip = strip[: height - y, :width].transpose(2, 0, 1)
            out.write(strip, window=Window(0, y, width, strip.shape[1]))


def rows_of(plan: Plan) -> tuple[NDArray[Any], NDArray[Any], Floats]:
    """Rows of the true cadaster in an order of their own: 2-D shapely geometries in px, what each is, and its height
    in metres, NaN where it has none."""
    import shapely

    rng = np.random.default_rng([plan.seed, 11])
    ring = np.repeat(np.arange(len(plan.ring_offsets) - 1), np.diff(plan.ring_offsets))
    owner = np.repeat(np.arange(len(plan.polygon_offsets) - 1), np.diff(plan.polygon_offsets))
    shapes = shapely.polygons(shapely.linearrings(plan.coords, indices=ring), indices=owner)
    kinds = np.where(shapely.get_num_interior_rings(shapes) > 0, "hole", "polygon").astype(object)

    first = np.flatnonzero(rng.random(len(shapes) // 2) < 2 * MULTI) * 2  # each with the next, which it swallows
    first = first[first < len(shapes) - 1]
    first = first[shapely.distance(shapes[first], shapes[first + 1]) > 0.5]
    first = first[shapely.distance(shapes[first], shapes[first + 1]) < 100]
    shapes[first] = [shapely.multipolygons([a, b]) for a, b in zip(shapes[first], shapes[first + 1], strict=True)]
    kinds[first] = "multi"
    shapes, kinds = np.delete(shapes, first + 1), np.delete(kinds, first + 1)

    draw = rng.random(len(shapes))
    for at in np.flatnonzero(draw < 3 * BROKEN).tolist():
        kind = ("twisted", "empty", "null")[int(draw[at] / BROKEN)]
        xy = shapely.get_coordinates(shapes[at])[:5]
        xy[[1, 2]], xy[-1] = xy[[2, 1]], xy[0]
        broken = {"twisted": shapely.Polygon(xy), "empty": shapely.Polygon(), "null": None}[kind]
        if kind != "twisted" or not broken.is_valid:  # some outlines can take the twist
            shapes[at], kinds[at] = broken, kind
    high = (draw > 1 - HIGH) & ~shapely.is_missing(shapes)
    heights = np.where(high, rng.uniform(1300, 1400, len(shapes)).round(2), np.nan)
    kinds[high] = kinds[high] + "-z"
    order = rng.permutation(len(shapes))
    return shapes[order], kinds[order], heights[order]


def write_rows(shapes: NDArray[Any], kinds: NDArray[Any], heights: Floats, files: Files) -> None:
    """Write the truth and the displaced cadaster."""
    import geopandas
    import shapely

    px = shapely.get_coordinates(shapes)
    value = np.random.default_rng(SEED).uniform(0, 1e6, len(shapes)).round(2)
    value[::17] = np.nan
    columns = {"cadaster_id": np.arange(len(shapes)) + 1000, "kind": kinds, "value": value}
    high = np.isfinite(heights)
    for path, xy in ((files.truth, px), (files.cadaster, misalign(px, LARGEST, np.random.default_rng(SEED)))):
        placed = shapely.set_coordinates(shapes.copy(), xy * (GSD, -GSD) + CORNER)
        placed[high] = shapely.force_3d(placed[high], heights[high])
        frame = geopandas.GeoDataFrame(columns, geometry=placed, crs=CRS)
        frame.to_parquet(path, compression="zstd", schema_version="1.1.0")


def align(files: Files, cadaster: Path, out: Path, aligner: str, workers: int) -> dict[str, Any]:
    """Run the alignment in a process of its own; its figures, with `wall_s`. SystemExit where it ended badly."""
    command = [
        sys.executable, "-m", "flows.cli", "run", str(files.image), "--cadaster", str(cadaster), "--out", str(out),
        "--stages", "align", "--aligner", aligner, "--workers", str(workers), "--direct", "--json", "--force-new",
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1], check=False)
    wall = time.perf_counter() - began
    if done.returncode not in (0, 3):
        raise SystemExit(f"{out}: the run ended with exit status {done.returncode}")
    answer = json.loads(done.stdout)
    return {"exit_status": answer["exit_status"], "wall_s": round(wall, 1), **answer["figures"]}


def compare(before: Path, after: Path, truth: Path, shape: tuple[int, int]) -> dict[str, Any]:
    """What a run did to its cadaster: counts of what must not happen, and errors and shifts in px."""
    import geopandas
    import shapely

    was, now, true = (geopandas.read_parquet(path).reset_index(drop=True) for path in (before, after, truth))
    own = [name for name in was.columns if name != "geometry"]
    # an input that is a product has columns of the product's names: they come back as input_NAME
    back = [f"input_{name}" if f"input_{name}" in now.columns else name for name in own]
    found: dict[str, Any] = {"rows_in": len(was), "rows_out": len(now)}
    found["rows_in_order"] = len(was) == len(now) and bool(
        all((was[a].isna() & now[b].isna() | (was[a] == now[b])).all() for a, b in zip(own, back, strict=True))
    )
    old, new, right = (np.asarray(frame.geometry.values) for frame in (was, now, true))
    a, b, c = (shapely.get_coordinates(shapes, include_z=True, return_index=True) for shapes in (old, new, right))
    bare = [shapely.to_wkb(shapely.transform(shapes, np.zeros_like)) for shapes in (old, new)]
    same = len(a[0]) == len(b[0]) and bool((bare[0] == bare[1]).all())
    found["structure_kept"] = same and np.array_equal(a[0][:, 2], b[0][:, 2], equal_nan=True)
    if not (same and found["rows_in_order"] and len(c[0]) == len(a[0])):
        return found

    _, first, point, count = np.unique(a[0][:, :2], axis=0, return_index=True, return_inverse=True, return_counts=True)
    point = point.ravel()
    apart = (b[0][:, :2] != b[0][first[point], :2]).any(axis=1)
    group_row = np.full(len(first), -1)
    group_row[point] = a[1]
    crossing = np.unique(point[group_row[point] != a[1]])
    found |= {"shared_points": int((count > 1).sum()), "shared_by_rows": len(crossing)}
    found["shared_points_parted"] = len(np.unique(point[apart]))
    fine = shapely.is_valid(old)
    found |= {"valid_before": int(fine.sum()), "broken": int((fine & ~shapely.is_valid(new)).sum())}
    found["status"] = {str(name): int(n) for name, n in now["status"].value_counts().items()}

    scale = np.array([1 / GSD, -1 / GSD])
    was_px, now_px, true_px = ((part[0][:, :2] - CORNER) * scale for part in (a, b, c))
    seen = ((true_px > 0) & (true_px < shape[::-1])).all(axis=1) & (fine & shapely.is_valid(right))[a[1]]
    moved = seen & (now["status"] == "moved").to_numpy()[a[1]]
    shift = np.hypot(*(now_px - was_px).T)
    found["vertices_seen"], found["vertices_moved"] = int(seen.sum()), int(moved.sum())
    for name, xy, of in (("before", was_px, seen), ("after", now_px, seen), ("after_of_moved", now_px, moved)):
        error = np.hypot(*(xy - true_px)[of].T)
        found[f"error_{name}_px"] = _spread(error) | {"within_2": _share(error <= 2)}
    return found | {"shift_px": _spread(shift[seen]), "shift_of_moved_px": _spread(shift[moved])}


def _spread(values: Floats) -> dict[str, float]:
    if not len(values):
        return {}
    steps = {"median": np.median(values), "mean": values.mean(), "p95": np.quantile(values, 0.95), "max": values.max()}
    return {name: round(float(value), 3) for name, value in steps.items()}


def _share(values: NDArray[np.bool_]) -> float:
    return round(float(values.mean()), 4) if len(values) else 0.0


def wrong_with(name: str, run: dict[str, Any]) -> list[str]:
    """What does not hold of a run, a line each: nothing may be lost, parted, broken or folded (DESIGN 2.5)."""
    told = {
        "finished, but some tasks failed": run.get("exit_status", 0) != 0,
        "rows are lost, doubled or in another order": not run["rows_in_order"],
        "a geometry has other parts, vertices or heights": not run["structure_kept"],
        "shared points have parted": run.get("shared_points_parted") != 0,
        "valid geometries have broken": run.get("broken") != 0,
        "the field is folded": run.get("alignment", {}).get("folded_cells", 0) != 0,
    }
    limit = {"again": AGAIN, "true": TRUE}.get(name)
    if limit is not None and (shift := run.get("shift_px", {}).get("median", np.inf)) >= limit:
        told[f"half of the vertices move {shift} px or more; {limit} allowed"] = True
    if name == "displaced":
        told["vertices are no nearer than before"] = not (
            run.get("error_after_px", {}).get("median", np.inf) < run.get("error_before_px", {}).get("median", 0)
        )
    return [f"{name}: {line}" for line, holds in told.items() if holds]


def main(given: Sequence[str] | None = None) -> int:
    """Draw, run, compare, print; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--polygons", type=int, default=100_000)
    parser.add_argument("--aligner", default="search", choices=("search", "network", "both"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", nargs="+", default=RUNS, choices=RUNS)
    options = parser.parse_args(given)
    folder: Path = options.out
    began = time.perf_counter()
    files = make_city(folder / "city", options.polygons)
    figures: dict[str, Any] = {"shape": files.shape, "drawn_s": round(time.perf_counter() - began, 1), "wrong": []}
    inputs = {
        "displaced": files.cadaster,
        "again": folder / "displaced" / "cadaster_aligned.parquet",
        "true": files.truth,
    }
    for name in (name for name in RUNS if name in options.runs):
        if not inputs[name].exists():
            raise SystemExit(f"{inputs[name]}: not there; run with --runs displaced first")
        run = align(files, inputs[name], folder / name, options.aligner, options.workers)
        run |= compare(inputs[name], folder / name / "cadaster_aligned.parquet", files.truth, files.shape)
        figures[name] = run
        figures["wrong"] += wrong_with(name, run)
        (folder / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")  # a run takes long
    print(json.dumps(figures, indent=1))
    return 1 if figures["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
