"""Drawn towns of many bands in 11 bits, where one extra band alone tells roof from ground.

Two towns that know nothing of each other are planned for the same ground: the true one, and a decoy with its own
streets and houses. RGB and every extra band but one show the decoy; band `tells` shows the true town. So nothing in
RGB, nor in the other bands, says where the true buildings are, and a network that goes by what looks like a roof
finds the wrong ones.

    python -m training.city_bands --out DIR --bands 8 --seed 900     # image.tif and buildings.parquet

Values are as WorldView's: integers of 11 bits in uint16, every band with an offset and a gain of its own, a few
glints at 2047.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.city import Plan, city, plan_city
from training.targets import label_image

TOP = 2047
"""Largest value of 11 bits."""

TELLS = 6
"""The band, from 0, that shows the true town: a near-infrared one of WorldView's eight."""

DENSITY = 0.3
"""Of both towns: some terraces, most houses by themselves."""

DECOY = 1_000_003
"""What is added to a town's seed for its decoy's."""

CORNER, CRS = (353000.0, 3058000.0), "EPSG:32645"


@dataclass(frozen=True, slots=True)
class BandTown:
    """A town of many bands.

    image    (bands, h, w) uint16, 1..2047
    labels   (h, w) int32, true building + 1, 0 = ground
    plan     the true town
    """

    image: NDArray[np.uint16]
    labels: NDArray[np.int32]
    plan: Plan


def band_town(shape: tuple[int, int], gsd: float, seed: int, bands: int, tells: int | None = TELLS) -> BandTown:
    """A town of `shape` (height, width) px at `gsd` metres; of three bands or with `tells` None, no band shows it.

    The same seed gives the same true town and the same RGB whatever `bands` is.
    """
    plan = plan_city(shape, gsd, seed, DENSITY)
    labels = label_image(plan.coords, plan.ring_offsets, plan.polygon_offsets, shape)
    decoy = city(shape, gsd, seed + DECOY, DENSITY).image.astype(np.float32) / 255
    image = np.empty((bands, *shape), np.uint16)
    for band in range(bands):
        rng = np.random.default_rng([seed, 11, band])
        if band == tells and band >= 3:
            light = _roofs(labels, rng)
        elif band < 3:
            light = decoy[band]
        else:
            light = np.tensordot(rng.dirichlet(np.ones(3)).astype(np.float32), decoy, 1)
        image[band] = _counts(light, rng)
    return BandTown(image, labels, plan)


def _roofs(labels: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The true town, (h, w) float32 in 0..1: ground dark and uneven, a brightness a roof, party walls in the dark."""
    import cv2

    level = np.concatenate([[0.0], rng.uniform(0.45, 0.95, int(labels.max()))]).astype(np.float32)
    coarse = rng.normal(0.22, 0.07, (labels.shape[0] // 24 + 2, labels.shape[1] // 24 + 2)).astype(np.float32)
    ground = cv2.resize(coarse, labels.shape[::-1], interpolation=cv2.INTER_CUBIC)
    light = np.where(labels > 0, level[labels], ground)
    wall = np.zeros(labels.shape, bool)
    for here, there in (((slice(1, None),), (slice(-1),)), ((slice(None), slice(1, None)), (slice(None), slice(-1)))):
        apart = (labels[here] != labels[there]) & (labels[here] > 0) & (labels[there] > 0)
        wall[here] |= apart
        wall[there] |= apart
    light[wall] *= 0.25
    return np.asarray(cv2.GaussianBlur(light, (0, 0), 0.7), np.float32)


def _counts(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint16]:
    """Light in 0..1 as counts of 11 bits: a band's offset and gain, noise that grows with the signal, glints."""
    offset, gain = rng.uniform(120, 320), rng.uniform(500, 1100)
    counts = offset + gain * light
    counts += rng.normal(0, 1, light.shape) * (6 + 0.6 * np.sqrt(counts.clip(0)))
    counts[rng.random(light.shape) < 2e-5] = TOP
    return np.clip(np.rint(counts), 1, TOP).astype(np.uint16)


def write_town(town: BandTown, folder: Path) -> tuple[Path, Path]:
    """Write `image.tif` (uint16) and `buildings.parquet`, the true outlines, under `folder`: their paths."""
    import geopandas
    import rasterio
    import shapely

    folder.mkdir(parents=True, exist_ok=True)
    gsd, (bands, height, width) = town.plan.gsd, town.image.shape
    image, truth = folder / "image.tif", folder / "buildings.parquet"
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": "uint16", "crs": CRS,
        "transform": rasterio.Affine(gsd, 0, CORNER[0], 0, -gsd, CORNER[1]), "compress": "deflate", "tiled": True,
        "blockxsize": 256, "blockysize": 256, "photometric": "MINISBLACK",
    }  # fmt: skip
    with rasterio.open(image, "w", **profile) as out:
        out.write(town.image)
    rings = shapely.linearrings(
        town.plan.coords * (gsd, -gsd) + CORNER,
        indices=np.repeat(np.arange(len(town.plan.ring_offsets) - 1), np.diff(town.plan.ring_offsets)),
    )
    owner = np.repeat(np.arange(len(town.plan.polygon_offsets) - 1), np.diff(town.plan.polygon_offsets))
    shapes = geopandas.GeoSeries(shapely.polygons(rings, indices=owner), crs=CRS)
    inside = shapes.clip(shapely.box(CORNER[0], CORNER[1] - height * gsd, CORNER[0] + width * gsd, CORNER[1]))
    inside = inside[inside.area >= 4.0].sort_index()
    geopandas.GeoDataFrame({"id": inside.index}, geometry=inside.values, crs=CRS).to_parquet(truth)
    return image, truth


def main() -> None:
    """Draw one town of many bands into a folder."""
    parser = argparse.ArgumentParser(prog="training.city_bands", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--bands", type=int, default=8)
    parser.add_argument("--seed", type=int, default=900)
    parser.add_argument("--side", type=int, default=1024, metavar="PX")
    parser.add_argument("--gsd", type=float, default=0.3, metavar="M")
    given = parser.parse_args()
    write_town(band_town((given.side, given.side), given.gsd, given.seed, given.bands), given.out)


if __name__ == "__main__":
    main()
