"""Targets of the classification: one code a pixel that says which classes it may be.

Few scenes have every class labelled. Where only buildings are known, a pixel outside them is road or
background, and the loss asks for the sum of the two; likewise where only roads are known.

    code            allowed classes             where it comes from
    BUILDING        building                    a building polygon
    ROAD            road                        a road polygon, or the inner part of a road drawn from its centre line
    BACKGROUND      background                  neither, in a scene where both are labelled
    NOT_BUILDING    road, background            outside the buildings of a scene without roads
    NOT_ROAD        building, background        far from the roads of a scene without buildings
    UNKNOWN         any: no loss                outside the labels, nodata, the verges of a road of unknown width
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.chips import LabelledScene, Ragged
from training.targets import label_image

BUILDING, ROAD, BACKGROUND, NOT_BUILDING, NOT_ROAD, UNKNOWN = range(6)

ALLOWED = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=torch.bool)
"""(code, class) -> whether a pixel of that code may be of that class; classes building, road, background."""

ROAD_CORE_M, ROAD_VERGE_M = 6.0, 16.0
"""Around a centre line of unknown width: surely road within 3 m of it, surely none beyond 8 m."""


def scene_codes(scene: LabelledScene, area: NDArray[np.bool_], gsd: float) -> NDArray[np.uint8]:
    """Codes (H, W) uint8 of a scene on a grid of `gsd` metres; UNKNOWN outside `area` (h, w) bool of the scene."""
    import cv2

    scale = scene.gsd / gsd
    shape = grid_shape(scene.image.shape[1:], scale)
    inside = cv2.resize((area & scene.valid).astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) > 0.99
    built = scene.polygons > 0
    paved = bool(scene.roads) or "road" in scene.class_polygons
    codes = np.full(shape, BACKGROUND if built and paved else NOT_BUILDING if built else NOT_ROAD, np.uint8)
    if scene.roads:
        codes[draw_lines(scene.roads, ROAD_VERGE_M / gsd, shape, scale)] = UNKNOWN
        codes[draw_lines(scene.roads, ROAD_CORE_M / gsd, shape, scale)] = ROAD
    for name, code in (("class_255", UNKNOWN), ("road", ROAD), ("building", BUILDING)):
        if name in scene.class_polygons:
            codes[covered(scene.class_polygons[name], shape, scale)] = code
    codes[covered((scene.coords, scene.ring_offsets, scene.polygon_offsets), shape, scale)] = BUILDING
    codes[~inside] = UNKNOWN
    return codes


def no_road_by_colour(image: NDArray[np.uint8], brown: bool = False) -> NDArray[np.bool_]:
    """Pixels (H, W) of a stretched image (3, H, W) uint8 that are no road by their colour.

    Vegetation (excess green, averaged over some 4 px) everywhere; `brown`: leafless wood and soil too, where
    the roads are known to be gray. For training only: it turns NOT_BUILDING into BACKGROUND.
    """
    import cv2

    smooth = cv2.GaussianBlur(image.transpose(1, 2, 0).astype(np.float32), (0, 0), 2)
    red, green, blue = smooth[..., 0], smooth[..., 1], smooth[..., 2]
    total = red + green + blue + 30
    found = (2 * green - red - blue) / total > 0.10
    return np.asarray(found | ((red - blue) / total > 0.06) if brown else found)


def grid_shape(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    """(height, width) of a raster resampled by `scale`."""
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def covered(polygons: Ragged, shape: tuple[int, int], scale: float) -> NDArray[np.bool_]:
    """Pixels of the grid whose centre lies in a polygon, holes left out."""
    return np.asarray(label_image(*polygons, shape, scale) > 0)


def draw_lines(
    lines: tuple[NDArray[np.float64], ...],
    width: float | NDArray[np.float64],
    shape: tuple[int, int],
    scale: float = 1.0,
) -> NDArray[np.bool_]:
    """Lines (n, 2) px, `scale`d to the grid, drawn `width` px of the grid wide (one width, or one a line)."""
    import cv2

    mask = np.zeros(shape, np.uint8)
    for line, wide in zip(lines, np.broadcast_to(width, len(lines)), strict=True):
        points = np.round((line * scale - 0.5) * 16).astype(np.int32)
        cv2.polylines(mask, [points], False, 1, max(1, round(float(wide))), cv2.LINE_8, 4)
    return mask > 0


def partial_loss(scores: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    """Mean of -log(sum of the probabilities of the allowed classes), weighted by code.

    scores (B, 3, H, W) before the softmax; codes (B, H, W) int64; weights (6,) float, that of UNKNOWN is not used.
    Zero where nothing is known.
    """
    allowed = ALLOWED.to(scores.device)[codes].permute(0, 3, 1, 2)
    log_p = F.log_softmax(scores, dim=1).masked_fill(~allowed, -torch.inf)
    weight = weights.to(scores)[codes] * (codes != UNKNOWN)
    return -(torch.logsumexp(log_p, dim=1) * weight).sum() / weight.sum().clamp(min=1)
