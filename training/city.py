"""Procedural cities: seeded, deterministic, of any size; for training, tests and benchmarks.

A city is laid out in metres on a street grid (u along the streets, v across), block by block: terraces with
party walls, blocks around a courtyard, detached houses, halls, parks. One smooth elementwise map then turns and
bends the plane into pixels, so that vertices that two houses share are shared to the bit.

    plan_city    polygons and streets only: 100 000 houses in seconds
    city         the plan and its image, drawn block by block (`training.city_draw`)
    cadaster_rows  the plan as WKB rows with everything that a real cadaster has wrong
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ring = list[tuple[float, float]]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """A city without its image; coordinates in px, (0, 0) the outer corner of the top-left pixel.

    shape            (height, width) px; gsd in metres
    coords, ring_offsets, polygon_offsets   ragged building polygons, shells first, rings closed
    heights          (polygons,) float64, metres
    halves           (polygons, 4, 2) px: the side of the roof that lies in the light; NaN on flat roofs
    roads            centre lines, each (n, 2) px; road_widths (roads,) px
    blocks           (blocks, 4, 2) px: the ground between the streets; parks (blocks,) bool
    """

    shape: tuple[int, int]
    gsd: float
    seed: int
    coords: Floats
    ring_offsets: Ints
    polygon_offsets: Ints
    heights: Floats
    halves: Floats
    roads: tuple[Floats, ...]
    road_widths: Floats
    blocks: Floats
    parks: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class City:
    """A plan with its image (3, h, w) uint8 and, where asked for, instance labels (h, w) int32 (polygon index + 1)."""

    image: NDArray[np.uint8]
    coords: Floats
    ring_offsets: Ints
    polygon_offsets: Ints
    labels: NDArray[np.int32] | None
    roads: tuple[Floats, ...]
    road_widths: Floats
    gsd: float
    plan: Plan


def city(shape: tuple[int, int], gsd: float, seed: int, density: float = 0.6, labels: bool = False) -> City:
    """A city of `shape` (height, width) px at `gsd` metres; `density` in 0..1 from gardens to terraces."""
    from training.city_draw import draw

    plan = plan_city(shape, gsd, seed, density)
    image, instances = draw(plan, labels)
    return City(image, plan.coords, plan.ring_offsets, plan.polygon_offsets, instances, plan.roads,
                plan.road_widths, gsd, plan)  # fmt: skip


def plan_city(shape: tuple[int, int], gsd: float, seed: int, density: float = 0.6) -> Plan:
    """The polygons and streets of a city; the same for the same arguments, on any machine."""
    rng = np.random.default_rng(seed)
    to_px = _map(shape, gsd, rng)
    half = 0.5 * float(np.hypot(*shape)) * gsd + 30  # the grid covers the raster however it is turned
    us, vs = _streets(-half, half, (70, 150), rng), _streets(-half, half, (45, 75), rng)

    houses = _Houses()
    blocks: list[Ring] = []
    parks: list[bool] = []
    for (u0, uw), (u1, vw) in zip(us[:-1], us[1:], strict=True):
        for (v0, vh), (v1, vk) in zip(vs[:-1], vs[1:], strict=True):
            box = (u0 + uw / 2, v0 + vh / 2, u1 - vw / 2, v1 - vk / 2)
            corners = to_px(np.array(_rectangle(*box)[:4]))
            low, high = corners.min(0), corners.max(0)
            block_rng = np.random.default_rng(rng.integers(2**63))
            if (high < 0).any() or low[0] > shape[1] or low[1] > shape[0]:
                continue
            blocks.append(_rectangle(*box)[:4])
            parks.append(_fill_block(houses, box, density, block_rng))
    lines = [[(u, v) for v in np.arange(-half, half, 20)] for u, _ in us]
    lines += [[(u, v) for u in np.arange(-half, half, 20)] for v, _ in vs]
    widths = np.array([w for _, w in us] + [w for _, w in vs]) / gsd

    roads = [to_px(np.array(line)) for line in lines]
    keep = [i for i, r in enumerate(roads) if ((r > 0) & (r < (shape[1], shape[0]))).all(1).any()]
    coords, rings, polygons, kept = houses.ragged(to_px, shape)
    return Plan(
        shape, gsd, seed, coords, rings, polygons, np.array(houses.heights)[kept],
        to_px(np.array(houses.halves, dtype=np.float64).reshape(-1, 2)).reshape(-1, 4, 2)[kept],
        tuple(roads[i] for i in keep), widths[keep],
        to_px(np.array(blocks).reshape(-1, 2)).reshape(-1, 4, 2), np.array(parks, bool),
    )  # fmt: skip


class _Houses:
    """Houses as they are laid out, in metres."""

    __slots__ = ("halves", "heights", "shells")

    def __init__(self) -> None:
        self.shells: list[list[Ring]] = []
        self.heights: list[float] = []
        self.halves: list[Ring] = []

    def add(self, rings: list[Ring], height: float, half: Ring | None = None) -> None:
        self.shells.append(rings)
        self.heights.append(height)
        self.halves.append(half or [(np.nan, np.nan)] * 4)

    def ragged(self, to_px: _Map, shape: tuple[int, int]) -> tuple[Floats, Ints, Ints, Ints]:
        """Ragged arrays in px of the houses that meet the raster, and their indices."""
        rings = [ring for shell in self.shells for ring in shell]
        sizes = np.array([len(ring) for ring in rings], np.int64)
        counts = np.array([len(shell) for shell in self.shells], np.int64)
        if not rings:
            return np.zeros((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64)
        coords = to_px(np.array([xy for ring in rings for xy in ring]))
        starts = np.concatenate([[0], np.cumsum(sizes)])[np.concatenate([[0], np.cumsum(counts)])[:-1]]
        low, high = np.minimum.reduceat(coords, starts), np.maximum.reduceat(coords, starts)
        inside = (high > 0).all(1) & (low[:, 0] < shape[1]) & (low[:, 1] < shape[0])
        kept_ring = np.repeat(inside, counts)
        coords = coords[np.repeat(kept_ring, sizes)]
        ring_offsets = np.concatenate([[0], np.cumsum(sizes[kept_ring])]).astype(np.int64)
        polygon_offsets = np.concatenate([[0], np.cumsum(counts[inside])]).astype(np.int64)
        return coords, ring_offsets, polygon_offsets, np.flatnonzero(inside)


@dataclass(frozen=True, slots=True)
class _Map:
    """From metres on the street grid to px: two bends, a turn, the GSD. Products and sums of one point's own
    numbers only, so that equal points stay equal whatever else is in the array."""

    shape: tuple[int, int]
    gsd: float
    turn: tuple[float, float]
    bends: tuple[float, float, float, float]

    def __call__(self, uv: Floats) -> Floats:
        u, v = uv[..., 0], uv[..., 1]
        reach, period, other_reach, other_period = self.bends
        u = u + reach * _wave(v / period)
        v = v + other_reach * _wave(u / other_period)
        x = (self.turn[0] * u - self.turn[1] * v) / self.gsd + self.shape[1] / 2
        y = (self.turn[1] * u + self.turn[0] * v) / self.gsd + self.shape[0] / 2
        return np.round(np.stack([x, y], axis=-1), 3)


def _map(shape: tuple[int, int], gsd: float, rng: np.random.Generator) -> _Map:
    angle = float(rng.uniform(0, np.pi))
    bends = (rng.uniform(4, 12), rng.uniform(400, 700), rng.uniform(4, 12), rng.uniform(400, 700))
    return _Map(shape, gsd, (float(np.cos(angle)), float(np.sin(angle))), bends)


def _wave(t: Floats) -> Floats:
    """A bump of height 1 in each unit of t, smooth where they meet."""
    t = t - np.floor(t)
    return 16 * (t * (1 - t)) ** 2


def _streets(low: float, high: float, spacing: tuple[int, int], rng: np.random.Generator) -> list[tuple[float, float]]:
    """(position, width) of parallel streets, metres."""
    streets, at = [], low
    while at < high:
        streets.append((round(at, 1), float(rng.choice([6.0, 7.0, 8.0, 12.0]))))
        at += float(rng.uniform(*spacing))
    return streets


def _rectangle(u0: float, v0: float, u1: float, v1: float) -> Ring:
    return [(u0, v0), (u1, v0), (u1, v1), (u0, v1), (u0, v0)]


def _fill_block(houses: _Houses, box: Box, density: float, rng: np.random.Generator) -> bool:
    """Build one block; returns whether it is a park."""
    u0, v0, u1, v1 = box
    walk = float(rng.choice([1.0, 2.0, 4.0]))
    u0, v0, u1, v1 = u0 + walk, v0 + walk, u1 - walk, v1 - walk
    kind = rng.random()
    if u1 - u0 < 25 or v1 - v0 < 25 or kind < 0.06:
        return True
    if kind < 0.06 + 0.7 * density:
        _terrace(houses, u0, u1, v0, 1.0, rng)
        _terrace(houses, u0, u1, v1, -1.0, rng)
    elif kind < 0.16 + 0.75 * density:
        at = u0
        while u1 - at > 24:
            side = min(float(rng.uniform(24, 40)), u1 - at)
            _courtyard(houses, (at, v0, at + side, min(v0 + side, v1)), rng)
            at += side + float(rng.choice([0.0, 6.0]))
    elif kind < 0.92:
        _detached(houses, (u0, v0, u1, v1), rng)
    else:
        length = float(rng.uniform(0.5, 0.9)) * (u1 - u0)
        houses.add([_rectangle(u0 + 3, v0 + 4, u0 + 3 + length, v1 - 4)], float(rng.uniform(6, 12)))
    return False


def _terrace(houses: _Houses, u0: float, u1: float, front: float, into: float, rng: np.random.Generator) -> None:
    """Houses wall to wall along u; a deeper house has a vertex where its shallower neighbour ends."""
    widths = rng.uniform(5, 9, int((u1 - u0) / 5) + 1)
    edges = np.round(u0 + np.concatenate([[0], np.cumsum(widths)]), 2)
    edges = edges[edges < u1]
    depths = rng.choice([8.0, 9.5, 9.5, 12.0], len(edges) - 1) * (rng.random(len(edges) - 1) > 0.07)
    height = float(rng.uniform(5, 12))
    gable = rng.random() < 0.7
    for i, depth in enumerate(depths):
        if depth == 0:
            continue
        left, right = float(edges[i]), float(edges[i + 1])
        back = front + into * depth
        ring: Ring = [(left, front), (right, front)]
        if i + 1 < len(depths) and 0 < depths[i + 1] < depth:
            ring.append((right, front + into * depths[i + 1]))
        ring += [(right, back), (left, back)]
        if i > 0 and 0 < depths[i - 1] < depth:
            ring.append((left, front + into * depths[i - 1]))
        middle = front + into * depth / 2
        half = [(left, front), (right, front), (right, middle), (left, middle)] if gable else None
        houses.add([[*ring, ring[0]]], height + float(rng.uniform(-1, 1)), half)


def _courtyard(houses: _Houses, box: Box, rng: np.random.Generator) -> None:
    """A building around a yard and, in some yards, an annexe that shares the yard's walls."""
    u0, v0, u1, v1 = box
    wing = float(rng.uniform(6, 8))
    a, b, c, d = u0 + wing, v0 + wing, u1 - wing, v1 - wing
    if c - a < 6 or d - b < 6:
        houses.add([_rectangle(*box)], float(rng.uniform(6, 15)))
        return
    split = b + 4.0
    if rng.random() < 0.4:
        hole = [(a, b), (a, split), (a, d), (c, d), (c, split), (c, b), (a, b)]
        houses.add([_rectangle(a, b, c, split)], 3.5)
    else:
        hole = [(a, b), (a, d), (c, d), (c, b), (a, b)]
    houses.add([_rectangle(*box), hole], float(rng.uniform(8, 18)))


def _detached(houses: _Houses, box: Box, rng: np.random.Generator) -> None:
    """Houses in gardens, some of them L-shaped."""
    u0, v0, u1, v1 = box
    lot = float(rng.uniform(14, 22))
    for u in np.arange(u0, u1 - lot, lot):
        for front, into in ((v0, 1.0), (v1, -1.0)):
            if rng.random() < 0.12:
                continue
            w, d, setback = (float(x) for x in rng.uniform((7, 7, 2), (12, 12, 6)))
            left = float(u + rng.uniform(1, lot - w - 0.5))
            a, b = front + into * setback, front + into * (setback + d)
            if rng.random() < 0.35:
                p, q = left + w / 2, (a + b) / 2
                ring: Ring = [(left, a), (left + w, a), (left + w, q), (p, q), (p, b), (left, b), (left, a)]
                houses.add([ring], float(rng.uniform(4, 8)))
            else:
                half = [(left, a), (left + w, a), (left + w, (a + b) / 2), (left, (a + b) / 2)]
                houses.add([_rectangle(left, a, left + w, b)], float(rng.uniform(4, 8)), half)


def cadaster_rows(
    source: City | Plan | int, seed: int = 0, n: int | None = None, origin: tuple[float, float] = (5e5, 3e6)
) -> tuple[list[bytes | None], dict[str, NDArray[np.generic]]]:
    """A cadaster as (WKB or None for each row, attribute columns), with what real ones have in them.

    `source`: a city or plan, whose polygons are taken in turn, or a number of rows for a plan made here.
    World coordinates: x = origin x + px * gsd, y = origin y - py * gsd. Columns: `cadaster_id` int64 with
    duplicates, `kind` (polygon, hole, multi, z, bowtie, empty, null), `name`, `value` float64 with NaN.
    """
    from training.city_cadaster import rows

    if isinstance(source, int):
        n = source if n is None else n
        side = int((n / 0.0022) ** 0.5) + 200  # about 26 houses a hectare, some to spare; 1 px is 1 m here
        source = plan_city((side, side), 1.0, seed, density=0.9)
    plan = source.plan if isinstance(source, City) else source
    return rows(plan, seed, n or len(plan.polygon_offsets) - 1, origin)


def ring_slices(offsets: Iterable[int]) -> list[slice]:
    """The slices that consecutive offsets cut."""
    listed = [int(o) for o in offsets]
    return [slice(a, b) for a, b in zip(listed[:-1], listed[1:], strict=True)]
