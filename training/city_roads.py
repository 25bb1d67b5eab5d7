"""Procedural scenes of roads: streets, country roads, dual carriageways and car parks, with houses beside them.

`training.city` draws one kind of street, gray and bare, and is what buildings are learned from; here roads have
many looks (asphalt to dirt, lighter or darker than what is beside them, with and without pavements, markings,
medians, cars, trees that hide them), and there are things that look like roads and are none (paths, hedges,
edges of fields, drives). Seeded and deterministic: the same arguments give the same scene.

    road_scene   one scene with its labels, as every recipe reads them
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.chips import LabelledScene
from training.city_roads_draw import SHIFT, Canvas, Road, fixed

Floats = NDArray[np.float64]
KINDS = ("streets", "streets", "country", "car park")
"""What a scene may be; streets twice as often."""


def road_scene(side: int, gsd: float, seed: int, kind: str | None = None) -> LabelledScene:
    """A scene of `side` px at `gsd` metres, complete in its roads and houses; `kind` is one of KINDS."""
    rng = np.random.default_rng([seed, 11])
    kind = str(rng.choice(KINDS)) if kind is None else kind
    roads = _bent({"country": _country, "car park": _car_park}.get(kind, _streets)(side, gsd, rng), side, gsd, rng)
    canvas = Canvas(side, rng)
    for _ in range(int(rng.integers(0, 10))):
        canvas.field(gsd)
    canvas.roads(roads, gsd, aisles=kind == "car park")
    houses = _houses(roads, side, gsd, rng, sparse=kind != "streets")
    canvas.houses(houses, gsd)
    canvas.trees(roads, houses, gsd)
    counts = np.full(len(houses), 5)
    coords = np.concatenate([np.concatenate([house, house[:1]]) for house in houses]) if houses else np.zeros((0, 2))
    whole = np.ones((side, side), bool)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return LabelledScene(
        f"roads_{seed}", gsd, canvas.image(), whole, whole, coords, offsets, np.arange(len(houses) + 1),
        tuple(road.line for road in roads),
    )  # fmt: skip


def _streets(side: int, gsd: float, rng: np.random.Generator) -> list[Road]:
    """A grid with streets left out, some narrow, some dual carriageways (two lines)."""
    half = 0.75 * side
    families = []
    for _ in range(2):
        gaps = rng.uniform(38, 130, 60) / gsd
        at = np.cumsum(gaps) - rng.uniform(0, gaps[0])
        families.append(at[at < 2 * half] - half)
    us, vs = families
    angle = rng.uniform(0, np.pi)
    axis = np.array([np.cos(angle), np.sin(angle)])
    skew = angle + np.pi / 2 + rng.normal(0, 0.12)
    other = np.array([np.cos(skew), np.sin(skew)])
    jitter = rng.normal(0, 3 / gsd, (len(us), len(vs), 2))
    node = us[:, None, None] * axis + vs[None, :, None] * other + jitter + side / 2
    roads = []
    for along in (0, 1):
        for k in range(node.shape[1 - along]):
            line = node[:, k] if along == 0 else node[k]
            width, look = float(rng.choice([4, 5.5, 6, 7, 9, 13])) / gsd, int(rng.integers(0, 3))
            if width * gsd > 12 and rng.random() < 0.7:  # two carriageways with a strip between them
                apart = np.array([-(line[-1] - line[0])[1], (line[-1] - line[0])[0]])
                apart = apart / np.maximum(np.hypot(*apart), 1e-9) * rng.uniform(6, 9) / gsd
                if len(line) == 1:  # a small scene, that no other street crosses
                    continue
                roads += [Road(line + apart, width * 0.6, look), Road(line - apart, width * 0.6, look)]
                continue
            for a, b in zip(line[:-1], line[1:], strict=True):
                if rng.random() < 0.85:
                    roads.append(Road(np.array([a, b]), width, look))
    return roads


def _country(side: int, gsd: float, rng: np.random.Generator) -> list[Road]:
    """A few long winding roads, each after the first beginning at another one's bend."""
    roads: list[Road] = []
    for k in range(int(rng.integers(2, 7))):
        angle, step = rng.uniform(0, 2 * np.pi), 14 / gsd
        start = rng.uniform(0.2, 0.8, 2) * side
        if k:
            other = roads[rng.integers(len(roads))].line
            start = other[rng.integers(len(other))]
        turns = rng.normal(0, 0.10, int(2 * side / step)).cumsum() * (rng.random() < 0.8)
        width, look = float(rng.choice([2.5, 3.5, 4.5, 6, 8])) / gsd, int(rng.integers(0, 3))
        for sign in (1.0, -1.0) if k == 0 or rng.random() < 0.5 else (1.0,):
            heading = angle + (0 if sign > 0 else np.pi) + turns
            path = np.cumsum(np.column_stack([np.cos(heading), np.sin(heading)]) * step, axis=0) + start
            beyond = np.flatnonzero(((path < -0.1 * side) | (path > 1.1 * side)).any(1))
            line = np.concatenate([start[None], path[: beyond[0] + 1 if len(beyond) else None]])
            if len(line) > 2:
                roads.append(Road(line, width, look))
    return roads


def _car_park(side: int, gsd: float, rng: np.random.Generator) -> list[Road]:
    """Aisles between two cross roads, and a street beside them."""
    angle = rng.uniform(0, np.pi)
    axis = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    roads, half = [], 0.75 * side
    pitch, width, rows = rng.uniform(15.5, 24) / gsd, rng.uniform(5.5, 8) / gsd, [-half]
    while rows[-1] < half:
        rows.append(rows[-1] + rng.uniform(45, 110) / gsd)
    for k, (low, high) in enumerate(zip(rows[:-1], rows[1:], strict=True)):
        look = int(k % 3 == 2 and rng.random() < 0.5)
        roads.append(Road(np.array([[-half, low], [half, low]]), float(rng.choice([7, 8, 11])) / gsd, look))
        if k % 3 == 2:
            continue
        for u in np.arange(-half, half, pitch) + rng.uniform(0, pitch):
            if rng.random() < 0.93:
                roads.append(Road(np.array([[u, low], [u, high]]), width, 0))
    return [Road(road.line @ axis + side / 2, road.width, road.look) for road in roads]


def _bent(roads: list[Road], side: int, gsd: float, rng: np.random.Generator) -> list[Road]:
    """The roads that meet the scene, with a vertex each 12 m, on a plane that is bent smoothly, or not at all."""
    reach = rng.uniform(0, 18, 2) / gsd * (rng.random() < 0.7)
    period, phase = rng.uniform(120, 420, 2) / gsd, rng.uniform(0, 2 * np.pi, 2)

    def bend(xy: Floats) -> Floats:
        return xy + reach * np.sin(2 * np.pi * xy[:, ::-1] / period + phase)

    kept = []
    for road in roads:
        ends = np.hypot(*np.diff(road.line, axis=0).T)
        at = np.concatenate([[0], np.cumsum(ends)])
        wanted = np.unique(np.concatenate([at, np.arange(0, at[-1], 12 / gsd)]))
        line = bend(np.column_stack([np.interp(wanted, at, road.line[:, k]) for k in (0, 1)]))
        if ((line > 0) & (line < side)).all(1).any():
            kept.append(Road(line, road.width, road.look))
    return kept


def _houses(roads: list[Road], side: int, gsd: float, rng: np.random.Generator, sparse: bool) -> list[Floats]:
    """Rectangles along the roads, (4, 2) px each, none on a road or on another."""
    taken = np.zeros((side, side), np.uint8)
    for road in roads:
        cv2.polylines(taken, [fixed(road.line)], False, 1, max(1, round(road.width + 2 / gsd)), shift=SHIFT)
    houses: list[Floats] = []
    often = rng.uniform(0.0, 0.25) if sparse else rng.uniform(0.3, 0.95)
    large = rng.random() < 0.25
    for road in roads:
        step = np.diff(road.line, axis=0)
        for at, along in zip(road.line, step / np.maximum(np.hypot(*step.T), 1e-9)[:, None], strict=False):
            for sign in (-1.0, 1.0):
                if rng.random() > often:
                    continue
                half = rng.uniform((8, 6) if large else (4, 3.5), (22, 14) if large else (8, 6.5)) / gsd
                across = sign * np.array([-along[1], along[0]])
                middle = at + across * (road.width / 2 + half[1] + rng.uniform(2, 9) / gsd)
                a, b = along * half[0], across * half[1]
                house = middle + np.array([a + b, a - b, -a - b, b - a])
                if ((house < 2) | (house > side - 2)).any():
                    continue
                spot = np.zeros_like(taken)
                cv2.fillPoly(spot, [fixed(house)], 1, shift=SHIFT)
                if not (taken & spot).any():
                    taken |= spot
                    houses.append(house)
    return houses
