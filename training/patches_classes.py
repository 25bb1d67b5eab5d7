"""Pairs of patches with a cadaster raster for each class: buildings and roads, moved off by one field.

Views and fields are those of the successor's patches; a pair shows one image with everything moved off by a field
and by its opposite. Along a line only the part of a shift that is normal to it can be seen, so what counts at a
line's pixels is the error along the normals of the lines there (`across`); at polygons of a building all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.kernels.lines import strips
from training.chips import LabelledScene
from training.deform import GaussianField
from training.patches import PreparedScene, class_weights, displace, draw, photometric, prepare
from training.patches_successor import look, moved_off

Array = NDArray[np.float64]

CLASSES = ("building", "road")
"""Channels of the cadaster's raster, in order."""

LINE_WIDTH = 3.0
"""px of the patch's own level: how wide an open line is drawn."""

WIDE = 5.0
"""px: how far around a line's middle its pixels count in the loss."""

STEP_M = 8.0
"""Metres between the vertices of roads."""

ALONE = (0.25, 0.25)
"""Shares of pairs that show buildings alone and roads alone, where a scene has both."""


@dataclass(frozen=True, slots=True)
class ClassScene:
    """A scene for each of CLASSES, alike but for what is drawn; `known` says of which classes all is labelled."""

    layers: tuple[PreparedScene, ...]
    known: tuple[bool, ...]

    @property
    def name(self) -> str:
        """The scene's name."""
        return self.layers[0].name


@dataclass(frozen=True, slots=True)
class ClassPair:
    """Two samples of one image, float32; `side` = output + 2 * halo, k = len(CLASSES).

    image             (side, side): gray 0..1
    truth, seen       (k, side, side): rasters of the true cadaster, all of it; 1 where a class is fully labelled
    drawn             (2, k, side, side): rasters as moved off by the field, by its opposite
    target            (2, output, output): the field; the second sample's is its opposite
    weight            (2, output, output): what counts at polygons, for each sample
    across            (2, 3, output, output): xx, xy, yy of the normals where lines count, for each sample
    """

    image: NDArray[np.float32]
    truth: NDArray[np.float32]
    seen: NDArray[np.float32]
    drawn: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    across: NDArray[np.float32]


def prepare_classes(scene: LabelledScene, area: NDArray[np.bool_]) -> ClassScene:
    """Arrays that patches of `area` (h, w) are cut from: buildings, and roads as lines or as polygons.

    Roads get a vertex each STEP_M metres, since only vertices are moved off; patches are cut around roads where a
    scene has any.
    """
    if scene.class_polygons:
        nothing = np.zeros((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64)
        coords, rings, polygons = scene.class_polygons.get("road", nothing)
        runs = np.split(coords, rings[1:-1])
    else:
        runs, polygons = list(scene.roads), np.arange(len(scene.roads) + 1)
    runs = [with_vertices(run, STEP_M / scene.gsd) for run in runs]
    roads = replace(
        scene,
        coords=np.concatenate([np.zeros((0, 2)), *runs]),
        ring_offsets=np.concatenate([[0], np.cumsum([len(run) for run in runs])]).astype(np.int64),
        polygon_offsets=polygons,
    )
    drawn = [part if part.polygons else None for part in (scene, roads)]
    layers: list[PreparedScene | None] = []
    for part in drawn:
        gray = next((layer.gray for layer in layers if layer is not None), None)
        layers.append(None if part is None else prepare(part, area, gray))
    like = next(layer for layer in reversed(layers) if layer is not None)
    none = np.zeros((0, 2)), np.zeros(1, np.int64)
    empty = replace(like, coords=none[0], ring_offsets=none[1], polygon_offsets=none[1], bounds=np.zeros((0, 4)))
    same = tuple(replace(layer or empty, seeds=like.seeds) for layer in layers)
    return ClassScene(same, (scene.polygons > 0, bool(scene.roads) or "road" in scene.class_polygons))


def with_vertices(run: Array, step: float) -> Array:
    """A run of vertices (n, 2), px, with more of them: none more than `step` px after the one before it."""
    ends = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(run, axis=0).T))])
    pieces = [np.linspace(a, b, max(int(np.ceil((b - a) / step)), 1), endpoint=False) for a, b in pairwise(ends)]
    at = np.concatenate([*pieces, ends[-1:]])
    return np.column_stack([np.interp(at, ends, run[:, axis]) for axis in (0, 1)])


def is_line(polygon: list[Array]) -> bool:
    """Whether what stands in a polygon's place is an open line."""
    return len(polygon) == 1 and bool((polygon[0][0] != polygon[0][-1]).any())


def rasters(polygons: list[list[Array]], side: int, wide: float = LINE_WIDTH) -> tuple[NDArray[np.float32], ...]:
    """What one class draws, (side, side), and its lines' strips `wide` px, (4, side, side), as `kernels.lines`."""
    areal = draw([polygon for polygon in polygons if not is_line(polygon)], (side, side))
    lines = [polygon[0] for polygon in polygons if is_line(polygon)]
    coords = np.concatenate(lines) if lines else np.zeros((0, 2))
    strip = strips(coords, np.concatenate([[0], np.cumsum([len(line) for line in lines])]).astype(np.int64),
                   (side, side), wide)  # fmt: skip
    return np.maximum(areal, strip[0]), strip


def cut_classes(
    scene: ClassScene,
    rng: np.random.Generator,
    field: GaussianField,
    *,
    output: int,
    halo: int,
    coarsest: float,
    finest: int = 1,
    factor: float | None = None,
    show: Sequence[bool] | None = None,
) -> ClassPair:
    """A random pair of `output` px (plus halo); `show` says which classes are drawn, at random if not given."""
    side = output + 2 * halo
    same = int(rng.integers(2**62))
    views = [
        look(layer, np.random.default_rng(same), output, side, coarsest=coarsest, finest=finest, factor=factor)
        for layer in scene.layers
    ]
    shift = moved_off(field, rng, side, views[0].factor)
    if show is None:
        both, dice = all(len(view.true) for view in views), rng.random()
        show = (not (both and dice < ALONE[1]), not (both and dice > 1 - ALONE[0]))
    keep = rng.uniform(0.3, 1) if rng.random() < 0.4 else 1.0
    kept = [[polygon for polygon in view.true if rng.random() < keep] if shown else []
            for view, shown in zip(views, show, strict=True)]  # fmt: skip
    inner = np.s_[..., halo : halo + output, halo : halo + output]
    axis = np.arange(halo, halo + output) + 0.5
    target = np.moveaxis(shift(np.stack(np.meshgrid(axis, axis), axis=-1)), -1, 0).astype(np.float32)
    counts = views[0].counts.astype(np.float32)
    drawn, weight, across = [], [], []
    for sign in (1.0, -1.0):
        moved = [displace(polygons, lambda xy, sign=sign: sign * shift(xy)) for polygons in kept]
        drawn.append(np.stack([rasters(polygons, side)[0] for polygons in moved]))
        buildings, roads = moved
        known_all = class_weights(buildings, drawn[-1][0]) if buildings else np.zeros_like(counts)  # see `across`
        weight.append((known_all * counts)[inner])
        edges = [[ring] for polygon in roads for ring in ([polygon[0]] if is_line(polygon) else polygon)]
        across.append((_normals(edges, side) * counts)[inner])
    known = np.array(scene.known, np.float32)[:, None, None]
    return ClassPair(
        image=photometric(views[0].gray, rng),
        truth=np.stack([rasters(view.true, side)[0] for view in views]),
        seen=known * counts,
        drawn=np.stack(drawn),
        target=target,
        weight=np.stack(weight),
        across=np.stack(across),
    )


def _normals(runs: list[list[Array]], side: int) -> NDArray[np.float32]:
    """xx, xy, yy of the normals around runs of vertices, (3, side, side)."""
    lines = [run[0] for run in runs]
    coords = np.concatenate(lines) if lines else np.zeros((0, 2))
    offsets = np.concatenate([[0], np.cumsum([len(line) for line in lines])]).astype(np.int64)
    return strips(coords, offsets, (side, side), WIDE)[1:]


def to_batch(pairs: Sequence[ClassPair], device: str = "cpu") -> dict[str, Tensor]:
    """b pairs: image (b, 1, ., .), truth and seen (b, k, ., .); then for 2b samples, first ones of all pairs before
    their opposites, drawn (2b, k, ., .), target (2b, 2, ., .), weight (2b, 1, ., .), across (2b, 3, ., .)."""
    stacked = {
        each.name: torch.from_numpy(np.stack([getattr(pair, each.name) for pair in pairs])).to(device)
        for each in fields(ClassPair)
    }
    turned = {name: torch.cat([stacked[name][:, 0], stacked[name][:, 1]]) for name in ("drawn", "weight", "across")}
    return {
        "image": stacked["image"][:, None],
        "truth": stacked["truth"],
        "seen": stacked["seen"],
        "drawn": turned["drawn"],
        "target": torch.cat([stacked["target"], -stacked["target"]]),
        "weight": turned["weight"][:, None],
        "across": turned["across"],
    }
