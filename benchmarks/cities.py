"""Made-up scores of a mask network, seeded: the inputs of the kernel benchmarks.

    city      terraces of one to four houses in any direction, party walls, wobbling outlines; 18 % cover
    dense     blocks round courtyards, wall to wall, with narrow streets; half of it covered
    speckle   no order in space at all: the worst case for whatever works on runs
    walls     every pixel a building, houses of 21-25 px wall to wall: one component, all of it flooded
    roof      one building over everything, without a wall
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scene:
    """Scores of a made-up scene, uint8 (size, size): mask and touching borders, 255 · probability."""

    name: str
    mask: Bytes
    touching: Bytes


def _corners(centre: tuple[float, float], angle: float, x0: float, y0: float, x1: float, y1: float) -> NDArray:
    """Corners (4, 2) int32 of a rectangle in a frame turned by `angle` (radians) about `centre`."""
    local = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return np.rint(local @ turn + centre).astype(np.int32)


def _scores(name: str, mask: Bytes, border: Bytes, rng: np.random.Generator) -> Scene:
    """Soft, noisy scores of drawn shapes: blurred, outlines wobbling by a pixel or two, noise on every pixel."""
    size = mask.shape[0]
    few = rng.normal(0, 45, (size // 6 + 2, size // 6 + 2)).astype(np.float32)
    scores = cv2.GaussianBlur(mask, (0, 0), 1.5).astype(np.int16)
    edge = (scores > 5) & (scores < 250)
    scores[edge] += cv2.resize(few, (size, size), interpolation=cv2.INTER_CUBIC)[edge].astype(np.int16)
    scores += rng.integers(-9, 10, mask.shape, np.int16)
    touching = cv2.GaussianBlur(border, (0, 0), 1.0).astype(np.int16)
    touching += rng.integers(0, 9, mask.shape, np.int16)
    return Scene(name, np.clip(scores, 0, 255).astype(np.uint8), np.clip(touching, 0, 255).astype(np.uint8))


def city(size: int, seed: int = 0) -> Scene:
    """Terraces, one in each cell of 125 px; neighbourhoods of five by five cells share a direction."""
    rng = np.random.default_rng(seed)
    mask, border = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    cells = size // 125
    angles = rng.uniform(0, np.pi, (cells // 5 + 1, cells // 5 + 1))
    for row, column in np.ndindex(cells, cells):
        angle = angles[row // 5, column // 5]
        houses, depth = int(rng.integers(1, 5)), rng.uniform(32, 48)
        width = rng.uniform(20, 110 / max(houses, 3))
        half, jitter = houses * width / 2, max(0.0, 118 - np.hypot(houses * width, depth)) / 2
        centre = tuple(np.array([column + 0.5, row + 0.5]) * 125 + rng.uniform(-jitter, jitter, 2))
        cv2.fillConvexPoly(mask, _corners(centre, angle, -half, -depth / 2, half, depth / 2), 255)
        for house in range(1, houses):
            wall = house * width - half
            cv2.fillConvexPoly(border, _corners(centre, angle, wall - 2, -depth / 2 - 1, wall + 2, depth / 2 + 1), 255)
    return _scores("city", mask, border, rng)


def dense(size: int, seed: int = 0) -> Scene:
    """Blocks of about 250 px, turned by up to 5°, a courtyard in each, cut into houses of 18-34 px; half the cover"""
    rng = np.random.default_rng(seed)
    mask, border = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    for y in range(0, size - 250, 250):
        for x in range(0, size - 250, 250):
            centre, angle, half, court = (x + 125.0, y + 125.0), rng.uniform(-0.08, 0.08), 112, rng.uniform(30, 70)
            cv2.fillConvexPoly(mask, _corners(centre, angle, -half, -half, half, half), 255)
            cv2.fillConvexPoly(mask, _corners(centre, angle, -court, -court, court, court), 0)
            for turn in range(4):
                wall = -half + rng.uniform(half - court, half - court + 16)
                while wall < half - 12:
                    box = _corners(centre, angle + turn * np.pi / 2, wall - 2, -half - 1, wall + 2, -court + 1)
                    cv2.fillConvexPoly(border, box, 255)
                    wall += rng.uniform(18, 34)
    return _scores("dense", mask, border, rng)


def speckle(size: int, seed: int = 0) -> Scene:
    """A third of the pixels above one half, each for itself."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 256, (size, size), np.uint8)
    mask[mask <= 170] = 0
    return Scene("speckle", mask, rng.integers(0, 160, mask.shape, np.uint8))


def walls(size: int, seed: int = 0) -> Scene:
    """One component without an outside: every pixel building, and every wall a border."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(200, 256, (size, size), np.uint8)
    border = np.zeros((size, size), np.uint8)
    for axis in (0, 1):
        lines = np.cumsum(rng.integers(21, 26, size // 20))
        for wall in lines[lines < size - 4]:
            border[(slice(None),) * axis + (slice(wall - 1, wall + 2),)] = 255
    return Scene("walls", mask, border)


def roof(size: int, seed: int = 0) -> Scene:
    """One building."""
    rng = np.random.default_rng(seed)
    return Scene("roof", rng.integers(240, 256, (size, size), np.uint8), np.zeros((size, size), np.uint8))


INPUTS: dict[str, Callable[[int, int], Scene]] = {
    "city": city, "dense": dense, "speckle": lambda size, seed: speckle(size // 2, seed),
}  # fmt: skip
"""What kernels are timed on against their peers: speckle at half the side, since it takes these minutes."""

HARD: dict[str, Callable[[int, int], Scene]] = {
    "city": city, "dense": dense, "speckle": speckle, "walls": walls, "roof": roof,
}  # fmt: skip
"""What memory and time must withstand."""
