"""Numba kernels: arrays in, arrays out. No file, no object, no thread of their own."""

from __future__ import annotations


def warm() -> None:
    """Compile or load every kernel once, on tiny arrays: before tasks are dispatched, not inside them.

    Takes about half a minute with a cold cache and well under a second with a warm one.
    """
    import numpy as np

    from pipeline.kernels import (
        components,
        edges,
        instances,
        polygons,
        rasterise,
        sample,
        scatter,
        simplify,
        smooth,
        split,
        trace,
        wkb,
        wkb_rows,
    )

    scores = np.full((4, 9), 255, np.uint8)
    labels, count = split.split(scores, np.zeros_like(scores))
    components.label(scores)
    components.properties(labels, count)
    found = instances.only(instances.runs(labels), np.ones(count, np.bool_))
    instances.properties(found, count)
    instances.measure(found, count, scores, scores, scores > 0, 127)
    coords, rings, pieces, _ = trace.trace_runs(found)
    coords, rings, pieces = simplify.simplify(coords, rings, pieces, 1.0)
    coords, rings, pieces = polygons.take(coords, rings, pieces, np.arange(pieces.size - 1))
    polygons.lay(coords, rings, pieces, rings[pieces[:-1]], np.empty_like(coords))
    polygons.areas(coords, rings, pieces)
    polygons.boxes(coords, rings, pieces)
    polygons.move(coords, rings, pieces, np.zeros((pieces.size - 1, 2)))
    rasterise.fill(coords, rings, pieces, (4, 9))
    rasterise.outline(coords, rings, (4, 9))
    field = np.zeros((1, 4, 9), np.float32)
    sample.bilinear(field, coords)
    tensor = np.zeros((3, 4, 9), np.float32)
    votes, weight = np.zeros((1, 1, 3, 3), np.float32), np.zeros((1, 1), np.float32)
    edges.vote(tensor, coords, rings, 1, 4.0, np.zeros(2), 4.0, votes, weight)
    edges.peaks(edges.rate(tensor, coords, rings, np.zeros(len(rings) - 1, np.int64), 1, 1)[0])
    scatter.blend(coords, coords, coords, np.ones(len(coords)), 1.0, 3.0)
    smooth.gaussian(field, 1.0, 1)
    buffer, offsets = wkb.encode_polygons(coords, rings, pieces)
    wkb_rows.types(buffer, offsets)
    wkb_rows.boxes(buffer, offsets)
    position = wkb.walk(buffer, offsets)[0]
    wkb.write_xy(buffer, position, wkb.read_xy(buffer, position))
