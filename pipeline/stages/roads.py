"""Evidence for roads: a network sees where the middle of a road runs, and the search goes by that.

An outline lies on an edge of the image; a centre line lies midway between two that may be a lane or ten apart, dirt
or asphalt, lighter or darker than what is beside them. So a network (models/line_reader.py) says for every pixel of one
level how near it is to the middle of a road, once a scene, whatever the cadaster. Lines then vote in the same
searches as outlines do, by what that map shows under each of their pixels. Along a line all shifts are alike: of
shifts that fit alike the shortest is taken (PRIOR), and neighbouring roads of another direction say the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import LEVELS, Window
from pipeline.networks import FORWARD_LOCK, centre_crop
from pipeline.stages.search import Outlines, Search, votes_of

if TYPE_CHECKING:
    import torch

VERSION = 1
PHASE = "align-roads"
NATIVE_M = 0.6
"""Metres: the GSD that the network looks at, or the nearest there is."""

GAIN = 0.25
"""What certainty of a road's middle is worth beside an edge of the image, where lines and outlines vote together."""

PRIOR = 0.2
"""How much less the farthest shift is worth than none, where lines alone vote."""

Float32 = NDArray[np.float32]


def level_of(gsd: float) -> int:
    """The pyramid level that the network looks at on a scene of `gsd` metres."""
    return min(LEVELS, key=lambda level: abs(math.log(gsd * level / NATIVE_M)))


def nearness(network: torch.nn.Module, image: Float32, side: int, device: str) -> Float32:
    """How near to the middle of a road, 0..1, the core of a stretched window (3, h, w) is: (1, side, side)."""
    import torch

    with torch.inference_mode(), FORWARD_LOCK:
        logits = network(torch.from_numpy(np.ascontiguousarray(image))[None].to(device))
        answer: Float32 = torch.sigmoid(logits.float())[0].cpu().numpy()
    return centre_crop(answer, side)


def as_rgb(image: Float32) -> Float32:
    """The first three bands of an image (b, h, w), or its first one three times."""
    return image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)


def source_window(region: Window, factor: int, level: int) -> Window:
    """The pixels of `level` that `tensor_at` needs for a region in px of level `factor`."""
    y0, x0 = region.y0 * factor // level - 2, region.x0 * factor // level - 2
    y1, x1 = -(-region.y1 * factor // level) + 2, -(-region.x1 * factor // level) + 2
    return Window(y0, x0, y1 - y0, x1 - x0)


def tensor_at(near: Float32, source: Window, region: Window, factor: int, level: int) -> Float32:
    """Nearness (h, w) over `source` (px of `level`) as the structure (3, H, W) that lines are rated by, over a region
    in px of level `factor`. Bilinear where that is finer, means where it is coarser: of whole pixels of fixed grids."""
    if factor >= level:
        times = factor // level
        cut = near[region.y0 * times - source.y0 :, region.x0 * times - source.x0 :]
        cut = cut[: region.height * times, : region.width * times]
        value = cut.reshape(region.height, times, region.width, times).mean(axis=(1, 3), dtype=np.float32)
    else:
        value = near
        for axis, (first, count, start) in enumerate(
            ((region.y0, region.height, source.y0), (region.x0, region.width, source.x0))
        ):
            at = (np.arange(first, first + count) + 0.5) * (factor / level) - 0.5
            cell = np.floor(at).astype(np.int64)
            share = (at - cell).astype(np.float32)
            share = share[:, None] if axis == 0 else share
            below, above = (np.take(value, cell + k - start, axis=axis) for k in (0, 1))
            value = below * (1 - share) + above * share
    square = np.float32(GAIN * GAIN) * value * value
    return np.stack((square, np.zeros_like(square), square))


def contrasts(fit: Float32) -> NDArray[np.float64]:
    """How much nearer (0..1) to the middle of a road each row lies where it is than at the shifts around, on average.

    `fit` (rows, s, s) as `edges.rate` gives it on `tensor_at`. A map that sees no road says nothing anywhere: unlike
    standard deviations (`edges.peaks`) this stays small then.
    """
    middle, weight = fit.shape[1] // 2, np.outer((1.0, 2.0, 1.0), (1.0, 2.0, 1.0)) / 16
    here = (fit[:, middle - 1 : middle + 2, middle - 1 : middle + 2].astype(np.float64) * weight).sum(axis=(1, 2))
    return (here - fit.mean(axis=(1, 2), dtype=np.float64)) / GAIN


def votes_with(
    search: Search,
    tensor: Float32,
    corner: tuple[int, int],
    blocks: Iterable[Outlines],
    nodes: Window,
    votes: Float32,
    weight: Float32,
) -> tuple[Float32, Float32, Float32]:
    """`search.votes_of` of lines on `tensor_at`, added to the votes and px of outlines; and the lines' share of px."""
    said, heard = votes_of(search, tensor, corner, blocks, nodes)
    both = weight + heard
    return votes + said, both, heard / np.maximum(both, np.float32(1e-6))
