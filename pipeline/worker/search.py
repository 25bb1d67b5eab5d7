"""Tasks of the evidence search: the common shift, one block's nodes, and how sure each footprint is in the end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import footprints, scene, store
from pipeline.footprints_block import FootprintBlock
from pipeline.grid import Window, level_shape
from pipeline.job import CADASTER, SCENE, Job, values_of
from pipeline.job_stages import around, scaled
from pipeline.kernels import edges
from pipeline.ledger import digest_of
from pipeline.ragged import offsets_of
from pipeline.stages import common as common_stage
from pipeline.stages import gate as gate_stage
from pipeline.stages import search as search_stage
from pipeline.stages import seat
from pipeline.stages.gate import Gate, Verdicts
from pipeline.stages.search import Search
from pipeline.worker import roads
from pipeline.worker.entry import Row, row
from pipeline.worker.placed import (
    Points,
    box_of,
    common_path,
    outlines_within,
    ratings_path,
    read_moved,
    save_table,
    verdicts_path,
    vertices,
)
from pipeline.worker.scores import scene_of

NEAR = 512
"""px of level 1 around a block that its outlines are looked at when they are judged for themselves."""


def structure_of(job: Job, level: int, region: Window) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """The image's structure over the pixels of `level` under a region of level 1, and its first one (y, x)."""
    there = scaled(region, 1, level).clip(level_shape(job.shape, level))
    if not there.area:
        return np.zeros((3, 0, 0), np.float32), (there.y0, there.x0)
    image = scene.read_stretched(scene_of(job), level, there)
    return search_stage.structure(image, scene.read_valid(scene_of(job), level, there) != 0), (there.y0, there.x0)


def near_block(job: Job, key: str, coords: Points, margin: int) -> Window:
    """The window of level 1 around outlines, but no farther from their block than NEAR: a parish boundary is judged
    by its part there, or one row would ask for the whole scene at once."""
    box, core = around(box_of(coords), margin), job.blocks().at(key).core.grow(NEAR)
    y0, x0 = max(box.y0, core.y0), max(box.x0, core.x0)
    return Window(y0, x0, max(min(box.y1, core.y1) - y0, 0), max(min(box.x1, core.x1) - x0, 0))


def common(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """The shift that the whole cadaster has in common, from some of its blocks."""
    factor = common_stage.factor_of(job.gsd)
    save_table(common_path(job), np.zeros(2))  # if this fails nothing moves, whatever an earlier run found
    size = 2 * -(-common_stage.REACH // factor) + 1
    halves, heard, asked = np.zeros((2, size, size)), np.zeros(2), 0
    most = -(-common_stage.ROWS // max(len(payload["blocks"]), 1))
    for name in payload["blocks"]:
        block = footprints.read_block(job.work / CADASTER, name)
        coords, ring_offsets, ring_row = some_outlines(block, most)
        if len(ring_offsets) < 2:
            continue
        asked += len(np.unique(ring_row))
        tensor, corner = structure_of(job, factor, near_block(job, name, coords, common_stage.REACH + 8 * factor))
        local = coords / factor - (corner[1], corner[0])
        said, length = common_stage.ratings(tensor, (local, ring_offsets), ring_row % 2, factor)
        halves, heard = halves + said, heard + length
    found = common_stage.decide(halves / max(heard.sum(), 1e-9), asked, factor)
    digest = save_table(common_path(job), np.array([found.dx, found.dy]))
    figures = {"dx": found.dx, "dy": found.dy, "clear": round(found.clear, 3), "near": round(found.near, 3)}
    return [row(stage, key, "ok", digest, **figures)]


def some_outlines(block: FootprintBlock, most: int) -> tuple[Points, NDArray[np.int64], NDArray[np.int64]]:
    """Outlines of at most `most` of a block's rows that have any, evenly spread: coords, ring_offsets, and the
    number of each ring's row among them."""
    coords, ring_offsets, ring_row = block.outlines()
    rows = np.unique(ring_row)
    chosen = rows[:: max(-(-len(rows) // most), 1)]
    wanted = np.isin(ring_row, chosen)
    counts = np.diff(ring_offsets)
    return coords[np.repeat(wanted, counts)], offsets_of(counts[wanted]), np.searchsorted(chosen, ring_row[wanted])


def search(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Shifts of the nodes of one block of the scene, from all outlines that have a say there."""
    step = next(step for step in job.align_line if step.source == stage)
    assert isinstance(step, Search)
    nodes = step.nodes(job.blocks().at(key).core)
    region = step.region(nodes)
    outlines = []
    for name in sorted(payload["blocks"]):
        block = footprints.read_block(job.work / CADASTER, name)
        seen = outlines_within(block, vertices(job, step, name), region)
        if len(seen[1]) > 1:
            outlines.append(seen)
    tensor, corner = structure_of(job, step.factor, region) if outlines else (np.zeros((3, 0, 0), np.float32), (0, 0))
    array = store.open_array(job.work / SCENE, values_of(step.name))
    sums = np.zeros((4, nodes.height, nodes.width), np.float32)
    if job.roads:
        lines = roads.lines_of(job, step, payload["blocks"], region)
        sums = roads.shifts(job, step, nodes, region, (tensor, corner, outlines), lines)
    elif tensor.any():
        votes, weight = search_stage.votes_of(step, tensor, corner, outlines, nodes)
        sums = search_stage.find_shifts(step, votes, weight)
    store.write(array, nodes, sums)
    return [row(stage, key, "ok" if sums[2].any() else "empty", digest_of(sums.tobytes()))]


def check(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """How sure each footprint of a block may be of all its moves, how far it went, and how its own outline rates
    shifts about where it is."""
    line = job.align_line
    gate = line[-1]
    assert isinstance(gate, Gate)
    block = footprints.read_block(job.work / CADASTER, key)
    xy = vertices(job, gate, key)
    coords, ring_offsets, ring_row = block.outlines(xy)
    own, length = np.zeros(len(block.rows)), np.zeros(len(block.rows))
    fit = np.zeros((len(block.rows), *[2 * gate_stage.REACH + 1] * 2), np.float32)
    if len(ring_offsets) > 1:
        tensor, corner = structure_of(job, 1, near_block(job, key, coords, gate_stage.REACH + 8))
        local = coords - (corner[1], corner[0])
        fit, length = edges.rate(tensor, local, ring_offsets, ring_row, len(block.rows), gate_stage.REACH)
        own = edges.peaks(fit)[:, 3]
    outline = length.copy()  # without the lines that are roads
    line_px = roads.fits(job, key, block, xy, own, length) if job.roads else np.zeros(len(block.rows))
    searches = [step for step in line if isinstance(step, Search)]
    if searches:
        tables = [read_moved(job, step, key) for step in (searches[0], *searches[-2:])]
        last = np.hypot(*block.row_means(tables[-1][:, :2] - tables[-2][:, :2]).T)
        clear = block.row_means(tables[0][:, 2])
        confidence = gate_stage.confidence_of(clear, last, own)
        if line_px.any():
            confidence = np.where(line_px > 0, gate_stage.road_confidence_of(clear, last, own), confidence)
    else:
        confidence = block.row_means(read_moved(job, line[-2], key)[:, 2])
    square = block.row_means(((xy - block.xy) ** 2).sum(axis=1))
    square = np.where(line_px > 0, np.maximum(square - gate_stage.LINE_NOISE**2, 0.0), square)
    verdicts = Verdicts(block.row_means(xy), length, confidence, square)
    digest = save_table(verdicts_path(job, key), verdicts.table())
    if job.seat:
        digest = digest_of(digest, save_table(ratings_path(job, key), seat.kept(fit, outline)))
    return [row(stage, key, "ok", digest)]
