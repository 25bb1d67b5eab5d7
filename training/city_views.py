"""One town seen from two sides: roofs lean away from the satellite, and the side that faces it shows.

A true ortho places the ground where it is. All that stands above it is displaced by height × parallax (see
`pipeline.heights`): the roof as a whole, and between it and the base the walls. What stands nearer to the
satellite hides what is behind. Ground, colours, shadows and trees are the same
in both views, the sensor's noise is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.city import Plan, plan_city, ring_slices
from training.city_draw import GREENS, GROUNDS, ROADS, ROOFS

Floats = NDArray[np.float64]

CORNER = (500_000.0, 3_000_000.0)
"""West and north of the town, EPSG:32645."""
CRS = "EPSG:32645"
FINE = 2
"""How many times as fine as the image the town is drawn, before it is averaged."""
SHIFT = 4
"""Fractional bits of cv2's coordinates."""


@dataclass(frozen=True, slots=True)
class Town:
    """A town whose heights are known.

    plan      polygons, px; `rings` of each polygon, shell first, px
    heights   (polygons,) metres; `error` (polygons, 2) metres east and north, by which the cadaster must move
    """

    plan: Plan
    rings: list[list[Floats]]
    heights: Floats
    error: Floats


def town(side: int, gsd: float, seed: int, kind: str, density: float = 0.4) -> Town:
    """A town of `side` px. `kind` of heights: `smooth` (3 to 40 m, over some 900 m), `random` (each building its
    own, 3 to 40 m) or `houses` (those of the plan, 4 to 18 m). The cadaster is off by 1 to 3 m, smoothly."""
    plan = plan_city((side, side), gsd, seed, density)
    rng = np.random.default_rng([seed, 7])
    slices = ring_slices(plan.ring_offsets)
    rings = [[plan.coords[r] for r in slices[p]] for p in ring_slices(plan.polygon_offsets)]
    centre = np.array([each[0][:-1].mean(0) for each in rings]) * gsd
    phase = rng.uniform(0, 2 * np.pi, 4)
    if kind == "smooth":
        wave = np.sin(centre[:, 0] / 150 + phase[0]) * np.cos(centre[:, 1] / 170 + phase[1])
        heights = 21.5 + 18.5 * wave
    elif kind == "random":
        heights = rng.uniform(3, 40, len(rings))
    else:
        heights = plan.heights.copy()
    error = np.column_stack([1.5 + np.sin(centre[:, 1] / 90 + phase[2]), -1.0 + np.cos(centre[:, 0] / 90 + phase[3])])
    return Town(plan, rings, heights, error)


def draw_view(town: Town, parallax: Floats, seed: int) -> NDArray[np.uint8]:
    """The town (3, h, w) uint8 from one side; `parallax` (2,): metres east and north a metre of height leans."""
    plan, rng = town.plan, np.random.default_rng([town.plan.seed, 8])
    height, width = plan.shape
    canvas = np.empty((height * FINE, width * FINE, 3), np.uint8)
    lean = np.array([parallax[0], -parallax[1]]) / plan.gsd  # px, y down
    sun = np.array([0.5, -0.35]) / plan.gsd
    count = len(town.rings)

    def fill(shape: Floats | list[Floats], colour: Any) -> None:
        points = [np.round((FINE * s - 0.5) * (1 << SHIFT)).astype(np.int32) for s in _listed(shape)]
        cv2.fillPoly(canvas, points, tuple(float(c) for c in np.clip(colour, 0, 255)), cv2.LINE_8, SHIFT)

    canvas[:] = ROADS[rng.integers(len(ROADS))]
    for block in plan.blocks:
        fill(block, GROUNDS[rng.integers(len(GROUNDS))] + rng.normal(0, 8, 3))
    roofs = ROOFS[rng.integers(0, len(ROOFS), count)] + rng.normal(0, 8, (count, 3))
    trees = rng.uniform(0, (width, height), (height * width // 4000, 2))
    sizes, greens = rng.uniform(1, 3.5, len(trees)) / plan.gsd, GREENS[rng.integers(0, len(GREENS), len(trees))]
    for ring, tall in zip(town.rings, town.heights, strict=True):
        for share in np.linspace(0.1, 1, 10):
            fill(ring[0] + share * tall * sun, (52, 50, 48))
    for place, size, green in zip(trees, sizes, greens, strict=True):
        cv2.circle(canvas, tuple(int(v) for v in FINE * place), round(FINE * size), green.tolist(), -1)
    # The satellite stands where nothing leans to: what is farther from it is drawn first.
    away = np.array([ring[0].mean(0) @ lean for ring in town.rings])
    for i in np.argsort(-away, kind="stable"):
        rings, tall = town.rings[i], town.heights[i]
        for ring in rings:
            for a, b in zip(ring[:-1], ring[1:], strict=True):
                light = 0.55 + 0.25 * abs((b - a)[0]) / max(float(np.hypot(*(b - a))), 1e-9)
                fill(np.array([a, b, b + tall * lean, a + tall * lean]), roofs[i] * light)
        fill([ring + tall * lean for ring in rings], roofs[i])
        half = plan.halves[i]
        if not np.isnan(half[0, 0]):
            fill(half + tall * lean, roofs[i] * 1.15)
    canvas = cv2.GaussianBlur(canvas, (0, 0), FINE * 0.6)
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    small += np.random.default_rng([plan.seed, 9, seed]).normal(0, 5, small.shape)
    return np.ascontiguousarray(np.clip(small, 0, 255).astype(np.uint8).transpose(2, 0, 1))


def _listed(shape: Floats | list[Floats]) -> list[Floats]:
    return shape if isinstance(shape, list) else [shape]


def write_views(town: Town, parallaxes: tuple[Floats, Floats], folder: Path) -> tuple[Path, Path, Path]:
    """`a.tif`, `b.tif` and `cadaster.parquet` (columns `id`, `true_height_m`) under `folder`: their paths."""
    import geopandas
    import rasterio
    import shapely

    folder.mkdir(parents=True, exist_ok=True)
    (height, width), gsd = town.plan.shape, town.plan.gsd
    paths = (folder / "a.tif", folder / "b.tif")
    for number, (path, parallax) in enumerate(zip(paths, parallaxes, strict=True)):
        place = rasterio.Affine(gsd, 0, CORNER[0], 0, -gsd, CORNER[1])
        profile = {"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8", "crs": CRS,
                   "transform": place, "compress": "deflate"}  # fmt: skip
        with rasterio.open(path, "w", **profile) as out:
            out.write(draw_view(town, parallax, number))
    shapes = []
    for rings, error in zip(town.rings, town.error, strict=True):
        world = [ring * (gsd, -gsd) + CORNER - error for ring in rings]
        shapes.append(shapely.Polygon(world[0], world[1:]))
    columns = {"id": np.arange(len(shapes)), "true_height_m": town.heights}
    cadaster = folder / "cadaster.parquet"
    geopandas.GeoDataFrame(columns, geometry=shapes, crs=CRS).to_parquet(cadaster, schema_version="1.1.0")
    return (*paths, cadaster)


def main() -> None:
    """Draw a town from two sides: `python -m training.city_views --out DIR`; heights are in the cadaster."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--heights", choices=("smooth", "random", "houses"), default="houses")
    parser.add_argument("--view-a", default="150,68", metavar="AZ,EL")
    parser.add_argument("--view-b", default="330,72", metavar="AZ,EL")
    parser.add_argument("--side", type=int, default=1400, metavar="PX")
    parser.add_argument("--gsd", type=float, default=0.5, metavar="M")
    parser.add_argument("--seed", type=int, default=5)
    given = parser.parse_args()
    leans = []
    for text in (given.view_a, given.view_b):
        azimuth, elevation = np.radians([float(part) for part in text.split(",")])
        leans.append(-np.array([np.sin(azimuth), np.cos(azimuth)]) / np.tan(elevation))
    write_views(town(given.side, given.gsd, given.seed, given.heights), (leans[0], leans[1]), given.out)


if __name__ == "__main__":
    main()
