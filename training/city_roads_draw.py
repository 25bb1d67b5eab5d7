"""The image of a procedural scene of roads: ground, surfaces, markings, cars, houses, trees, a camera's grain."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FINER = 2
"""Scenes are drawn this much finer and averaged."""

SHIFT = 4
"""Fractional bits of cv2's coordinates."""

ROADS = ((70, 72, 78), (92, 94, 98), (124, 124, 126), (160, 156, 150), (146, 122, 96), (176, 152, 118), (48, 48, 54))
GROUNDS = ((110, 116, 84), (70, 88, 56), (150, 140, 112), (176, 150, 122), (132, 126, 118), (96, 98, 70), (60, 72, 50))
ROOFS = ((168, 92, 72), (140, 84, 66), (128, 126, 124), (96, 96, 100), (196, 192, 184), (224, 222, 216), (90, 112, 134))


@dataclass(frozen=True, slots=True)
class Road:
    """A centre line (n, 2), px; its width, px; and `look`, which of the scene's surfaces it has."""

    line: Floats
    width: float
    look: int


class Canvas:
    """The image as it is drawn, FINER times as fine as it will be; things are given in px of the scene."""

    __slots__ = ("light", "pixels", "rng", "side")

    def __init__(self, side: int, rng: np.random.Generator) -> None:
        self.side, self.rng = side, rng
        angle = rng.uniform(0, 2 * np.pi)
        self.light = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.3, 1.0)
        first, second = (np.array(GROUNDS[i], float) for i in rng.choice(len(GROUNDS), 2, replace=False))
        share = self._clouds(int(rng.integers(3, 9)))[..., None]
        rough = rng.uniform(2, 22) * self._clouds(int(rng.integers(60, 200)))[..., None]
        mixed = first * (1 - share) + second * share if rng.random() < 0.6 else first + 0 * share
        self.pixels = (mixed + rough).clip(0, 255).astype(np.uint8)

    def _clouds(self, cells: int) -> NDArray[np.float32]:
        size = (FINER * self.side,) * 2
        small = self.rng.random((cells, cells)).astype(np.float32)
        return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC).clip(0, 1), np.float32)

    def fill(self, shape: Floats, colour: Floats) -> None:
        cv2.fillPoly(self.pixels, [fixed(shape * FINER)], colour.clip(0, 255).tolist(), cv2.LINE_8, SHIFT)

    def stroke(self, line: Floats, colour: Floats, width: float) -> None:
        thick = max(1, round(FINER * width))
        cv2.polylines(self.pixels, [fixed(line * FINER)], False, colour.clip(0, 255).tolist(), thick, shift=SHIFT)

    def field(self, gsd: float) -> None:
        """A parcel of another colour, or a path or hedge: an edge or a strip that is no road."""
        rng, middle = self.rng, self.rng.uniform(0, self.side, 2)
        colour = np.array(GROUNDS[rng.integers(len(GROUNDS))]) + rng.normal(0, 12, 3)
        angle = rng.uniform(0, np.pi)
        a = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(20, 120) / gsd
        if rng.random() < 0.5:
            b = np.array([-a[1], a[0]]) * rng.uniform(0.3, 1)
            self.fill(middle + np.array([a + b, a - b, -a - b, b - a]), colour)
        else:
            self.stroke(middle + np.array([-a, 0 * a, a]) + rng.normal(0, 4 / gsd, (3, 2)), colour, 1.2 / gsd)

    def roads(self, roads: list[Road], gsd: float, aisles: bool) -> None:
        """Verges and pavements of all roads first, then all surfaces, then markings and cars."""
        rng = self.rng
        surfaces = np.array([ROADS[i] for i in rng.integers(0, len(ROADS), 3)]) + rng.normal(0, 7, (3, 3))
        if aisles:  # one surface for stalls and aisles: only lines, islands and cars tell them apart
            surfaces[:2] = surfaces[0]
            for road in roads:
                self.stroke(road.line, surfaces[0], road.width + 13 / gsd)
        verge = rng.uniform(-45, 70, (3, 1)) + rng.normal(0, 8, (3, 3))
        beside = rng.uniform(0.8, 3, 3) * (rng.random(3) < 0.55) / gsd
        for road in roads if not aisles else []:
            if beside[road.look]:
                self.stroke(road.line, surfaces[road.look] + verge[road.look], road.width + 2 * beside[road.look])
        for road in roads:
            self.stroke(road.line, surfaces[road.look] + rng.normal(0, 2, 3), road.width)
        marked, worn = rng.random(3) < 0.5, rng.normal(0, 10, (3, 3))
        for road in roads:
            if marked[road.look] and not aisles and road.width * gsd > 5:
                for a, b in list(zip(road.line[:-1], road.line[1:], strict=True))[:: int(rng.integers(1, 3))]:
                    self.stroke(np.array([a, (a + b) / 2]), surfaces[road.look] + 90, 0.2 / gsd)
            elif road.width * gsd < 4.5 and rng.random() < 0.4:  # a strip of grass or gravel between the wheels
                self.stroke(road.line, surfaces[road.look] + worn[road.look], 0.8 / gsd)
        cars = rng.uniform(0, 0.35)
        for road in roads:
            self._along(road, gsd, cars, aisles)

    def _along(self, road: Road, gsd: float, often: float, aisles: bool) -> None:
        """Cars on the road; beside an aisle rows of stalls with cars, and islands at their ends."""
        rng = self.rng
        step = np.diff(road.line, axis=0)
        length = np.hypot(*step.T)
        stalls = aisles and road.look == 0 and road.width * gsd < 8.1
        for at, part, long in zip(road.line, step, length, strict=False):
            along, across = part / max(long, 1e-9), np.array([-part[1], part[0]]) / max(long, 1e-9)
            if rng.random() < often * 0.5:
                self._car(at + across * rng.choice([-0.25, 0.25]) * road.width, along, gsd)
            if not stalls:
                continue
            for sign in (-1.0, 1.0):
                for far in np.arange(0, long, 2.6 / gsd):
                    foot = at + along * far + sign * across * road.width / 2
                    if rng.random() < 0.8:
                        self.stroke(np.array([foot, foot + sign * across * 4.8 / gsd]), np.full(3, 200.0), 0.15 / gsd)
                    if rng.random() < 2 * often:
                        self._car(foot + sign * across * 2.5 / gsd + along * 1.3 / gsd, across, gsd)
        if stalls:
            ends = np.array([road.line[0], road.line[-1]])
            inward = np.array([step[0], -step[-1]]) / np.maximum(length[[0, -1]], 1e-9)[:, None]
            for end, into in zip(ends, inward, strict=True):
                side = np.array([-into[1], into[0]]) * (road.width / 2 + 3 / gsd)
                for middle in (end + into * 7 / gsd + side, end + into * 7 / gsd - side):
                    self.stroke(np.array([middle, middle + into * 3 / gsd]), np.array([130.0, 118, 98]), 4 / gsd)

    def _car(self, at: Floats, along: Floats, gsd: float) -> None:
        a, b = along * 2.1 / gsd, np.array([-along[1], along[0]]) * 0.9 / gsd
        tint = self.rng.uniform(20, 245) + self.rng.normal(0, 15, 3)
        self.fill(at + np.array([a + b, a - b, -a - b, b - a]), tint)

    def houses(self, houses: list[Floats], gsd: float) -> None:
        """Shadows of all, then drives, then roofs with a darker half."""
        rng, heights = self.rng, self.rng.uniform(3, 11, len(houses)) / gsd
        for house, height in zip(houses, heights, strict=True):
            for share in (0.3, 0.65, 1.0):
                self.fill(house + self.light * height * share, np.full(3, 34.0))
        for house in houses:
            roof = np.array(ROOFS[rng.integers(len(ROOFS))]) + rng.normal(0, 9, 3)
            self.fill(house, roof)
            if rng.random() < 0.6:
                ridge = (house[[0, 3]] + house[[1, 2]]) / 2
                self.fill(np.concatenate([house[[0, 3]], ridge[::-1]]), roof * rng.uniform(0.65, 0.9))

    def trees(self, roads: list[Road], houses: list[Floats], gsd: float) -> None:
        """Trees beside roads, over parts of them, and anywhere else but on roofs; each with its shadow."""
        rng = self.rng
        often, wild = rng.choice([0.0, 0.05, 0.2, 0.6]), int(rng.choice([0, 30, 150, 900]) * (gsd * self.side / 300))
        places = [rng.uniform(0, self.side, (wild, 2))]
        for road in roads:
            some = road.line[rng.random(len(road.line)) < often]
            off = road.width / 2 + rng.uniform(0, 5, some.shape) / gsd
            places.append(some + rng.choice([-1, 1], some.shape) * off)
        roofs = np.array([house.mean(0) for house in houses]).reshape(-1, 2)
        green = np.array([60.0, 80, 48]) + rng.normal(0, 14, 3)
        for place in np.concatenate(places):
            radius = float(rng.uniform(1, 4.2)) / gsd
            if len(roofs) and np.hypot(*(roofs - place).T).min() < 6 / gsd:
                continue
            tint = green * rng.uniform(0.6, 1.35)
            for off, share, shade in ((self.light * 4 / gsd, 1.0, 0.5), (0 * place, 1.0, 1.0), (place * 0, 0.5, 1.2)):
                centre = tuple(int(v) for v in fixed((place + off)[None] * FINER)[0, 0])
                size = round(FINER * radius * share * (1 << SHIFT))
                cv2.circle(self.pixels, centre, size, (tint * shade).clip(0, 255).tolist(), -1, cv2.LINE_8, SHIFT)

    def image(self) -> NDArray[np.uint8]:
        """(3, side, side) uint8: averaged, with the grain, haze and gain of a camera."""
        rng = self.rng
        soft = cv2.GaussianBlur(self.pixels, (0, 0), FINER * rng.uniform(0.35, 1.0))
        small = cv2.resize(soft, (self.side,) * 2, interpolation=cv2.INTER_AREA).astype(np.float32)
        uneven = cv2.resize(self._clouds(12), (self.side,) * 2, interpolation=cv2.INTER_AREA)[..., None] - 0.5
        grain = rng.normal(0, rng.uniform(1, 6), small.shape) + rng.uniform(0, 40) * uneven
        seen = (small + grain) * rng.uniform(0.6, 1.2) * rng.normal(1, 0.04, 3) + rng.uniform(0, 30)
        return np.asarray(seen.clip(1, 255).astype(np.uint8).transpose(2, 0, 1))


def fixed(xy: Floats) -> NDArray[np.int32]:
    """Corner-origin px as OpenCV's fixed point with pixel centres at whole numbers."""
    return np.rint((xy - 0.5) * (1 << SHIFT)).astype(np.int32).reshape(-1, 1, 2)
