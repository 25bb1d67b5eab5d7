"""Kernels against their peers: equality first, then interleaved timings, as ratios.

    python -m benchmarks.kernels [--size 2500|5000|10000] [--input city|dense|speckle|all] [--rounds 5]
                                 [--clock wall|cpu] [--patience 3] [--json FILE] [--docs docs/kernels.md]

Peers run with one thread; those that can use more also with all cores. A peer marked ° gives another result:
it is what people use for the step. Steps that a peer wins, or a target that was missed, are printed as such.
`--docs` puts the table into the page. Peers that hand out a Python object an instance are left out where there are
more than 100 000 instances (speckle): they take minutes.
"""

from __future__ import annotations

import argparse
from typing import Any

import cv2
import numpy as np
import skimage.measure
from scipy import ndimage

from benchmarks import kernels_vector, peers
from benchmarks.cities import INPUTS, Scene
from benchmarks.timing import Contest, Peer, arguments, finish
from pipeline import kernels
from pipeline.kernels import components, split, trace

MANY = 100_000

try:
    import cc3d
except ImportError:  # an extra peer: its rows are left out
    cc3d = None


def raster_rows(contest: Contest, scene: Scene) -> np.ndarray:
    """Scores to labels to polygons; returns the labels."""
    labels, count = split.split(scene.mask, scene.touching)
    check_split(scene, labels)
    mask = (scene.mask > 127).astype(np.uint8)
    found, number = components.label(mask)
    expected = ndimage.label(mask, peers.EIGHT)
    assert number == expected[1]
    assert np.array_equal(found, expected[0])
    check_properties(labels, count)
    check_trace(labels)
    del found, expected

    out = np.empty(mask.shape, np.int32)
    index = np.arange(1, count + 1)
    contest.row("split", lambda: split.split(scene.mask, scene.touching, out=out), {
        "scipy + skimage": Peer(lambda: peers.split_skimage(scene), other=True, target=35),
        "EDT + skimage": Peer(lambda: peers.split_distance(scene), other=True),
        "cv2": Peer(lambda: peers.split_cv2(scene), other=True, threads=True, target=2),
    }, "a (value, age) heap flood, to the pixel")  # fmt: skip
    labellers = {
        "cv2": Peer(lambda: cv2.connectedComponents(mask, connectivity=8), threads=True),
        "scipy": Peer(lambda: ndimage.label(mask, peers.EIGHT)),
        "skimage": Peer(lambda: skimage.measure.label(mask, connectivity=2)),
    }
    measurers = {"scipy": Peer(lambda: (ndimage.find_objects(labels), ndimage.center_of_mass(mask, labels, index)))}
    if cc3d is not None:
        labellers["cc3d"] = Peer(lambda: cc3d.connected_components(mask, connectivity=8))
        measurers["cc3d"] = Peer(lambda: cc3d.statistics(labels))
    tracers = {"GDAL": Peer(lambda: peers.trace_gdal(labels), target=15)}
    if count <= MANY:
        measurers["skimage"] = Peer(
            lambda: skimage.measure.regionprops_table(labels, properties=("area", "bbox", "centroid"))
        )
        tracers["skimage, each crop"] = Peer(lambda: peers.trace_skimage(labels), other=True)
        tracers["cv2, each crop"] = Peer(lambda: peers.trace_cv2(labels), other=True)
    contest.row("components", lambda: components.label(mask, out=out), labellers, "SciPy")
    contest.row("properties", lambda: components.properties(labels, count), measurers, "NumPy")
    contest.row("labels → polygons", lambda: trace.trace(labels), tracers, "GDAL, normalised WKB")
    return labels


def check_split(scene: Scene, labels: np.ndarray) -> None:
    """To the pixel the heap flood's; scikit-image's but for ties."""
    _, flooded = peers.seeds(scene)
    peers.heap_flood(scene.mask, scene.touching, flooded, 127)
    assert np.array_equal(peers.partition(labels), peers.partition(flooded))
    usual = peers.split_skimage(scene)
    assert usual.max() == flooded.max()
    apart = np.mean(usual != flooded)
    assert apart < 0.02, f"{apart:.1%} of scikit-image's pixels differ: more than ties"


def check_properties(labels: np.ndarray, count: int) -> None:
    """Areas, boxes and centroids as NumPy has them."""
    table = components.properties(labels, count)
    rows, columns = np.nonzero(labels)
    value = labels[rows, columns]
    area = np.bincount(value, minlength=count + 1)[1:]
    assert np.array_equal(table["area"], area)
    for place, low, high, total in ((rows, "y0", "y1", "sum_y"), (columns, "x0", "x1", "sum_x")):
        assert np.array_equal(table[total], np.bincount(value, place, count + 1)[1:].astype(np.int64))
        least, most = np.full(count + 1, labels.size), np.zeros(count + 1, np.int64)
        np.minimum.at(least, value, place)
        np.maximum.at(most, value, place + 1)
        assert np.array_equal(table[low], least[1:]) and np.array_equal(table[high], most[1:])


def check_trace(labels: np.ndarray) -> None:
    """GDAL's polygons, each once, with its label."""
    import shapely

    coords, rings, polygons, label = trace.trace(labels)
    ours = shapely.to_wkb(shapely.normalize(peers.to_shapes(coords, rings, polygons)))
    reference = peers.trace_gdal(labels)
    shapes = shapely.normalize([shapely.geometry.shape(shape) for shape, _ in reference])
    values = [int(value) for _, value in reference]
    theirs = sorted(zip(values, shapely.to_wkb(shapes), strict=True))
    assert sorted(zip(label.tolist(), ours, strict=True)) == theirs


def main() -> None:
    """Print the table."""
    options: Any = arguments(argparse.ArgumentParser(description=__doc__), INPUTS)
    cv2.setNumThreads(1)
    kernels.warm()
    rows, scenes = [], {}
    for name in options.inputs:
        scene = INPUTS[name](options.size, 0)
        contest = Contest(name, options.rounds, options.clock, options.patience)
        labels = raster_rows(contest, scene)
        side, cover = labels.shape[0], np.mean(labels > 0)
        scenes[name] = f"{name}, {side}²: {cover:.0%} cover, {labels.max()} instances"
        if labels.max() <= MANY:
            kernels_vector.vector_rows(contest, labels, bytes_too=name == options.inputs[0])
        rows += contest.rows
    contest = Contest("fields", options.rounds, options.clock, options.patience)
    kernels_vector.field_rows(contest, min(options.size, 2500))
    scenes["fields"] = "displacement field, two bands, 2500² at most"
    finish([*rows, *contest.rows], options, f"kernels {options.size}", scenes)


if __name__ == "__main__":
    main()
