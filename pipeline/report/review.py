"""What a person should look at first: the least sure, the most shifted, what changed."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np

from pipeline.report.charts import number
from pipeline.report.data import Ragged, ReportData
from pipeline.report.map import SIDE, Place

_EACH = 6  # rows of each kind in the table


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to review; `x`, `y` px of level 1, NaN where the map does not have it."""

    kind: str  # low, far, missing, changed, new, failed
    what: str
    x: float
    y: float
    size: float  # px
    shift: float
    confidence: float
    area: float


WORDS = {
    "low": "least sure",
    "far": "largest shift",
    "missing": "missing in the image",
    "changed": "changed",
    "new": "new in the image",
}


def findings(data: ReportData) -> list[Finding]:
    """Findings, the most doubtful of each kind first; a row appears once."""
    shift = np.hypot(data.dx_m, data.dy_m)
    boxes = data.before.boxes()
    at = {int(row): i for i, row in enumerate(data.shown.tolist())}
    judged = np.flatnonzero(np.isin(data.status, ("moved", "unmoved")) & np.isfinite(data.confidence))
    judged = judged[np.isin(judged, data.shown)]
    low = judged[np.argsort(data.confidence[judged], kind="stable")][:_EACH]
    moved = judged[data.status[judged] == "moved"]
    far = moved[np.argsort(-shift[moved], kind="stable")]
    far = far[~np.isin(far, low)][:_EACH]
    out = []
    for kind, rows in (("low", low), ("far", far)):
        for row in rows.tolist():
            x0, y0, x1, y1 = boxes[at[row]]
            area = _area(data.before, at[row]) * data.gsd**2
            out.append(
                Finding(
                    kind, f"cadaster row {row}", (x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0),
                    float(shift[row]), float(data.confidence[row]), area,
                )
            )  # fmt: skip
    places = data.change_places
    for kind in ("missing", "changed", "new"):
        if places is None:
            break
        rows = np.flatnonzero(places.kind == kind)
        for i in rows[np.argsort(-places.area[rows], kind="stable")][:_EACH].tolist():
            size = float(np.sqrt(places.area[i])) / data.gsd
            out.append(
                Finding(
                    kind, str(places.label[i]), float(places.xy[i, 0]), float(places.xy[i, 1]), size,
                    np.nan, np.nan, float(places.area[i]),
                )
            )  # fmt: skip
    return out


def _area(ragged: Ragged, polygon: int) -> float:
    """Area of a polygon, px²: the sum over its rings, whose direction tells shells from holes."""
    total = 0.0
    for ring in range(ragged.polygon_offsets[polygon], ragged.polygon_offsets[polygon + 1]):
        xy = ragged.coords[ragged.ring_offsets[ring] : ragged.ring_offsets[ring + 1]]
        x, y = (xy - xy[0]).T
        total += float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2
    return abs(total)


def table(found: list[Finding]) -> str:
    """The findings as an HTML table whose rows lead to the map."""
    measured = any(np.isfinite(one.shift) for one in found)
    rows = []
    for one in found:
        where = f' data-x="{one.x:.0f}" data-y="{one.y:.0f}" data-side="{max(3 * one.size, SIDE):.0f}"'
        figures = [number(one.shift), number(one.confidence)] if measured else []
        cells = "".join(f"<td class=n>{figure}</td>" for figure in [*figures, number(one.area, 0)])
        rows.append(
            f"<tr{where if np.isfinite(one.x) else ''}><td><span class='pill {one.kind}'>{WORDS[one.kind]}</span></td>"
            f"<td>{escape(one.what)}</td>{cells}</tr>"
        )
    names = [*(["shift, m", "confidence"] if measured else []), "area, m²"]
    head = f"<tr><th>why</th><th>what</th>{''.join(f'<th class=n>{name}</th>' for name in names)}</tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def places(data: ReportData, found: list[Finding], most: int = 8) -> list[Place]:
    """Close-ups: clear corrections and typical ones first, then what is doubtful or changed; none twice."""
    shift = np.hypot(data.dx_m, data.dy_m)
    boxes = data.before.boxes()
    shown = data.shown
    sure = np.nan_to_num(data.confidence[shown])
    usable = (data.status[shown] == "moved") & np.isfinite(boxes).all(axis=1)
    out: list[Place] = []

    def add(x: float, y: float, size: float, title: str, text: str) -> bool:
        side = float(np.clip(3.2 * size, SIDE, 4 * SIDE))
        if len(out) >= most or any(abs(x - p.x) < side * 0.8 and abs(y - p.y) < side * 0.8 for p in out):
            return False
        out.append(Place(x, y, side, title, text))
        return True

    def add_rows(order: np.ndarray, count: int, title: str) -> None:
        for i in order.tolist():
            if count == 0 or len(out) >= most:
                return
            x0, y0, x1, y1 = boxes[i]
            row = int(shown[i])
            text = f"row {row}, moved {number(float(shift[row]))} m, confidence {number(float(data.confidence[row]))}"
            count -= add((x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0), title, text)

    clear = np.flatnonzero(usable & (sure >= np.median(sure[usable]))) if usable.any() else np.zeros(0, np.int64)
    add_rows(clear[np.argsort(-shift[shown[clear]], kind="stable")], 2, "Large and sure:")
    if len(clear):
        middle = np.abs(shift[shown[clear]] - np.median(shift[shown[clear]]))
        add_rows(clear[np.argsort(middle, kind="stable")], 2, "Typical:")
    unsure = np.flatnonzero(usable)
    add_rows(unsure[np.argsort(sure[unsure], kind="stable")], 2, "Least sure:")
    for kind in ("missing", "new", "changed"):
        for one in [one for one in found if one.kind == kind]:
            if add(one.x, one.y, one.size, f"{WORDS[kind].capitalize()}:", f"{one.what}, {number(one.area, 0)} m²"):
                break
    return out
