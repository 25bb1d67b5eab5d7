"""Alignment (Zampieri et al. 2018): polygons move onto the image, from coarse factors to fine ones.

At every step the polygons *as moved so far* are drawn at the step's pyramid level, the double U-Net says
for each drawn pixel which way its polygon lies in the image, and the polygons move by that field:

    draw → predict on fixed windows → sums over 4 × 4 px → smooth (normalised convolution) → sample at vertices

The network's answer means something only where something is drawn, so it is kept as weighted sums and
the field is their normalised convolution. Sums over cells of 4 × 4 px lose nothing that the smoothing
(σ ≥ 24 px) would keep, and are a sixteenth of the data. Everything happens per fixed window or per fixed
block of polygons: no number depends on how the scene was cut into tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.drawing import OUTLINE, draw_cadaster, mark_vertices
from pipeline.footprints import offsets_of, ranges
from pipeline.grid import Window
from pipeline.kernels import sample, smooth
from pipeline.networks import FORWARD_LOCK, centre_crop

if TYPE_CHECKING:
    import torch

VERSION = 3
CELL = 4
"""Side, in px of the step's level, of the cells over which the weighted field is summed."""
SIGMAS = {8: 24.0, 4: 24.0, 2: 48.0, 1: 48.0}
"""Standard deviation, px of the step's level, of the smoothing Gaussian: by factor, as on the model card."""
REACH = 3.3
"""Reach of the smoothing in standard deviations."""
FILL_WEIGHT, EDGE_WEIGHT = 0.1, 1.0
"""Trust in the network's answer inside a drawn polygon and on its outline, where the image has evidence."""
EPSILON = 1e-3
"""Weight below which the smoothed field fades to no displacement: far from every polygon."""
SPREAD_SCALE = 2.0
"""Disagreement of the field around a vertex, px, at which confidence has fallen to exp(-1/2)."""

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Step:
    """One prediction and one move: pyramid `factor`, and which `round` at that factor (from 1)."""

    factor: int
    round: int

    @property
    def name(self) -> str:
        """Name of the step's arrays and receipts, e.g. `align-f8p1`."""
        return f"align-f{self.factor}p{self.round}"

    @property
    def source(self) -> str:
        """The phase that makes what the step's move is made from."""
        return f"{self.name}-field"


def plan_steps(rounds: Mapping[int, int], coarsest: int) -> tuple[Step, ...]:
    """Steps from coarse to fine: each factor of `rounds` that often, none coarser than factor `coarsest`."""
    factors = [factor for factor in sorted(rounds, reverse=True) if factor <= max(coarsest, 1)]
    return tuple(Step(factor, turn) for factor in factors for turn in range(1, rounds[factor] + 1))


@dataclass(frozen=True, slots=True)
class Drawing:
    """Polygons to draw: ragged rings in px of the step's level, and each polygon's bounding box.

    `coords` (n, 2) float64, `ring_offsets` and `polygon_offsets` int64, `boxes` (polygons, 4) float64 as
    x0, y0, x1, y1.
    """

    coords: Float64
    ring_offsets: NDArray[np.int64]
    polygon_offsets: NDArray[np.int64]
    boxes: Float64

    def inside(self, window: Window) -> Drawing | None:
        """Polygons whose box meets `window`, with coordinates relative to its corner; None if there is none.

        The shift is by whole pixels of a fixed window, so a polygon is drawn alike whatever the tile.
        """
        x0, y0, x1, y1 = self.boxes.T
        # a pixel more: vertices are rounded when they are drawn, and an outline just outside may come in
        near = window.grow(1)
        hit = np.flatnonzero((x0 < near.x1) & (x1 > near.x0) & (y0 < near.y1) & (y1 > near.y0))
        if hit.size == 0:
            return None
        rings = ranges(self.polygon_offsets[hit], self.polygon_offsets[hit + 1])
        points = ranges(self.ring_offsets[rings], self.ring_offsets[rings + 1])
        return Drawing(
            self.coords[points] - (window.x0, window.y0),
            offsets_of(np.diff(self.ring_offsets)[rings]),
            offsets_of(np.diff(self.polygon_offsets)[hit]),
            self.boxes[hit],
        )


def weights_of(drawn: Float32) -> Float32:
    """How much each drawn pixel's displacement counts: outline pixels fully, inner ones a little."""
    return np.where(drawn == OUTLINE, EDGE_WEIGHT, np.where(drawn > 0, FILL_WEIGHT, 0.0)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class FieldNetwork:
    """A network as the chain calls it at one factor: `call(image, rasters)` gives the field, (1, 2, h, w).

    `rasters` makes its rasters of the polygons from the drawn cadaster and the marked vertices, all (1, k, H, W);
    None where the drawn cadaster is all it reads.
    """

    call: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    rasters: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None


def network_at(network: Any, factor: int, symmetry: bool) -> FieldNetwork:
    """A card's network at `factor`: of one a scale the factor's own; with `symmetry` the mean over the eight turns
    and mirrorings of its input (Zampieri et al. 2018)."""
    from models.successor_unet import SuccessorUNet, polygon_rasters
    from models.symmetry import symmetric

    at = network.at(factor) if hasattr(network, "at") else network
    call, rasters = (at.displace, polygon_rasters) if isinstance(at, SuccessorUNet) else (at, None)
    return FieldNetwork(symmetric(call, at.stride) if symmetry else call, rasters)


def predict_window(
    network: FieldNetwork,
    gray: Float32,
    drawing: Drawing,
    window: Window,
    halo: int,
    factor: int,
    device: str,
) -> Float32 | None:
    """The weighted field of one fixed window: (4, side/4, side/4) float32, or None if nothing is drawn in it.

    `gray` (side + 2 halo, side + 2 halo) float32 in 0–1. Channels: Σ w·dx, Σ w·dy (px of level 1, x right,
    y down), Σ w, Σ w·|d|².
    """
    read = window.grow(halo)
    seen = drawing.inside(read)
    if seen is None:
        return None
    drawn = draw_cadaster(seen.coords, seen.ring_offsets, seen.polygon_offsets, (read.height, read.width))
    weight = weights_of(centre_crop(drawn, window.height))
    if not weight.any():
        return None
    field = displacement(network, gray, drawn, seen.coords, device) * np.float32(factor)
    field = centre_crop(field, window.height)
    sums = np.stack((weight * field[0], weight * field[1], weight, weight * (field**2).sum(axis=0)))
    cells = window.height // CELL
    return sums.reshape(4, cells, CELL, cells, CELL).sum(axis=(2, 4), dtype=np.float32)


def displacement(
    network: FieldNetwork, gray: Float32, drawn: Float32, coords: Float64, device: str
) -> Float32:
    """The network's field (2, h, w), px of its own level, for one window of image and drawn cadaster, whose
    vertices are `coords` (n, 2) px of the window."""
    import torch

    with torch.inference_mode(), FORWARD_LOCK:
        image = torch.from_numpy(gray)[None, None].to(device)
        cadaster = torch.from_numpy(drawn)[None, None].to(device)
        if network.rasters is not None:
            marks = torch.from_numpy(mark_vertices(coords, drawn.shape))[None, None].to(device)
            cadaster = network.rasters(cadaster, marks)
        answer: Float32 = network.call(image, cadaster)[0].float().cpu().numpy()
    return answer


def radius_of(factor: int) -> int:
    """Reach, in cells, of the smoothing at a factor."""
    return int(np.ceil(REACH * SIGMAS[factor] / CELL))


def smooth_field(sums: Float32, factor: int) -> Float32:
    """Normalised convolution of weighted sums (4, h, w): dx, dy (px of level 1), spread (px), weight.

    Spread is the weighted standard deviation of the displacements around a place: how much the
    evidence there disagrees with itself.
    """
    wide = smooth.gaussian(sums, SIGMAS[factor] / CELL, radius_of(factor))
    weight = wide[2]
    field = wide[:2] / (weight + np.float32(EPSILON))
    square = wide[3] / (weight + np.float32(EPSILON))
    spread = np.sqrt(np.maximum(square - (field**2).sum(axis=0), 0.0))
    return np.concatenate((field, spread[None], weight[None])).astype(np.float32)


def cells_around(box: tuple[float, float, float, float], factor: int) -> Window:
    """Window of cells that the smoothed field needs over a box (x0, y0, x1, y1) in px of level 1."""
    side, margin = factor * CELL, radius_of(factor) + 2
    x0, y0 = int(np.floor(box[0] / side)) - margin, int(np.floor(box[1] / side)) - margin
    x1, y1 = int(np.ceil(box[2] / side)) + margin, int(np.ceil(box[3] / side)) + margin
    return Window(y0, x0, y1 - y0, x1 - x0)


def move(xy: Float64, field: Float32, region: Window, factor: int) -> tuple[Float64, Float64]:
    """Points (n, 2) px of level 1, moved by a smoothed field over `region` (cells); and confidence (n).

    The field is sampled bilinearly at the points where they are now: composition of the steps' fields.
    """
    at = xy / (factor * CELL) - (region.x0, region.y0)
    value = sample.bilinear(field, at)
    return xy + value[:, :2], confidence_of(value[:, 2], value[:, 3], factor)


def confidence_of(spread: Float64, weight: Float64, factor: int) -> Float64:
    """Confidence 0–1 from the field's disagreement and from whether there was evidence at all."""
    return np.exp(-0.5 * (spread / (SPREAD_SCALE * factor)) ** 2) * (weight / (weight + EPSILON))


def cell_windows(core: Window) -> Window:
    """A core's window in cells."""
    return Window(core.y0 // CELL, core.x0 // CELL, -(-core.height // CELL), -(-core.width // CELL))
