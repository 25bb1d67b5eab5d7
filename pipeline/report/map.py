"""The report's map and close-ups: what the browser draws, packed small, and pictures cut at full resolution."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from pipeline.grid import Window
from pipeline.report.charts import data_uri, number
from pipeline.report.data import MOST_VERTICES, Ragged, ReportData

FINE = 16  # steps a pixel in packed coordinates
SIDE = 320  # px of level 1 of a close-up, at least
_ACROSS = 330  # px on the page of one panel of a close-up
_JPEG_LIMIT = 1_400_000  # base64 characters of the overview


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to look: centre in px of level 1, how much of the scene to show, and what to say."""

    x: float
    y: float
    side: float
    title: str
    text: str


def map_payload(data: ReportData) -> tuple[str, str, list[str]]:
    """(JSON of the vectors, data URI of the overview, what was left out in words)."""
    notes = []
    before, after, rows = data.before, data.after, data.shown
    if len(before.coords) != len(after.coords):
        raise ValueError("before and after must have the same vertices")
    kept = _within(before, MOST_VERTICES)
    if kept < len(before):
        chosen = np.linspace(0, len(before) - 1, kept).astype(np.int64)
        before, after, rows = before.take(chosen), after.take(chosen), rows[chosen]
    if len(before) < len(data.status):
        notes.append(
            f"The map draws {number(len(before))} of {number(len(data.status))} cadaster polygons: the least sure, "
            "the most shifted, and an even sample of the rest."
        )
    payload: dict[str, Any] = {
        "width": data.shape[1],
        "height": data.shape[0],
        "gsd": data.gsd,
        "fine": FINE,
        "before": _packed(before.coords, np.int32),
        "delta": _packed(after.coords - before.coords, np.int16),
        "rings": _base64(before.ring_offsets.astype(np.uint32)),
        "polygons": _base64(before.polygon_offsets.astype(np.uint32)),
        "rows": _base64(rows.astype(np.uint32)),
        "sure": _base64(np.round(255 * np.nan_to_num(data.confidence[rows])).clip(0, 255).astype(np.uint8)),
        "shift": _base64(np.nan_to_num(np.hypot(data.dx_m, data.dy_m)[rows]).astype(np.float32)),
        "status": [str(status) for status in data.status[rows].tolist()],
    }
    if data.buildings is not None and len(data.buildings):
        seen = data.buildings
        kept = _within(seen, MOST_VERTICES // 2)
        if kept < len(seen):
            seen = seen.take(np.linspace(0, len(seen) - 1, kept).astype(np.int64))
        total = data.building_count or len(data.buildings)
        if len(seen) < total:
            notes.append(f"The map draws {number(len(seen))} of {number(total)} buildings seen in the image.")
        payload["seen"] = _packed(seen.coords, np.int32)
        payload["seenRings"] = _base64(seen.ring_offsets.astype(np.uint32))
    if data.vectors is not None and len(data.vectors):
        step = max(1, len(data.vectors) // 2500)
        chosen = data.vectors[::step]
        payload["arrows"] = _base64(chosen.astype(np.float32))
        payload["stretch"] = stretch_of(chosen, data.shape, data.gsd)
    picture, said = _overview(data.overview)
    return json.dumps(payload, separators=(",", ":")), picture, notes + said


def stretch_of(vectors: np.ndarray, shape: tuple[int, int], gsd: float) -> int:
    """How many times longer than true the arrows are drawn, so that large ones nearly reach their neighbours."""
    spacing = float(np.sqrt(shape[0] * shape[1] / max(len(vectors), 1)))
    longest = float(np.percentile(np.hypot(vectors[:, 2], vectors[:, 3]), 95)) / gsd
    return int(np.clip(round(0.9 * spacing / max(longest, 1e-6)), 1, 100))


def closeups(data: ReportData, places: Sequence[Place]) -> str:
    """HTML of the close-ups: the same ground twice, with the polygons before and after."""
    if data.read is None or not places:
        return ""
    old, new = data.before.boxes(), data.after.boxes()
    cards = []
    for i, place in enumerate(places):
        side = int(min(place.side, *data.shape))
        window = Window(round(place.y - side / 2), round(place.x - side / 2), side, side)
        window = _inside(window, data.shape)
        pixels = np.moveaxis(np.asarray(data.read(window)), 0, -1)
        pixels = _smaller(_rgb(pixels), _ACROSS * 2)
        style = f'<style>.c{i}{{background-image:url("{data_uri(pixels, "jpeg", 78)}")}}</style>'
        panels = ""
        for name, ragged, boxes, colour in (
            ("in the cadaster", data.before, old, "old"),
            ("aligned", data.after, new, "new"),
        ):
            paths = _paths(ragged, boxes, window)
            panels += (
                f'<div class="panel c{i}"><svg viewBox="0 0 {side} {side}"><path class="{colour}" d="{paths}"/></svg>'
                f"<span>{name}</span></div>"
            )
        jump = f'data-x="{place.x:.0f}" data-y="{place.y:.0f}" data-side="{side}"'
        cards.append(
            f'<figure class="card closeup" {jump}>{style}<div class="panels">{panels}</div>'
            f"<figcaption><b>{escape(place.title)}</b> {escape(place.text)}</figcaption></figure>"
        )
    return "".join(cards)


def _paths(ragged: Ragged, boxes: np.ndarray, window: Window) -> str:
    """SVG path of the polygons that meet the window, in px from its corner."""
    x0, y0, x1, y1 = boxes.T
    near = (x0 < window.x1) & (x1 > window.x0) & (y0 < window.y1) & (y1 > window.y0)
    parts = []
    for polygon in np.flatnonzero(near):
        for ring in range(ragged.polygon_offsets[polygon], ragged.polygon_offsets[polygon + 1]):
            xy = ragged.coords[ragged.ring_offsets[ring] : ragged.ring_offsets[ring + 1]] - [window.x0, window.y0]
            parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in xy[:-1].tolist()) + "Z")
    return "".join(parts)


def _within(ragged: Ragged, vertices: int) -> int:
    """How many polygons an even sample may have to stay near `vertices`."""
    if len(ragged.coords) <= vertices:
        return len(ragged)
    return max(1, int(len(ragged) * vertices / len(ragged.coords)))


def _overview(pixels: np.ndarray) -> tuple[str, list[str]]:
    picture = _rgb(np.moveaxis(np.asarray(pixels), 0, -1))
    for longest, quality in ((2000, 82), (1800, 75), (1500, 70), (1200, 65)):
        uri = data_uri(_smaller(picture, longest), "jpeg", quality)
        if len(uri) <= _JPEG_LIMIT:
            break
    return uri, []


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """Three bands of uint8: gray is repeated, further bands are dropped."""
    return np.repeat(pixels[..., :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[..., :3]


def _smaller(pixels: np.ndarray, longest: int) -> np.ndarray:
    import cv2

    scale = longest / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA))


def _inside(window: Window, shape: tuple[int, int]) -> Window:
    y0 = min(max(window.y0, 0), max(shape[0] - window.height, 0))
    x0 = min(max(window.x0, 0), max(shape[1] - window.width, 0))
    return Window(y0, x0, window.height, window.width)


def _packed(xy: np.ndarray, dtype: type) -> str:
    limits = np.iinfo(dtype)
    steps = np.nan_to_num(np.round(xy * FINE))
    return _base64(np.clip(steps, limits.min, limits.max).astype(dtype))


def _base64(values: np.ndarray) -> str:
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(little.tobytes()).decode()
