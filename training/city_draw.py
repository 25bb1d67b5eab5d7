"""The image of a procedural city, drawn in blocks of fixed size: what a block shows depends on the plan alone."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.city import Plan, ring_slices

BLOCK = 1024
"""Side of the blocks, px."""

REACH = 48
"""Pixels around a block in which things are drawn that may show in it."""

SHIFT = 4
"""Fractional bits of cv2's coordinates."""

ROOFS = np.array(
    [(168, 92, 72), (150, 78, 60), (186, 120, 94), (128, 126, 124), (96, 96, 100), (196, 192, 184), (222, 220, 214),
     (118, 110, 98), (90, 118, 140), (140, 150, 130), (206, 180, 140)], np.float64)  # fmt: skip
GROUNDS = np.array([(150, 140, 118), (118, 128, 92), (132, 126, 112), (168, 158, 138)], np.float64)
ROADS = np.array([(104, 106, 110), (84, 86, 92), (124, 124, 124), (150, 142, 128)], np.float64)
GREENS = np.array([(52, 78, 42), (70, 92, 50), (88, 106, 62), (44, 64, 40)], np.float64)


def draw(plan: Plan, labels: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.int32] | None]:
    """The image (3, h, w) uint8 and, if asked for, the instance labels (h, w) int32 (polygon index + 1)."""
    height, width = plan.shape
    image = np.zeros((3, height, width), np.uint8)
    instances = np.zeros((height, width), np.int32) if labels else None
    look = _look(plan)
    for y in range(0, height, BLOCK):
        for x in range(0, width, BLOCK):
            h, w = min(BLOCK, height - y), min(BLOCK, width - x)
            image[:, y : y + h, x : x + w] = _block(plan, look, y, x)[:h, :w].transpose(2, 0, 1)
            if instances is not None:
                instances[y : y + h, x : x + w] = _instances(plan, look, y, x)[:h, :w]
    return image, instances


def _look(plan: Plan) -> dict[str, Any]:
    """Colours, trees, light and the lists that blocks are drawn from."""
    rng = np.random.default_rng([plan.seed, 2])
    polygons, blocks = len(plan.polygon_offsets) - 1, len(plan.blocks)
    palette = ROOFS[rng.choice(len(ROOFS), size=5, replace=False)]
    rings = ring_slices(plan.ring_offsets)
    parts = ring_slices(plan.polygon_offsets)
    low = np.array([plan.coords[rings[p.start]].min(0) for p in parts]).reshape(-1, 2)
    high = np.array([plan.coords[rings[p.start]].max(0) for p in parts]).reshape(-1, 2)
    angle = rng.uniform(0, 2 * np.pi)
    centre, spread = plan.blocks.mean(1), np.ptp(plan.blocks, axis=1)
    trees = rng.poisson(np.where(plan.parks, 60, rng.choice([4, 12, 25])), blocks)
    which = np.repeat(np.arange(blocks), trees)
    places = centre[which] + rng.uniform(-0.5, 0.5, (len(which), 2)) * spread[which]
    lit = rng.normal(0, 4, (512, 512, 3)) + rng.normal(0, 6, (512, 512, 1))
    clouds = np.pad(rng.normal(0, 6, (16, 16)), 2, mode="wrap")  # so that the noise tiles without a seam
    coarse = cv2.resize(clouds, (640, 640), interpolation=cv2.INTER_CUBIC)[64:-64, 64:-64, None]
    return {
        "rings": [[plan.coords[r] for r in rings[p]] for p in parts],
        "low": low,
        "high": high,
        "roof": palette[rng.integers(0, 5, polygons)] + rng.normal(0, (14, 6, 6), (polygons, 3)).cumsum(1),
        "light": (np.cos(angle), np.sin(angle)),
        "slope": rng.uniform(0.35, 0.9) / plan.gsd,
        "ground": GROUNDS[rng.integers(len(GROUNDS))] + rng.normal(0, (10, 4, 4), (blocks, 3)).cumsum(1),
        "road": ROADS[rng.integers(len(ROADS))] + rng.normal(0, 5, 3),
        "trees": places,
        "radius": rng.uniform(1.2, 4.5, len(places)) / plan.gsd,
        "green": GREENS[rng.integers(0, len(GREENS), len(places))] + rng.normal(0, 6, (len(places), 3)),
        "noise": (lit + coarse).astype(np.float32),
        "gain": rng.uniform(0.75, 1.15) * rng.normal(1, 0.05, 3),
        "haze": rng.uniform(0, 30),
        "blur": rng.uniform(0.3, 0.9),
        "cars": rng.random() < 0.7,
    }


def _block(plan: Plan, look: dict[str, Any], y: int, x: int) -> NDArray[np.uint8]:
    """The block at (y, x), (BLOCK, BLOCK, 3) uint8: drawn twice as fine, then averaged."""
    side = 2 * (BLOCK + 2 * REACH)
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = look["road"].clip(0, 255)
    origin = np.array([x - REACH, y - REACH])

    def fixed(xy: NDArray[np.float64]) -> NDArray[np.int32]:
        return np.round((2 * (xy - origin) - 0.5) * (1 << SHIFT)).astype(np.int32)

    def fill(shapes: list[NDArray[np.float64]], colour: Any) -> None:
        cv2.fillPoly(
            canvas,
            [fixed(s) for s in shapes],
            tuple(float(c) for c in np.clip(colour, 0, 255)),
            cv2.LINE_8,
            SHIFT,
        )

    for i in _near(plan.blocks.min(1), plan.blocks.max(1), origin, side):
        fill([plan.blocks[i]], look["ground"][i] if not plan.parks[i] else (84, 104, 60))
    shown = _near(look["low"], look["high"], origin, side)
    shadow = np.array(look["light"]) * look["slope"]
    for i in shown:
        reach = shadow * plan.heights[i]
        for share in (0.33, 0.66, 1.0):
            fill([look["rings"][i][0] + share * reach], look["road"] * 0.42)
    for i in shown:
        fill(look["rings"][i], look["roof"][i])
        half = plan.halves[i]
        if not np.isnan(half[0, 0]):
            outward = (half[0] + half[1] - half[2] - half[3]) @ np.array(look["light"])
            fill([half], look["roof"][i] * (0.78 if outward > 0 else 1.16))
        elif i % 3 == 0:  # a lift house or a tank on a flat roof
            ring = look["rings"][i][0]
            corner = ring[0] * 0.8 + ring[2] * 0.2
            fill([corner + np.array([(0, 0), (2, 0), (2, 2), (0, 2)]) / plan.gsd], look["roof"][i] * 0.7)
    for i in _near(look["trees"] - REACH / 2, look["trees"] + REACH / 2, origin, side):
        place, radius = look["trees"][i], look["radius"][i]
        for offset, share, colour in ((shadow * 2, 1.0, look["green"][i] * 0.45), (0 * shadow, 1.0, look["green"][i]),
                                      (-shadow * 0.5, 0.55, look["green"][i] * 1.3)):  # fmt: skip
            cv2.circle(canvas, tuple(int(v) for v in fixed(place + offset)), round(2 * radius * share * (1 << SHIFT)),
                       tuple(float(c) for c in colour.clip(0, 255)), -1, cv2.LINE_8, SHIFT)  # fmt: skip
    if look["cars"]:
        _cars(plan, look, fill, origin, side)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 2 * look["blur"])
    small = cv2.resize(canvas, (side // 2, side // 2), interpolation=cv2.INTER_AREA)[REACH:-REACH, REACH:-REACH]
    noise = np.tile(look["noise"], (BLOCK // 512, BLOCK // 512, 1))
    return np.clip((small + noise) * look["gain"] + look["haze"], 0, 255).astype(np.uint8)


def _cars(plan: Plan, look: dict[str, Any], fill: Any, origin: NDArray[Any], side: int) -> None:
    """Cars along the streets, at places that follow from the street and not from the block."""
    for k, (road, width) in enumerate(zip(plan.roads, plan.road_widths, strict=True)):
        rng = np.random.default_rng([plan.seed, 3, k])
        step = np.diff(road, axis=0)
        along = step / np.hypot(*step.T)[:, None]
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)
        places = road[:-1] + across * (rng.choice([-0.3, 0.3], len(step)) * width)[:, None]
        tints = rng.uniform(30, 240, (len(step), 1)) + rng.normal(0, 15, (len(step), 3))
        there = rng.random(len(step)) < 0.4
        for i in np.flatnonzero(there & ((places > origin) & (places < origin + side / 2)).all(1)):
            a, b = along[i] * 2.1 / plan.gsd, across[i] * 0.9 / plan.gsd
            fill([places[i] + np.array([a + b, a - b, -a - b, b - a])], tints[i])


def _instances(plan: Plan, look: dict[str, Any], y: int, x: int) -> NDArray[np.int32]:
    """Labels of the block at (y, x): each building over its pixels, the border to a neighbour to the later one."""
    out = np.zeros((BLOCK, BLOCK), np.int32)
    origin = np.array([x, y])
    for i in _near(look["low"], look["high"], origin, 2 * BLOCK):
        rings = [np.round((r - origin - 0.5) * (1 << SHIFT)).astype(np.int32) for r in look["rings"][i]]
        cv2.fillPoly(out, rings, int(i) + 1, cv2.LINE_8, SHIFT)
    return out


def _near(low: NDArray[Any], high: NDArray[Any], origin: NDArray[Any], side: int) -> NDArray[np.int64]:
    """Indices of the boxes that meet the canvas."""
    return np.flatnonzero((high > origin).all(1) & (low < origin + side / 2).all(1))
