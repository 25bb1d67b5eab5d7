"""Small charts of the report as inline SVG: no library, no script, a tooltip on every mark."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

INK, MUTED, GRID = "#1d2733", "#67707c", "#e6e4de"
VERDICTS = {
    "ok": (46, 134, 113),
    "empty": (190, 221, 212),
    "nodata": (200, 203, 208),
    "failed": (205, 43, 49),
    "missing": (60, 20, 24),
}


def data_uri(pixels: np.ndarray, kind: str = "png", quality: int = 82) -> str:
    """(h, w), (h, w, 3) or (h, w, 4) uint8, RGB order, as a data URI of a PNG or JPEG."""
    import cv2

    ordered = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == "jpeg" else []
    done, content = cv2.imencode(f".{'jpg' if kind == 'jpeg' else 'png'}", np.ascontiguousarray(ordered), options)
    assert done
    return f"data:image/{kind};base64,{base64.b64encode(content.tobytes()).decode()}"


def number(value: float | int | None, digits: int = 2) -> str:
    """A figure for people: thin spaces in large ones, no needless zeros."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    if isinstance(value, (int, np.integer)) or abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.{digits}f}"


def histogram(
    values: np.ndarray,
    edges: np.ndarray,
    label: str,
    *,
    colour: str,
    marks: Mapping[str, float] | None = None,
    ticks: Sequence[float] = (),
) -> str:
    """Bars of `values` between `edges`; outliers count in the last bar. `marks`: named vertical lines."""
    width, height, left, bottom, top = 400, 232, 8, 36, 24
    clipped = np.clip(values[np.isfinite(values)], edges[0], edges[-1])
    counts, _ = np.histogram(clipped, edges)
    most = max(int(counts.max(initial=0)), 1)
    span = float(edges[-1] - edges[0])

    def x(value: float) -> float:
        return left + (value - float(edges[0])) / span * (width - 2 * left)

    base = height - bottom
    parts = [f'<line x1="{left}" x2="{width - left}" y1="{base}" y2="{base}" stroke="{GRID}"/>']
    for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True):
        tall = count / most * (base - top)
        parts.append(
            f'<rect x="{x(low) + 0.75:.1f}" y="{base - tall:.1f}" width="{max(x(high) - x(low) - 1.5, 1):.1f}" '
            f'height="{tall:.1f}" rx="1.5" fill="{colour}"><title>{low:g} to {high:g}: {count}</title></rect>'
        )
    for tick in ticks:
        more = "+" if tick == ticks[-1] and (values > edges[-1]).any() else ""
        parts.append(_text(x(tick), base + 15, f"{tick:g}{more}", "middle"))
    for name, value in (marks or {}).items():
        at = x(float(np.clip(value, edges[0], edges[-1])))
        side = "start" if at < width * 0.6 else "end"
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top - 10}" y2="{base}" stroke="{INK}" stroke-dasharray="3 3"/>'
        )
        parts.append(_text(at + (5 if side == "start" else -5), top - 4, f"{name} {number(value)}", side, INK))
    parts.append(_text(width / 2, height - 4, label, "middle"))
    return _svg(width, height, parts, label)


def shift_plot(dx_m: np.ndarray, dy_m: np.ndarray, radius: float) -> str:
    """Density of the shifts, east to the right and north up, with rings of equal length."""
    size, centre, reach = 300, 150, 128
    low, high = centre - reach, centre + reach
    cells = 64
    edges = np.linspace(-radius, radius, cells + 1)
    counts, _, _ = np.histogram2d(-dy_m, dx_m, bins=[edges, edges])
    strength = np.log1p(counts) / max(float(np.log1p(counts.max(initial=0.0))), 1e-9)
    pixels = np.zeros((cells, cells, 4), np.uint8)
    pixels[..., :3] = (15, 118, 130)
    pixels[..., 3] = np.where(counts > 0, 50 + 205 * strength, 0)
    parts = [
        f'<image href="{data_uri(pixels)}" x="{centre - reach}" y="{centre - reach}" width="{2 * reach}" '
        f'height="{2 * reach}" style="image-rendering:pixelated"/>'
    ]
    for share in (0.5, 1.0):
        parts.append(f'<circle cx="{centre}" cy="{centre}" r="{reach * share}" fill="none" stroke="#c9c6bd"/>')
        parts.append(
            _text(centre + reach * share * 0.71 + 3, centre + reach * share * 0.71 + 10, f"{radius * share:g} m")
        )
    parts.append(f'<path d="M{low} {centre}H{high}M{centre} {low}V{high}" stroke="#dcd9d0"/>')
    for at, name in (
        ((centre, 14), "N"),
        ((centre, size - 6), "S"),
        ((8, centre + 4), "W"),
        ((size - 8, centre + 4), "E"),
    ):
        parts.append(_text(*at, name, "middle", INK))
    if len(dx_m):
        x, y = centre + np.median(dx_m) / radius * reach, centre - np.median(dy_m) / radius * reach
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="#e8562a" stroke="white" '
            'stroke-width="1.5"><title>median shift</title></circle>'
        )
    return _svg(size, size, parts, "shift east and north, metres")


def bars(rows: Sequence[tuple[str, float, str]], colour: str, colours: Mapping[str, str] | None = None) -> str:
    """Horizontal bars: (name, value, what to print)."""
    width, step, left, right = 620, 24, 150, 110
    most = max([value for _, value, _ in rows], default=0) or 1
    parts = []
    for i, (name, value, text) in enumerate(rows):
        y = i * step
        long = value / most * (width - left - right)
        parts.append(_text(left - 8, y + 16, name, "end", INK))
        fill = (colours or {}).get(name, colour)
        parts.append(
            f'<rect x="{left}" y="{y + 4}" width="{max(long, 1):.1f}" height="{step - 8}" rx="2" fill="{fill}"/>'
        )
        parts.append(_text(left + long + 7, y + 16, text))
    return _svg(width, max(len(rows) * step, 1), parts, "bars")


def verdict_map(stage: Mapping[str, object], longest: int = 122) -> str:
    """An image of a stage's grid, one pixel a tile coloured by verdict; empty if the stage has no grid."""
    grid, verdicts = stage.get("grid"), stage.get("verdicts")
    if not isinstance(grid, Mapping) or not isinstance(verdicts, Mapping):
        return ""
    rows, columns = int(grid["rows"]), int(grid["columns"])
    pixels = np.full((rows, columns, 3), 255, np.uint8)
    for key, verdict in verdicts.items():
        row, column = key[1:].split("c")
        pixels[int(row), int(column)] = VERDICTS.get(verdict, VERDICTS["missing"])
    if max(rows, columns) <= 30:  # room for a white line between tiles
        pixels = pixels.repeat(8, axis=0).repeat(8, axis=1)
        pixels[7:-1:8], pixels[:, 7:-1:8] = 255, 255
    scale = longest / max(rows, columns)
    return (
        f'<img class="grid" alt="verdicts" width="{columns * scale:.0f}" height="{rows * scale:.0f}" '
        f'src="{data_uri(pixels)}">'
    )


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = MUTED) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
