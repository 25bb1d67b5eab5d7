"""Split: scores of the mask network -> building instances -> ragged polygons, bit-equal for every tiling.

A connected component of the mask (8-connected) depends on its own pixels alone, and so does its split
(`kernels.split`). So no result is cut at a tile's edge and then repaired: each component is handled whole,
by one task.

    1. A tile labels what it reads and handles the components that it saw whole and whose first pixel
       (row-major) lies in its core: `split_tile`. Its halo is a matter of speed, never of the result.
    2. What no tile saw whole is found by uniting the tiles' face records: `seams.find_large`.
    3. Each of those is read in its own bounding box: `split_large.split_large`.

The network is TernausNetV2's, section 3 of the paper: channel 0 is the mask, channel 1 the borders where
buildings touch; seed = mask · (1 - touching) > 1/2, flooded inside the mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.buildings import SplitPart, empty_part, offsets_of, take_polygons
from pipeline.faces import CAP, FaceRecord, face_record
from pipeline.grid import Tile, Window
from pipeline.kernels import components, instances
from pipeline.kernels import split as splitter
from pipeline.kernels.jit import plain
from pipeline.stages.outlines import MARGIN, claims_of, simplified, trace_runs

if TYPE_CHECKING:
    from pipeline.settings import Outlines

HALO = 256
"""Pixels of the mask level that a tile reads beyond its core (77 m at 0.3 m): nearly all components are
then whole for their owner. A wider or narrower halo gives the same buildings."""

THRESHOLD = 127
"""A pixel is building where its stored score is above this: p > 1/2 as uint8."""

TOLERANCE = 0.75
"""Of the simplifier, px of the mask level: above the 0.71 of a pixel's staircase, below one pixel."""

MIN_PIXELS = 20
"""Instances with fewer go at once, as in the published post-processing: 1.8 m² at 0.3 m, 20 m² at 1 m.
This is exact, since an instance is whole here, unlike in a tile; and it bounds what speckle costs: of
its instances 2 % are left. What counts as a building, in m², is decided in `buildings.combine`."""

Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


def whole(table: npt.NDArray[np.void], window: Window, read: Window, shape: tuple[int, int]) -> Flags:
    """Which components of an array at `window` are complete in `read`: off its border, or on the scene's edge."""
    flags = np.ones(table.size, np.bool_)
    if read.y0 > 0:
        flags &= table["y0"] > read.y0 - window.y0
    if read.x0 > 0:
        flags &= table["x0"] > read.x0 - window.x0
    if read.y1 < shape[0]:
        flags &= table["y1"] < read.y1 - window.y0
    if read.x1 < shape[1]:
        flags &= table["x1"] < read.x1 - window.x0
    return flags


def margin_of(outlines: Outlines) -> int:
    """Pixels beyond what a component lies in that its outlines depend on."""
    return MARGIN if outlines == "regular" else 0


def split_components(
    mask_scores: Bytes,
    touching: Bytes,
    valid: Flags,
    window: Window,
    width: int,
    tolerance: float = TOLERANCE,
    min_pixels: int = MIN_PIXELS,
    outlines: Outlines = "traced",
    others: Flags | None = None,
    out: Labels | None = None,
) -> SplitPart:
    """Instances of whole components; arrays (h, w) at `window` of a scene `width` pixels wide.

    Every pixel of `mask_scores` above the threshold becomes part of exactly one instance, and all of
    `min_pixels` or more come back. Regular outlines keep away from `others`, mask that is not split here, and
    depend on what lies within `margin_of(outlines)` px of a component. `out`, if given, is (h, w) int32 memory
    for labels, overwritten.
    """
    labels, component = splitter.grouped(mask_scores, touching, THRESHOLD, out)
    count, runs = component.size, instances.runs(labels)
    del labels
    table = instances.properties(runs, count)
    first = (table["first_y"].astype(np.int64) + window.y0) * width + table["first_x"] + window.x0
    score, evidence, edges, touches = instances.measure(runs, count, mask_scores, touching, valid, THRESHOLD)
    kept = np.flatnonzero(table["area"] >= min_pixels)
    if not kept.size:
        return empty_part()
    number = np.arange(count)
    if kept.size < count:
        runs = instances.only(runs, table["area"] >= min_pixels)
        number[kept] = np.arange(kept.size)
        table, first, component, count = table[kept], first[kept], component[kept], kept.size
        score, evidence, edges, touches = score[kept], evidence[kept], edges[kept], touches[kept]
    polygons, of = trace_runs(runs, window)
    of = number[of - 1] + 1
    claims = None
    if outlines == "regular":
        claims = claims_of(components.label(mask_scores > THRESHOLD)[0], others, window)
    polygons = simplified(polygons, component[of - 1].astype(np.int64), tolerance, claims)
    del claims
    order = np.argsort(first)
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    pieces = np.argsort(rank[of - 1], kind="stable")
    counts = np.bincount(of - 1, minlength=count)[order]
    coords, ring_offsets, polygon_offsets = take_polygons(polygons, pieces)
    return SplitPart(
        building_id=first[order],
        pixels=table["area"].astype(np.int64)[order],
        score_sum=score[order],
        edge_sum=evidence[order],
        edge_count=edges[order],
        touches_nodata=touches[order],
        coords=coords,
        ring_offsets=ring_offsets,
        polygon_offsets=polygon_offsets,
        building_offsets=offsets_of(counts),
    )


def split_tile(
    scores: Bytes,
    valid: Flags,
    tile: Tile,
    shape: tuple[int, int],
    *,
    cap: int = CAP,
    tolerance: float = TOLERANCE,
    min_pixels: int = MIN_PIXELS,
    outlines: Outlines = "traced",
) -> tuple[SplitPart, FaceRecord]:
    """Buildings that a tile owns, and the record of what crosses its faces.

    scores     (2, h, w) uint8 over `tile.read` grown by `margin_of(outlines)`: mask, touching; what lies outside
               the scene is not looked at
    valid      (h, w) bool over the same; there is no mask where it is false
    shape      height and width of the scene at this level, which the tile's windows are in as well

    Only specks under `min_pixels` go here; size in m² is judged once all parts are together.
    """
    given = tile.read.grow(margin_of(outlines))
    window = given.clip(shape)
    inside = window.slices(given)
    seen = plain(valid[inside], np.bool_)
    mask_scores = np.where(seen, scores[0][inside], 0).astype(np.uint8)
    mask = mask_scores > THRESHOLD
    core = tile.core.slices(window)
    labels, count = components.label(np.ascontiguousarray(mask[core]))
    faces = face_record(labels, count, tile.core, shape, cap)

    labels, count = components.label(mask)
    table = components.properties(labels, count)
    own = whole(table, window, tile.read, shape)
    own &= (table["first_y"] >= core[0].start) & (table["first_y"] < core[0].stop)
    own &= (table["first_x"] >= core[1].start) & (table["first_x"] < core[1].stop)
    boxes = (table["y1"] - table["y0"]).astype(np.int64) * (table["x1"] - table["x0"])
    own &= boxes <= cap
    if not own.any():
        return empty_part(), faces
    # Not more than what is owned, with the pixel around it that `measure` looks at.
    box = Window(
        window.y0 + int(table["y0"][own].min()),
        window.x0 + int(table["x0"][own].min()),
        int(table["y1"][own].max() - table["y0"][own].min()),
        int(table["x1"][own].max() - table["x0"][own].min()),
    )
    box = box.grow(max(1, margin_of(outlines))).clip(shape)
    cut = box.slices(window)
    mine = np.concatenate([np.ones(1, np.bool_), own])[labels[cut]]  # background keeps its score
    part = split_components(
        np.where(mine, mask_scores[cut], 0).astype(np.uint8),
        plain(scores[1][inside][cut], np.uint8),
        plain(seen[cut], np.bool_),
        box,
        shape[1],
        tolerance,
        min_pixels,
        outlines,
        mask[cut] & ~mine,
    )
    return part, faces
