"""Rows of `benchmarks.kernels` on polygons and fields: to fewer vertices, to pixels, to bytes and back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import rasterio.features
import shapely
from scipy import ndimage

from benchmarks import peers
from benchmarks.timing import Contest, Peer
from pipeline.kernels import rasterise, sample, simplify, smooth, trace, wkb

MILLION = 1_000_000
"""Polygons of the WKB rows."""


def vector_rows(contest: Contest, labels: np.ndarray, bytes_too: bool = True) -> None:
    """Polygons traced from `labels` to fewer vertices and to pixels, and a million of the simplified ones to WKB."""
    coords, rings, polygons, _ = trace.trace(labels)
    thin = simplify.simplify(coords, rings, polygons, 1.2)
    shapes, thin_shapes = peers.to_shapes(coords, rings, polygons), peers.to_shapes(*thin)
    assert shapely.is_valid(thin_shapes).all()
    assert shapely.coverage_is_valid(thin_shapes)
    contest.row("simplify", lambda: simplify.simplify(coords, rings, polygons, 1.2), {
        "shapely, coverage": Peer(lambda: shapely.coverage_simplify(shapes, 1.2), other=True),
        "shapely, topology": Peer(lambda: shapely.simplify(shapes, 1.2), other=True),
        "shapely, plain": Peer(lambda: shapely.simplify(shapes, 1.2, preserve_topology=False), other=True),
    }, "valid, and a coverage")  # fmt: skip
    fill_rows(contest, thin, thin_shapes, labels.shape)
    if bytes_too:
        wkb_rows(contest, np.tile(thin_shapes, -(-MILLION // len(thin_shapes)))[:MILLION])


def fill_rows(contest: Contest, ragged: Any, shapes: np.ndarray, shape: tuple[int, int]) -> None:
    """Simplified polygons, so in any direction, to pixels."""
    coords, rings, polygons = ragged
    coords = coords + np.random.default_rng(0).uniform(0.01, 0.49, coords.shape)[:1]  # no vertex on a centre
    moved = peers.to_shapes(coords, rings, polygons)
    burnt, drawn = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    expected = rasterio.features.rasterize(moved, shape, dtype="uint8")
    assert np.array_equal(rasterise.fill(coords, rings, polygons, shape), expected)
    lines = [shapely.LineString(coords[a:b]) for a, b in zip(rings[:-1], rings[1:], strict=True)]
    expected = rasterio.features.rasterize(lines, shape, dtype="uint8")
    assert np.array_equal(rasterise.outline(coords, rings, shape), expected)
    contest.row("rasterise, fill", lambda: rasterise.fill(coords, rings, polygons, shape, out=burnt), {
        "GDAL": Peer(lambda: rasterio.features.rasterize(moved, out=drawn), target=8),
        "cv2": Peer(lambda: peers.fill_cv2(coords, rings, drawn), other=True, threads=True),
        "Pillow": Peer(lambda: peers.fill_pil(coords, rings, shape), other=True),
    }, "GDAL, to the pixel")  # fmt: skip
    contest.row("rasterise, outline", lambda: rasterise.outline(coords, rings, shape), {
        "GDAL": Peer(lambda: rasterio.features.rasterize(lines, shape, dtype="uint8"), target=8),
    }, "GDAL, to the pixel")  # fmt: skip


def wkb_rows(contest: Contest, shapes: np.ndarray) -> None:
    """Polygons to bytes, to coordinates, and moved in place."""
    coords, (rings, polygons) = shapely.to_ragged_array(shapes)[1:]
    encoded = shapely.to_wkb(shapes)
    buffer, offsets = wkb.encode_polygons(coords, rings, polygons)
    assert buffer.tobytes() == b"".join(encoded)
    assert np.array_equal(wkb.read_xy(buffer, wkb.walk(buffer, offsets)[0]), shapely.get_coordinates(shapes))

    def move() -> np.ndarray:
        moved = buffer.copy()
        position = wkb.walk(moved, offsets)[0]
        wkb.write_xy(moved, position, wkb.read_xy(moved, position) + 1.0)
        return moved

    def move_shapely() -> Any:
        return shapely.to_wkb(shapely.transform(shapely.from_wkb(encoded), lambda xy: xy + 1.0))

    assert move().tobytes() == b"".join(move_shapely())
    contest.row("WKB, encode 1 M", lambda: wkb.encode_polygons(coords, rings, polygons), {
        "shapely": Peer(lambda: shapely.to_wkb(shapes), target=15),
    }, "shapely, byte for byte")  # fmt: skip
    contest.row("WKB, decode 1 M", lambda: wkb.read_xy(buffer, wkb.walk(buffer, offsets)[0]), {
        "shapely": Peer(lambda: shapely.get_coordinates(shapely.from_wkb(encoded))),
    }, "shapely")  # fmt: skip
    contest.row("WKB, move 1 M", move, {"shapely": Peer(move_shapely)}, "shapely, byte for byte")


def field_rows(contest: Contest, size: int) -> None:
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

    def cv2_smooth() -> np.ndarray:
        return np.stack([cv2.sepFilter2D(b, -1, taps, taps, borderType=cv2.BORDER_CONSTANT) for b in field])

    np.testing.assert_allclose(sample.bilinear(field, xy), scipy_sample(), atol=1e-5)
    np.testing.assert_allclose(smooth.gaussian(field, 4.0, 12), scipy_smooth(), atol=1e-5)
    contest.row("sample bilinear", lambda: sample.bilinear(field, xy), {"scipy": Peer(scipy_sample)}, "SciPy, 1e-5")
    contest.row("smooth gaussian", lambda: smooth.gaussian(field, 4.0, 12), {
        "scipy": Peer(scipy_smooth), "cv2": Peer(cv2_smooth, threads=True),
    }, "SciPy, 1e-5")  # fmt: skip
