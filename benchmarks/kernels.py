"""Kernels against their peers: equality first, then interleaved timings, as ratios.

    python -m benchmarks.kernels [--size 2500] [--rounds 5] [--inputs city dense speckle] [--scaling 2500 5000]

Times are CPU seconds of this process (`--clock wall` for wall time), peers at one thread, the best of the
rounds; only the ratios mean anything on a shared machine. A peer marked ° gives another result: it is what
people use for the step. Rows where a kernel does not win are printed like the others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import rasterio.features
import shapely
import skimage.measure
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks.peers import (
    EIGHT,
    INPUTS,
    Scene,
    city,
    heap_flood,
    partition,
    seeds,
    split_cv2,
    split_skimage,
    trace_cv2,
    trace_gdal,
    usual_tail,
)
from pipeline import kernels
from pipeline.kernels import components, rasterise, sample, simplify, smooth, split, trace, wkb


class Table:
    """Runs contestants in turn and prints one line a kernel."""

    def __init__(self, rounds: int, clock: str) -> None:
        self.rounds = rounds
        self.clock = time.process_time if clock == "cpu" else time.perf_counter

    def row(self, name: str, ours: Callable[[], Any], **peers: Callable[[], Any]) -> None:
        """Time all of them round by round; print ours in ms and each peer as a multiple of it."""
        best = dict.fromkeys(["ours", *peers], float("inf"))
        for step in range(self.rounds):
            for key, call in {"ours": ours, **peers}.items():
                if key != "ours" and step >= 2 and best[key] > 1.0:
                    continue
                start = self.clock()
                call()
                best[key] = min(best[key], self.clock() - start)
        names = {key: key.removesuffix("_other").replace("_", " ") for key in peers}
        ratios = "  ".join(
            f"{names[key]}{'°' if key.endswith('_other') else ''} {best[key] / best['ours']:.1f}x" for key in peers
        )
        print(f"  {name:<22}{1e3 * best['ours']:9.2f} ms   {ratios}", flush=True)


def raster_rows(table: Table, scene: Scene) -> None:
    """Scores to labels to polygons."""
    labels, count = split.split(scene.mask, scene.touching)
    _, flooded = seeds(scene)
    heap_flood(scene.mask, scene.touching, flooded, 127)
    assert (partition(labels) == partition(flooded)).all()
    mask = (scene.mask > 127).astype(np.uint8)
    found, number = components.label(mask)
    expected = ndimage.label(mask, EIGHT)
    assert number == expected[1]
    assert (found == expected[0]).all()
    areas = components.properties(labels, count)["area"]
    assert (areas == np.bincount(labels.ravel(), minlength=count + 1)[1:]).all()
    coords, rings, polygons, label = trace.trace(labels)
    shapes = shapely.from_ragged_array(shapely.GeometryType.POLYGON, coords, (rings, polygons))
    reference = trace_gdal(labels)
    ours = sorted(zip(label.tolist(), shapely.to_wkb(shapely.normalize(shapes)), strict=True))
    assert ours == sorted((int(v), shapely.normalize(shapely.geometry.shape(s)).wkb) for s, v in reference)
    del reference, ours, flooded

    out = np.empty(mask.shape, np.int32)
    index = np.arange(1, count + 1)
    print(f"{scene.name}, {mask.shape[0]}²: {mask.mean():.0%} cover, {count} instances, {len(coords)} vertices")
    table.row("split", lambda: split.split(scene.mask, scene.touching, out=out),
              skimage=lambda: split_skimage(scene), cv2_other=lambda: split_cv2(scene))
    table.row("components", lambda: components.label(mask, out=out),
              cv2=lambda: cv2.connectedComponents(mask, connectivity=8),
              scipy=lambda: ndimage.label(mask, EIGHT),
              skimage=lambda: skimage.measure.label(mask, connectivity=2))
    table.row("properties", lambda: components.properties(labels, count),
              scipy=lambda: (ndimage.find_objects(labels), ndimage.center_of_mass(mask, labels, index)),
              skimage=lambda: skimage.measure.regionprops_table(labels, properties=("area", "bbox", "centroid")))
    table.row("trace", lambda: trace.trace(labels),
              GDAL=lambda: trace_gdal(labels), cv2_per_crop_other=lambda: trace_cv2(labels))
    table.row("scores to WKB", lambda: tail(scene, out), usual_stack=lambda: usual_tail(scene))


def tail(scene: Scene, out: np.ndarray) -> Any:
    """Scores to WKB, with our kernels."""
    labels, _ = split.split(scene.mask, scene.touching, out=out)
    return wkb.encode_polygons(*trace.trace(labels)[:3])


def vector_rows(table: Table, scene: Scene) -> None:
    """Polygons to fewer vertices, to pixels, to bytes and back."""
    labels, _ = split.split(scene.mask, scene.touching)
    coords, rings, polygons, _ = trace.trace(labels)
    shapes = shapely.from_ragged_array(shapely.GeometryType.POLYGON, coords, (rings, polygons))
    shape = labels.shape
    burnt = np.zeros(shape, np.uint8)
    expected = rasterio.features.rasterize(shapes, shape, dtype="uint8")
    assert (rasterise.fill(coords, rings, polygons, shape) == expected).all()
    lines = [shapely.LineString(coords[a:b]) for a, b in zip(rings[:-1], rings[1:], strict=True)]
    expected = rasterio.features.rasterize(lines, shape, dtype="uint8")
    assert (rasterise.outline(coords, rings, shape) == expected).all()
    copies = max(1, 100_000 // len(shapes))
    many = np.tile(shapes, copies)
    all_coords, (all_rings, all_polygons) = shapely.to_ragged_array(many)[1:]
    encoded = shapely.to_wkb(many)
    buffer, offsets = wkb.encode_polygons(all_coords, all_rings, all_polygons)
    assert buffer.tobytes() == b"".join(encoded)
    thin = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, *(lambda c, r, p: (c, (r, p)))(*simplify.simplify(coords, rings, polygons, 1.2)))
    assert shapely.is_valid(thin).all()
    assert shapely.coverage_is_valid(thin)

    def pil() -> None:
        drawing = ImageDraw.Draw(Image.new("L", shape[::-1]))
        for ring in range(len(rings) - 1):
            drawing.polygon(coords[rings[ring] : rings[ring + 1]].ravel().tolist(), fill=1)

    def opencv() -> None:
        parts = [coords[a:b].astype(np.int32) for a, b in zip(rings[:-1], rings[1:], strict=True)]
        for part in parts:
            cv2.fillPoly(burnt, [part], 1)

    def move() -> None:
        moved = buffer.copy()
        position = wkb.walk(moved, offsets)[0]
        wkb.write_xy(moved, position, wkb.read_xy(moved, position) + 1.0)

    table.row("rasterise fill", lambda: rasterise.fill(coords, rings, polygons, shape, out=burnt),
              GDAL=lambda: rasterio.features.rasterize(shapes, shape, dtype="uint8"), cv2_other=opencv, PIL_other=pil)
    table.row("rasterise outline", lambda: rasterise.outline(coords, rings, shape),
              GDAL=lambda: rasterio.features.rasterize(lines, shape, dtype="uint8"))
    table.row("simplify", lambda: simplify.simplify(coords, rings, polygons, 1.2),
              shapely_coverage_other=lambda: shapely.coverage_simplify(shapes, 1.2),
              shapely_topology_other=lambda: shapely.simplify(shapes, 1.2),
              shapely_plain_other=lambda: shapely.simplify(shapes, 1.2, preserve_topology=False))
    table.row("WKB encode", lambda: wkb.encode_polygons(all_coords, all_rings, all_polygons),
              shapely=lambda: shapely.to_wkb(many))
    table.row("WKB decode", lambda: wkb.read_xy(buffer, wkb.walk(buffer, offsets)[0]),
              shapely=lambda: shapely.get_coordinates(shapely.from_wkb(encoded)))
    table.row("WKB move", move,
              shapely=lambda: shapely.to_wkb(shapely.transform(shapely.from_wkb(encoded), lambda xy: xy + 1.0)))


def field_rows(table: Table, size: int) -> None:
    """Sampling and smoothing of a displacement field."""
    rng = np.random.default_rng(1)
    field = rng.normal(size=(2, size, size)).astype(np.float32)
    xy = rng.uniform(0, size, (200_000, 2))
    where = (xy[:, 1] - 0.5, xy[:, 0] - 0.5)
    taps = np.exp(-0.5 * (np.arange(-12, 13) / 4.0) ** 2)
    taps /= taps.sum()

    def scipy_sample() -> np.ndarray:
        return np.stack([ndimage.map_coordinates(band, where, order=1, mode="nearest") for band in field], 1)

    def scipy_smooth() -> np.ndarray:
        rows = ndimage.correlate1d(field, taps, axis=1, mode="constant")
        return np.asarray(ndimage.correlate1d(rows, taps, axis=2, mode="constant"))

    def opencv() -> np.ndarray:
        return np.stack([cv2.sepFilter2D(b, -1, taps, taps, borderType=cv2.BORDER_CONSTANT) for b in field])

    np.testing.assert_allclose(sample.bilinear(field, xy), scipy_sample(), atol=1e-5)
    np.testing.assert_allclose(smooth.gaussian(field, 4.0, 12), scipy_smooth(), atol=1e-5)
    table.row("sample bilinear", lambda: sample.bilinear(field, xy), scipy=scipy_sample)
    table.row("smooth gaussian", lambda: smooth.gaussian(field, 4.0, 12), scipy=scipy_smooth, cv2=opencv)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=list(INPUTS))
    parser.add_argument("--scaling", type=int, nargs="*", default=[], help="sizes for the slope of the tail's cost")
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    start = time.perf_counter()
    kernels.warm()
    print(f"compile or load: {time.perf_counter() - start:.1f} s")
    table = Table(options.rounds, options.clock)
    for name in options.inputs:
        scene = INPUTS[name](options.size)
        raster_rows(table, scene)
        if name != "speckle":
            vector_rows(table, scene)
    field_rows(table, min(options.size, 2500))
    costs = []
    for size in options.scaling:
        scene, out = city(size), np.empty((size, size), np.int32)
        seconds = []
        for _ in range(options.rounds):
            start = table.clock()
            tail(scene, out)
            seconds.append(table.clock() - start)
        costs.append(min(seconds))
        print(f"  scores to WKB, {size}²: {1e9 * costs[-1] / size**2:.2f} ns/px", flush=True)
    if len(costs) > 1:
        slope = np.polyfit(2 * np.log(options.scaling), np.log(costs), 1)[0]
        print(f"  log-log slope {slope:.3f}")


if __name__ == "__main__":
    main()
