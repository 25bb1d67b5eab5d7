"""Targets as a file: building mask and touching borders of a vector layer, on the grid of an image.

    python -m training.targets --buildings FILE --like IMAGE.tif --out TARGETS.tif [--near PX]

Band 1 is the mask, band 2 the touching borders, both uint8 0/1 (`training.targets` has the recipe). Every row of the
layer is one building; several parts are one building, too. Memory does not grow with the image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, ResurveyError, SettingsError
from pipeline.ragged import offsets_of, ranges
from training.targets import label_image, mask_and_touching
from training.vectors import read_vectors

WINDOW = 2048
"""Side of what is computed at once, px."""

Ragged = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


def write_targets(buildings: Path, like: str | Path, out: Path, near: int = 3) -> dict[str, int]:
    """Write the two targets of `buildings` (any vector layer or GeoParquet) on the grid of the raster `like` to `out`.

    Returns how many buildings meet the raster, and how many pixels each band sets. Raises InputError, SettingsError.
    """
    import rasterio

    if near < 1:
        raise SettingsError(f"--near {near}: must be 1 or more, px")
    try:
        with rasterio.open(like) as image:
            shape, transform, crs = image.shape, image.transform, image.crs
    except rasterio.RasterioIOError as error:
        raise InputError(f"{like}: cannot be read as an image ({str(error).splitlines()[0]})") from None
    if crs is None:
        raise InputError(f"{like}: has no CRS; write it again with one")
    polygons = _in_pixels(_read(buildings, crs), ~transform)
    counts = {"buildings": 0, "mask": 0, "touching": 0}
    profile = {
        "driver": "GTiff", "width": shape[1], "height": shape[0], "count": 2, "dtype": "uint8", "crs": crs,
        "transform": transform, "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate",
        "bigtiff": "if_safer",
    }  # fmt: skip
    part = out.with_name(out.name + ".part")
    try:
        with rasterio.open(part, "w", **profile) as target:
            target.descriptions = ("building", "touching")
            for window, bands in _windows(polygons, shape, near):
                (y, x), size = window, bands.shape[1:]
                target.write(bands, window=rasterio.windows.Window(x, y, size[1], size[0]))
                counts["mask"] += int(bands[0].sum())
                counts["touching"] += int(bands[1].sum())
        part.replace(out)
    except (OSError, rasterio.RasterioIOError) as error:
        part.unlink(missing_ok=True)
        raise SettingsError(f"--out {out}: cannot be written ({str(error).splitlines()[0]})") from None
    low, high = _bounds(polygons)
    counts["buildings"] = int(((high > 0) & (low < shape[::-1])).all(axis=1).sum())
    return counts


def _windows(
    polygons: Ragged, shape: tuple[int, int], near: int
) -> Iterator[tuple[tuple[int, int], NDArray[np.uint8]]]:
    """Each window's top left pixel (y, x) and its two bands: from what lies in it and around it, as if from all."""
    halo = 2 * near + 8
    low, high = _bounds(polygons)
    for y in range(0, shape[0], WINDOW):
        for x in range(0, shape[1], WINDOW):
            top, left = max(y - halo, 0), max(x - halo, 0)
            bottom, right = min(y + WINDOW + halo, shape[0]), min(x + WINDOW + halo, shape[1])
            some = ((high > (left, top)) & (low < (right, bottom))).all(axis=1)
            coords, rings, owners = _take(polygons, np.flatnonzero(some))
            labels = label_image(coords - (left, top), rings, owners, (bottom - top, right - left))
            inner = (slice(y - top, y - top + WINDOW), slice(x - left, x - left + WINDOW))
            both = mask_and_touching(labels, near)[:, *inner]
            yield (y, x), both[:, : shape[0] - y, : shape[1] - x]


def _read(path: Path, crs: Any) -> NDArray[Any]:
    """Polygonal geometries of a layer in `crs`, repaired; rows without area left out."""
    import shapely

    frame = read_vectors(path)
    shapes = shapely.force_2d(np.asarray(frame.geometry.to_crs(crs).array))
    shapes = shapes[~shapely.is_missing(shapes)]
    if not np.isfinite(shapely.get_coordinates(shapes)).all():
        raise InputError(f"{path}: has coordinates that are not finite in {crs}; repair or remove those rows")
    bad = ~shapely.is_valid(shapes)
    shapes[bad] = shapely.make_valid(shapes[bad], method="structure", keep_collapsed=False)
    return shapes[shapely.area(shapes) > 0]


def _in_pixels(shapes: NDArray[Any], inverse: Any) -> Ragged:
    """Rings of all parts of each shape, in px: every row one polygon of several shells."""
    import shapely

    parts, row = shapely.get_parts(shapes, return_index=True)
    polygonal = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    rings, part = shapely.get_rings(parts[polygonal], return_index=True)
    owners = offsets_of(np.bincount(row[polygonal][part], minlength=len(shapes)))
    world = shapely.get_coordinates(rings)
    x = inverse.a * world[:, 0] + inverse.b * world[:, 1] + inverse.c
    y = inverse.d * world[:, 0] + inverse.e * world[:, 1] + inverse.f
    return np.stack([x, y], axis=1), offsets_of(shapely.get_num_coordinates(rings)), owners


def _bounds(polygons: Ragged) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest (x, y) of each polygon, (n, 2) each; every polygon has a vertex."""
    coords, rings, owners = polygons
    if len(owners) == 1:
        return np.zeros((0, 2)), np.zeros((0, 2))
    starts = rings[owners[:-1]]
    return np.minimum.reduceat(coords, starts), np.maximum.reduceat(coords, starts)


def _take(polygons: Ragged, rows: NDArray[np.int64]) -> Ragged:
    """Some of the polygons, in their order."""
    coords, rings, owners = polygons
    chosen = ranges(owners[rows], owners[rows + 1])
    vertices = ranges(rings[chosen], rings[chosen + 1])
    return coords[vertices], offsets_of(np.diff(rings)[chosen]), offsets_of(np.diff(owners)[rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.targets", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--buildings", type=Path, required=True, metavar="FILE", help="polygons, one building a row")
    parser.add_argument("--like", required=True, metavar="IMAGE", help="raster whose grid the targets get")
    parser.add_argument("--out", type=Path, required=True, metavar="TARGETS.tif")
    parser.add_argument("--near", type=int, default=3, metavar="PX", help="how close is touching; 3")
    given = parser.parse_args(arguments)
    try:
        found = write_targets(given.buildings, given.like, given.out, given.near)
    except ResurveyError as error:
        sys.stderr.write(f"training.targets: {' '.join(str(error).split())}\n")
        return 1
    sys.stdout.write(f"{given.out}: {found['buildings']} buildings; {found['mask']} px of mask, "
                     f"{found['touching']} px of touching borders\n")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
