"""The pictures of docs/alignment.md: before, after, field, and the worst ten polygons of a demo run.

    resurvey demo --stages align --out DIR
    python -m benchmarks.alignment_pictures --run DIR --out docs/alignment

Red is the cadaster as it came, cyan as aligned, white (in the close-ups) the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from catalogs.demo import demo_city

BEFORE, AFTER, TRUTH = (54, 90, 255), (243, 227, 25), (255, 255, 255)
"""Colours in OpenCV's order, blue first."""
SIDE = 700
"""px of the picture of a part of the city."""

Picture = NDArray[np.uint8]


def outlines(picture: Picture, shapes: Sequence[Any], to_px: Any, colour: tuple[int, int, int], wide: int = 2) -> None:
    """Draw polygons' rings into a picture, in place; `to_px` maps world coordinates (n, 2) to its px."""
    for shape in shapes:
        for part in shapely.get_parts(shape):
            for ring in shapely.get_rings(part):
                xy = np.round(to_px(shapely.get_coordinates(ring)) * 16).astype(np.int32)
                cv2.polylines(picture, [xy.reshape(-1, 1, 2)], False, colour, wide, cv2.LINE_AA, shift=4)


def main(run: Path, out: Path, x0: int = 900, y0: int = 900) -> None:
    """Write before.jpg, after.jpg, field.jpg and worst.jpg into `out`."""
    city = demo_city()
    out.mkdir(parents=True, exist_ok=True)
    with rasterio.open(city.image) as source:
        image = cv2.cvtColor(np.moveaxis(source.read([1, 2, 3]), 0, -1), cv2.COLOR_RGB2BGR)
        inverse, crs = ~source.transform, source.crs
    with rasterio.open(run / "displacement.tif") as source:
        field = source.read()
        step = round(source.transform.a * inverse.a)

    def px(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([inverse.a * xy[:, 0] + inverse.c, inverse.e * xy[:, 1] + inverse.f])

    before = geopandas.read_parquet(city.cadaster).to_crs(crs)
    after = geopandas.read_parquet(run / "cadaster_aligned.parquet").to_crs(crs)
    truth = geopandas.read_parquet(city.truth).to_crs(crs).set_index(city.key).loc[before[city.key]]

    part = image[y0 : y0 + SIDE, x0 : x0 + SIDE]
    for name, frame, colour in (("before", before, BEFORE), ("after", after, AFTER)):
        picture = part.copy()
        outlines(picture, frame.geometry, lambda xy: px(xy) - (x0, y0), colour)
        save(out / f"{name}.jpg", picture)

    small = cv2.resize(image, None, fx=SIDE / image.shape[1], fy=SIDE / image.shape[1], interpolation=cv2.INTER_AREA)
    scale, every = SIDE / image.shape[1], 14
    picture = (small * 0.6).astype(np.uint8)
    for row in range(every // 2, field.shape[1], every):
        for column in range(every // 2, field.shape[2], every):
            dx, dy, sure = field[:, row, column]
            if sure > 0 and np.isfinite(dx):
                start = np.array([column + 0.5, row + 0.5]) * step * scale
                end = start + np.array([dx * inverse.a, dy * inverse.e]) * scale * 2
                colour = tuple(int(v) for v in np.clip(sure, 0, 1) * np.array(AFTER) + (1 - np.clip(sure, 0, 1)) * 60)
                ends = [tuple(int(v) for v in np.round(at)) for at in (start, end)]
                cv2.arrowedLine(picture, *ends, colour, 2, cv2.LINE_AA, tipLength=0.35)
    save(out / "field.jpg", picture)

    gaps = shapely.get_coordinates(after.geometry.array) - shapely.get_coordinates(truth.geometry.array)
    owner = np.repeat(np.arange(len(after)), shapely.get_num_coordinates(after.geometry.array))
    error = np.bincount(owner, weights=np.hypot(*gaps.T)) / np.bincount(owner) * inverse.a
    frame = shapely.box(0, 0, image.shape[1], image.shape[0])
    boxes = [shapely.box(*px(np.array(shape.bounds).reshape(2, 2)).ravel()) for shape in truth.geometry]
    inside = np.array([frame.contains(box) for box in boxes])
    tiles = []
    for row in np.argsort(np.where(inside, -error, 0), kind="stable")[:10]:
        centre = np.round(px(np.array([truth.geometry.iloc[row].centroid.coords[0]]))[0]).astype(int)
        low = np.clip(centre - 64, 0, np.array(image.shape[1::-1]) - 128)
        close = cv2.resize(image[low[1] : low[1] + 128, low[0] : low[0] + 128], None, fx=2, fy=2)
        for frame_, colour in ((truth, TRUTH), (before, BEFORE), (after, AFTER)):
            outlines(close, [frame_.geometry.iloc[row]], lambda xy, low=low: (px(xy) - low) * 2, colour)
        said = f"{error[row]:.1f} px, conf {after.confidence.iloc[row]:.2f}"
        cv2.rectangle(close, (0, 234), (256, 256), (30, 30, 30), -1)
        cv2.putText(close, said, (6, 248), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(close)
    save(out / "worst.jpg", np.vstack([np.hstack(tiles[:5]), np.hstack(tiles[5:])]))


def save(path: Path, picture: Picture) -> None:
    """Write a JPEG small enough for the docs."""
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 72])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    main(given.run, given.out)
