"""What the report page is made from: plain arrays and mappings, filled by the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.grid import Window
from pipeline.ledger import Receipt

MOST_VERTICES = 150_000
"""Vertices of cadaster polygons drawn on the map at most; the rest are counted, not drawn."""
MOST_POLYGONS = 20_000


@dataclass(frozen=True, slots=True)
class Ragged:
    """Polygons in px of level 1: coords (n, 2) float64 xy, offsets of rings and of polygons (int64)."""

    coords: np.ndarray
    ring_offsets: np.ndarray
    polygon_offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.polygon_offsets) - 1

    def boxes(self) -> np.ndarray:
        """Boxes (polygons, 4) float64 x0, y0, x1, y1; NaN for a polygon without vertices."""
        out = np.full((len(self), 4), np.nan)
        starts = self.ring_offsets[self.polygon_offsets]
        full = np.flatnonzero(np.diff(starts) > 0)
        if len(full):
            out[full, :2] = np.minimum.reduceat(self.coords, starts[full], axis=0)
            out[full, 2:] = np.maximum.reduceat(self.coords, starts[full], axis=0)
        return out

    def take(self, rows: np.ndarray) -> Ragged:
        """The polygons `rows`, in that order."""
        rings = [np.arange(self.polygon_offsets[i], self.polygon_offsets[i + 1]) for i in rows]
        ring = np.concatenate([np.zeros(0, np.int64), *rings])
        points = [np.arange(self.ring_offsets[i], self.ring_offsets[i + 1]) for i in ring]
        point = np.concatenate([np.zeros(0, np.int64), *points]).astype(np.int64)
        return Ragged(
            self.coords[point],
            np.cumsum([0, *(len(part) for part in points)]),
            np.cumsum([0, *(len(part) for part in rings)]),
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes worth a look: kind (n,) text, xy (n, 2) px of level 1, label (n,) text, area (n,) m²."""

    kind: np.ndarray
    xy: np.ndarray
    label: np.ndarray
    area: np.ndarray


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything on the page. Px are of level 1; `dx_m` is east, `dy_m` north, metres.

    `overview` (3, h, w) uint8 with `overview_scale` px of level 1 a pixel; `read` gives (3, h, w) uint8 of
    a window of level 1 for the close-ups. `status`, `dx_m`, `dy_m`, `confidence`: one a cadaster row (N,).
    `shown` (k,): rows whose polygons are in `before` and `after` (same vertices, k polygons each); see
    `rows_to_show`. `vectors` (m, 5), samples of the field: x, y px, dx_m, dy_m,
    confidence. `scores`: group → name → value. `phase_seconds`: wall time by phase, `wall_seconds` of the whole run;
    what workers spent is summed from `receipts`.
    """

    title: str
    subtitle: str
    shape: tuple[int, int]
    gsd: float
    overview: np.ndarray
    overview_scale: float
    status: np.ndarray
    dx_m: np.ndarray
    dy_m: np.ndarray
    confidence: np.ndarray
    shown: np.ndarray
    before: Ragged
    after: Ragged
    certificate: Mapping[str, Any]
    receipts: Sequence[Receipt] = ()
    read: Callable[[Window], np.ndarray] | None = None
    buildings: Ragged | None = None
    building_count: int | None = None
    changes: Mapping[str, int] = field(default_factory=dict)
    change_places: Changes | None = None
    vectors: np.ndarray | None = None
    phase_seconds: Mapping[str, float] = field(default_factory=dict)
    wall_seconds: float | None = None
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    models: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    files: Sequence[str] = ()


def rows_to_show(confidence: np.ndarray, dx_m: np.ndarray, dy_m: np.ndarray, cap: int = MOST_POLYGONS) -> np.ndarray:
    """Rows (k,) int64, ascending, whose polygons the page should have: all, or `cap` of them.

    Where they are too many: a tenth for the least confident, a tenth for the largest shifts, the rest
    evenly through the file.
    """
    n = len(confidence)
    if n <= cap:
        return np.arange(n, dtype=np.int64)
    tenth = cap // 10
    low = np.argsort(np.nan_to_num(confidence, nan=np.inf), kind="stable")[:tenth]
    far = np.argsort(-np.nan_to_num(np.hypot(dx_m, dy_m)), kind="stable")[:tenth]
    even = np.linspace(0, n - 1, cap - 2 * tenth).astype(np.int64)
    return np.unique(np.concatenate([low, far, even]))
