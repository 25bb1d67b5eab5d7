"""Tasks of the roads' evidence: what a tile shows of roads, and what lines make of it in a search and in the gate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import footprints, networks, store
from pipeline.footprints_block import FootprintBlock
from pipeline.grid import Window
from pipeline.job import CADASTER, SCENE, Job, values_of
from pipeline.job_stages import around, scaled
from pipeline.kernels import edges
from pipeline.ledger import digest_of
from pipeline.ragged import offsets_of
from pipeline.stages import gate as gate_stage
from pipeline.stages import roads as road_stage
from pipeline.stages import search as search_stage
from pipeline.stages.search import Outlines, Search
from pipeline.worker.entry import Row, row
from pipeline.worker.placed import Points, box_of, vertices
from pipeline.worker.scores import Reader, network_of

NEAR = 512
"""px of level 1 around a block that its lines are looked at when they are judged for themselves."""

Seen = tuple[NDArray[np.float32], tuple[int, int], list[Outlines]]
"""The image's structure, its first pixel (y, x), and the outlines that vote on it."""


def roads(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """How near each pixel of a tile is to the middle of a road."""
    level, halo = int(job.levels["roads"]), job.halos["roads"]
    tile = job.grid(level, halo).at(key)
    reader = Reader(job, level, tile)
    if reader.image is None:
        return [row(stage, key, "nodata")]
    network = network_of(job, "roads")

    def forward(window: Window) -> NDArray[np.float32] | None:
        image = reader.cut(window.grow(halo))
        if image is None:
            return None
        near = road_stage.nearness(network, road_stage.as_rgb(image), window.height, job.device)
        valid = reader.valid[window.slices(reader.window)]
        return np.where(valid, near, np.float32(0))

    scores, _ = networks.run_windows(forward, tile, 1, networks.to_scores)
    store.write(store.open_array(job.work / SCENE, values_of(stage)), tile.core, scores)
    return [row(stage, key, "ok", digest_of(scores.tobytes()))]


def tensor_of(job: Job, factor: int, region: Window) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """What lines are rated by over a region of level 1, at level `factor`, and its first pixel there (y, x)."""
    level = int(job.levels["roads"])  # one of the pyramid
    there = scaled(region, 1, factor)
    source = road_stage.source_window(there, factor, level)
    stored = store.read(store.open_array(job.work / SCENE, values_of(road_stage.PHASE)), source)[0]
    near = stored.astype(np.float32) / np.float32(255)
    return road_stage.tensor_at(near, source, there, factor, level), (there.y0, there.x0)


def lines_of(job: Job, step: Search, blocks: list[str], region: Window) -> list[Outlines]:
    """Roads of the given blocks, in the order of their keys, whose box meets a region of level 1."""
    found = []
    for key in sorted(blocks):
        block = footprints.read_block(job.work / CADASTER, key)
        coords, offsets, _ = block.lines(vertices(job, step, key), footprints.road_rows(job.work / CADASTER, key))
        if len(offsets) < 2:
            continue
        low, high = np.minimum.reduceat(coords, offsets[:-1]), np.maximum.reduceat(coords, offsets[:-1])
        hit = (low <= (region.x1, region.y1)).all(axis=1) & (high >= (region.x0, region.y0)).all(axis=1)
        counts = np.diff(offsets)
        if hit.any():
            found.append((coords[np.repeat(hit, counts)], offsets_of(counts[hit])))
    return found


def shifts(
    job: Job, step: Search, nodes: Window, region: Window, seen: Seen, lines: list[Outlines]
) -> NDArray[np.float32]:
    """Shifts of nodes, as `search.find_shifts` gives them, from outlines and lines together."""
    tensor, corner, outlines = seen
    votes, weight = search_stage.votes_of(step, tensor, corner, outlines if tensor.any() else [], nodes)
    nearer = None
    if lines:
        roads_there, corner = tensor_of(job, step.factor, region)
        votes, weight, share = road_stage.votes_with(step, roads_there, corner, lines, nodes, votes, weight)
        nearer = share * np.float32(road_stage.PRIOR)
    if not weight.any():
        return np.zeros((4, nodes.height, nodes.width), np.float32)
    return search_stage.find_shifts(step, votes, weight, nearer)


def fits(job: Job, key: str, block: FootprintBlock, xy: Points, own: Points, length: Points) -> Points:
    """Enter into `own` and `length` (rows,) how well a block's roads fit where they lie (`contrasts`), and their px;
    returns the px of line of each row, 0 for rows that are no roads.

    A row that holds an open line is a road, whatever outlines it holds beside: its confidence is compared with the
    roads' limit. Of one whose lines cannot be seen, only its neighbours say how sure it is.
    """
    coords, offsets, ring_row = block.lines(xy, footprints.road_rows(job.work / CADASTER, key))
    if len(offsets) < 2:
        return np.zeros(len(block.rows))
    box, core = around(box_of(coords), gate_stage.REACH + 8), job.blocks().at(key).core.grow(NEAR)
    y0, x0 = max(box.y0, core.y0), max(box.x0, core.x0)
    region = Window(y0, x0, max(min(box.y1, core.y1) - y0, 1), max(min(box.x1, core.x1) - x0, 1))
    tensor, corner = tensor_of(job, 1, region)
    fit, line_px = edges.rate(
        tensor, coords - (corner[1], corner[0]), offsets, ring_row, len(block.rows), gate_stage.REACH
    )
    road = np.zeros(len(block.rows), bool)
    road[ring_row] = True
    own[road], length[road] = road_stage.contrasts(fit)[road], line_px[road]
    return np.where(road, np.maximum(line_px, np.finfo(np.float64).tiny), 0.0)
