"""Towns drawn for the alignment: houses of any turn and brightness on a flat ground, with their outlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Town:
    """`image` (side, side) float32 in 0..1; `coords` (n, 2) px and `ring_offsets` (q + 1,): true closed outlines."""

    image: np.ndarray
    coords: np.ndarray
    ring_offsets: np.ndarray

    def level(self, factor: int) -> np.ndarray:
        """The image with pixels `factor` times as wide."""
        side = self.image.shape[0] // factor
        return self.image.reshape(side, factor, side, factor).mean(axis=(1, 3), dtype=np.float32)


def houses(side: int, seed: int, margin: int = 60, pitch: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Outlines of one house each `pitch` px, none within `margin` - `pitch` px of the border: coords, ring_offsets."""
    rng, rings = np.random.default_rng(seed), []
    for y in range(margin, side - margin + 1, pitch):
        for x in range(margin, side - margin + 1, pitch):
            width, height = rng.uniform(22, 40, 2)
            turn = rng.uniform(0, np.pi)
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * (width, height) / 2
            rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            rings.append(corners @ rotation.T + (x, y) + rng.uniform(-9, 9, 2))
    return np.concatenate(rings), np.arange(len(rings) + 1) * 5


def draw_town(side: int, seed: int, margin: int = 60) -> Town:
    """A town as a camera sees it: a little blurred, a little noise."""
    import cv2

    rng = np.random.default_rng(seed)
    coords, ring_offsets = houses(side, seed, margin)
    image = np.full((side, side), 0.35, np.float32)
    for start, stop in zip(ring_offsets[:-1], ring_offsets[1:], strict=True):
        corners = np.round((coords[start:stop] - 0.5) * 16).astype(np.int32)  # 1/16 px; centres at whole numbers
        cv2.fillPoly(image, [corners], float(rng.uniform(0.55, 0.95)), cv2.LINE_8, 4)
    image = cv2.GaussianBlur(image, (0, 0), 0.7) + rng.normal(0, 0.03, image.shape)
    return Town(np.clip(image, 0, 1).astype(np.float32), coords, ring_offsets)


def draw_noise(side: int, seed: int, margin: int = 60) -> Town:
    """An image of nothing, with the outlines that a town of the same seed has."""
    image = np.random.default_rng(seed).random((side, side), np.float32)
    return Town(image, *houses(side, seed, margin))
