"""The split by space that every recipe uses: nothing within reach of an evaluation area is trained on."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from training.chips import LabelledScene

EVALUATION_SCENES = ("massachusetts_us_b", "zanzibar_tz_b", "catanduanes_ph_b", "rio_br_b", "bakerlake_ca_2")
"""Scenes held out whole."""

HELD_OUT_RIGHT = {"vegas_us": 0.4, "vegas_roads_us": 0.3}
"""Scenes whose right-hand share is held out."""

HELD_OUT_NORTH = ("banepa_np",)
"""Scenes with two labelled blocks, of which the northern one (the demo city) is held out."""

MARGIN_M = 10.0
"""Width of the strip around evaluation areas that neither trains nor scores."""

SET_ASIDE = {"banepa_np": 0.12}
"""Scenes of whose training area the southernmost share calibrates a network: neither trained on nor scored."""


def split(scene: LabelledScene) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Training and evaluation area of a scene: two (h, w) bool masks inside `labelled`, a margin apart."""
    labelled = scene.labelled
    nothing = np.zeros_like(labelled)
    if scene.name in EVALUATION_SCENES:
        return nothing, labelled.copy()
    if scene.name in HELD_OUT_NORTH:
        evaluate = _northern_block(labelled)
    elif scene.name in HELD_OUT_RIGHT:
        evaluate = labelled.copy()
        evaluate[:, : round(labelled.shape[1] * (1 - HELD_OUT_RIGHT[scene.name]))] = False
    else:
        return labelled.copy(), nothing
    return labelled & ~_grown(evaluate, math.ceil(MARGIN_M / scene.gsd)), evaluate


def set_aside(scene: LabelledScene, area: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """A training area (h, w) bool in two, a margin apart: what trains, and the southern strip to calibrate on."""
    if scene.name not in SET_ASIDE:
        return area, np.zeros_like(area)
    share = np.cumsum(area.sum(axis=1)) / max(int(area.sum()), 1)
    row = int(np.searchsorted(share, 1 - SET_ASIDE[scene.name]))
    north, south = area.copy(), area.copy()
    north[max(row - math.ceil(MARGIN_M / scene.gsd), 0) :] = False
    south[:row] = False
    return north, south


def _northern_block(labelled: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected labelled block that begins farthest north; specks under 1 % of the area are no block."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(labelled.astype(np.uint8), connectivity=8)
    blocks = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= 0.01 * labelled.sum()]
    if len(blocks) < 2:
        return np.zeros_like(labelled)
    north = min(blocks, key=lambda i: int(stats[i, cv2.CC_STAT_TOP]))
    return np.asarray(labels == north)


def _grown(mask: NDArray[np.bool_], margin: int) -> NDArray[np.bool_]:
    """Pixels within `margin` px of the mask, diagonals included."""
    import cv2

    kernel = np.ones((2 * margin + 1, 1), np.uint8)
    tall = cv2.dilate(mask.astype(np.uint8), kernel)
    return np.asarray(cv2.dilate(tall, kernel.reshape(1, -1)) > 0)
