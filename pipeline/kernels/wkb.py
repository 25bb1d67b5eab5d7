"""Well-known binary as it lies in a GeoParquet column: find every vertex, move it, write polygons.

`buffer` is the concatenated WKB of all rows as uint8, `offsets` (rows + 1) int64 where each row starts.
ISO and EWKB, both byte orders, XY, Z, M and ZM, points, lines, polygons, multi-geometries and nested
collections. Nothing is copied but coordinates: `walk` once, then `read_xy`, move, `write_xy`; what is not
x or y (Z, M, SRID, structure) stays byte for byte as it was.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.jit import inlined, kernel, load64, plain, store64, store_double, swap64

SHELL, HOLE, LINE, POINT = 0, 1, 2, 3
"""Kinds of vertex runs, `ring_kind` of `walk`."""

OK, EMPTY, UNREADABLE = 0, 1, 2
"""What a row is, `row_code` of `walk`: has vertices; null or without any; not WKB that can be read."""

Int64s: TypeAlias = NDArray[np.int64]

_DEPTH = 64
_EXPONENT = np.uint64(0x7FF0000000000000)
_NO_SIGN = np.uint64(0x7FFFFFFFFFFFFFFF)


@inlined
def _word(buffer: Any, at: int, big: bool) -> Any:
    word = np.int64(0)
    for i in range(4):
        word |= np.int64(buffer[at + i]) << (24 - 8 * i if big else 8 * i)
    return word


@inlined
def _bits(buffer: Any, at: int, big: bool) -> Any:
    value = load64(buffer, at)
    return swap64(value) if big else value


@inlined
def _same(buffer: Any, a: int, b: int, big: bool) -> Any:
    """Whether the doubles at `a` and `b` compare equal: signed zeros do, NaN does not."""
    first, second = _bits(buffer, a, big), _bits(buffer, b, big)
    if (first & _NO_SIGN) > _EXPONENT:
        return False
    return first == second or ((first | second) & _NO_SIGN) == 0


@kernel
def _walk(
    buffer: Any, offsets: Any, fill: bool,
    row_code: Any, position: Any, vertex_row: Any, ring_offsets: Any, ring_row: Any, ring_kind: Any,
) -> Any:
    """One pass over all rows: counts vertices and runs, and with `fill` writes them too.

    One function with its own stack, since a call that hands arrays on costs more than a polygon. `left`
    and `want` are the open containers of the row: members still to come, and what they must be (a WKB
    type, 0 for any, -1 for the rings of a polygon). Every read is checked against the row's `end` first.
    """
    left, want = np.empty(_DEPTH, np.int64), np.empty(_DEPTH, np.int64)
    vertices, rings = 0, 0
    for row in range(offsets.size - 1):
        at, end = offsets[row], offsets[row + 1]
        if at < 0 or end > buffer.size or end < at:
            row_code[row] = 2
            continue
        if end == at or (fill and row_code[row] != 0):
            row_code[row] = max(row_code[row], 1)
            continue
        vertex, ring = vertices, rings
        readable, big, shell, stride = True, buffer[at] == 0, False, 16
        depth, left[0], want[0] = 0, 1, 0
        while depth >= 0 and readable:
            if left[depth] == 0:
                depth -= 1
                continue
            left[depth] -= 1
            readable = False
            if want[depth] == -1:
                if at + 4 > end:
                    break
                points = _word(buffer, at, big)
                at += 4
                kind = 0 if shell else 1
                shell = False
                if points > (end - at) // stride:
                    break
                if points > 0:
                    last = at + (points - 1) * stride
                    closed = _same(buffer, at, last, big) and _same(buffer, at + 8, last + 8, big)
                    if points < 4 or not closed:
                        break
            else:
                if at + 5 > end or buffer[at] > 1:
                    break
                big = buffer[at] == 0
                code = _word(buffer, at + 1, big)
                at += 9 if code & 0x20000000 else 5
                dimensions, kind = (code & 0x0FFFFFFF) // 1000, (code & 0x0FFFFFFF) % 1000
                if dimensions > 3 or kind < 1 or kind > 7 or (want[depth] != 0 and kind != want[depth]):
                    break
                stride = 16
                if (code & 0x80000000) or dimensions == 1 or dimensions == 3:
                    stride += 8
                if (code & 0x40000000) or dimensions >= 2:
                    stride += 8
                points = 1
                if kind == 1:
                    if at + stride > end:
                        break
                    x, y = _bits(buffer, at, big), _bits(buffer, at + 8, big)
                    if (x & _NO_SIGN) > _EXPONENT and (y & _NO_SIGN) > _EXPONENT:
                        points = 0
                        at += stride
                    kind = 3
                else:
                    if at + 4 > end:
                        break
                    points = _word(buffer, at, big)
                    at += 4
                    if kind == 2:
                        if points > (end - at) // stride or points == 1:
                            break
                    else:
                        if depth + 1 >= _DEPTH or points > (end - at) // (4 if kind == 3 else 5):
                            break
                        depth += 1
                        left[depth] = points
                        want[depth] = -1 if kind == 3 else (0 if kind == 7 else kind - 3)
                        shell = kind == 3
                        points = 0
            readable = True
            if points > 0:
                if fill:
                    for i in range(points):
                        x0 = at + i * stride
                        position[vertex + i] = -x0 if big else x0
                        vertex_row[vertex + i] = row
                    ring_offsets[ring + 1] = vertex + points
                    ring_row[ring] = row
                    ring_kind[ring] = kind
                vertex += points
                ring += 1
                at += points * stride
        if not readable:
            row_code[row] = 2
        else:
            row_code[row] = 1 if vertex == vertices else 0
            vertices, rings = vertex, ring
    return vertices, rings


def walk(
    buffer: NDArray[np.uint8], offsets: NDArray[np.int64]
) -> tuple[Int64s, Int64s, Int64s, Int64s, NDArray[np.uint8], NDArray[np.uint8]]:
    """Where every vertex of every row lies.

    Returns `vertex_position` (byte offset of each vertex's x; NEGATIVE where the number is big endian),
    `vertex_row`, `ring_offsets` (rings + 1, into vertices), `ring_row`, `ring_kind` (SHELL, HOLE, LINE,
    POINT) and `row_code` (OK, EMPTY, UNREADABLE). Vertices come in the order of the bytes. Every point of
    a multipoint is a run of its own; an empty point (NaN, NaN) has no vertex. Unreadable rows (truncated,
    unknown types, unclosed rings, nested deeper than 64) have no vertices either, and are never moved.
    """
    buffer, offsets = plain(buffer, np.uint8), plain(offsets, np.int64)
    row_code = np.zeros(offsets.size - 1, np.uint8)
    none, no_kind = np.empty(1, np.int64), np.empty(1, np.uint8)
    vertices, rings = _walk(buffer, offsets, False, row_code, none, none, none, none, no_kind)
    position, vertex_row = np.empty(vertices, np.int64), np.empty(vertices, np.int64)
    ring_offsets, ring_row = np.zeros(rings + 1, np.int64), np.empty(rings, np.int64)
    ring_kind = np.empty(rings, np.uint8)
    _walk(buffer, offsets, True, row_code, position, vertex_row, ring_offsets, ring_row, ring_kind)
    return position, vertex_row, ring_offsets, ring_row, ring_kind, row_code


@kernel
def _read(buffer: Any, position: Any, out: Any) -> None:
    for i in range(position.size):
        at = position[i]
        if at > 0:
            out[i, 0] = load64(buffer, at)
            out[i, 1] = load64(buffer, at + 8)
        else:
            out[i, 0] = swap64(load64(buffer, -at))
            out[i, 1] = swap64(load64(buffer, -at + 8))


@kernel
def _write(buffer: Any, position: Any, bits: Any) -> None:
    for i in range(position.size):
        at = position[i]
        if at > 0:
            store64(buffer, at, bits[i, 0])
            store64(buffer, at + 8, bits[i, 1])
        else:
            store64(buffer, -at, swap64(bits[i, 0]))
            store64(buffer, -at + 8, swap64(bits[i, 1]))


def _check_positions(buffer: NDArray[np.uint8], position: NDArray[np.int64]) -> None:
    if position.size and int(np.abs(position).max()) + 16 > buffer.size:
        raise ValueError("vertex positions reach past the end of the WKB buffer")


def read_xy(buffer: NDArray[np.uint8], vertex_position: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 2) float64 x and y of the vertices at `vertex_position` (of `walk`: the sign is the byte order)."""
    buffer, position = plain(buffer, np.uint8), plain(vertex_position, np.int64)
    _check_positions(buffer, position)
    out = np.empty((position.size, 2), np.uint64)
    _read(buffer, position, out)
    return out.view(np.float64)


def write_xy(buffer: NDArray[np.uint8], vertex_position: NDArray[np.int64], xy: NDArray[np.float64]) -> None:
    """Overwrite x and y of the vertices at `vertex_position` in `buffer`, in place and in its byte order.

    `buffer` must be writable, C-contiguous uint8: a copy of what was read.
    """
    if buffer.dtype != np.uint8 or not buffer.flags.c_contiguous or not buffer.flags.writeable:
        raise ValueError("WKB is written in place: the buffer must be writable, contiguous uint8")
    position, bits = plain(vertex_position, np.int64), plain(xy, np.float64).view(np.uint64)
    if bits.shape != (position.size, 2):
        raise ValueError(f"{position.size} vertices, but coordinates of shape {bits.shape}")
    _check_positions(buffer, position)
    _write(buffer, position, bits)


@inlined
def _put_count(buffer: Any, at: int, count: Any) -> None:
    for byte in range(4):
        buffer[at + byte] = (count >> (8 * byte)) & 255


@kernel
def _encode(
    coords: Any, ring_offsets: Any, polygon_offsets: Any, row_offsets: Any, scale: Any, origin: Any,
    offsets: Any, buffer: Any,
) -> None:  # fmt: skip
    """Polygons from `offsets` on; with `row_offsets` those of a row behind a head if they are several."""
    moved, sx, sy, x0, y0 = scale.size > 0, 1.0, 1.0, 0.0, 0.0
    if moved:
        sx, sy, x0, y0 = scale[0], scale[1], origin[0], origin[1]
    for row in range(offsets.size - 1):
        at, begin, end = offsets[row], np.int64(row), np.int64(row + 1)
        if row_offsets.size > 0:
            begin, end = row_offsets[row], row_offsets[row + 1]
        if end - begin > 1:
            buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3], buffer[at + 4] = 1, 6, 0, 0, 0
            _put_count(buffer, at + 5, end - begin)
            at += 9
        for polygon in range(begin, end):
            first, last = polygon_offsets[polygon], polygon_offsets[polygon + 1]
            buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3], buffer[at + 4] = 1, 3, 0, 0, 0
            _put_count(buffer, at + 5, last - first)
            at += 9
            for ring in range(first, last):
                _put_count(buffer, at, ring_offsets[ring + 1] - ring_offsets[ring])
                at += 4
                for vertex in range(ring_offsets[ring], ring_offsets[ring + 1]):
                    x, y = coords[vertex, 0], coords[vertex, 1]
                    store_double(buffer, at, x * sx + x0 if moved else x)
                    store_double(buffer, at + 8, y * sy + y0 if moved else y)
                    at += 16


def encode_polygons(
    coords: NDArray[np.float64],
    ring_offsets: NDArray[np.int64],
    polygon_offsets: NDArray[np.int64],
    row_offsets: NDArray[np.int64] | None = None,
    placed: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Ragged polygons as little-endian 2-D WKB, byte for byte as shapely writes them.

    Returns the `buffer` and the `offsets` (rows + 1) where each row starts in it. A polygon without rings is
    POLYGON EMPTY. Each polygon is a row; with `row_offsets` (rows + 1) a row is one polygon or more, and then
    a MultiPolygon. `placed` gives scale and origin, x and y apart: origin + scale · `coords` is what is written.
    """
    xy, none = plain(coords, np.float64).reshape(-1, 2), np.empty(0, np.int64)
    rings, polygons = plain(ring_offsets, np.int64), plain(polygon_offsets, np.int64)
    vertices = rings[polygons] - rings[polygons[0]]
    offsets = 9 * np.arange(polygons.size) + 4 * (polygons - polygons[0]) + 16 * vertices
    rows = none if row_offsets is None else plain(row_offsets, np.int64)
    if rows.size:
        offsets = offsets[rows]
        offsets[1:] += 9 * np.cumsum(np.diff(rows) > 1)
    buffer = np.empty(int(offsets[-1]), np.uint8)
    scale, origin = np.array(placed or np.empty((2, 0)), np.float64)
    _encode(xy, rings, polygons, rows, scale, origin, offsets, buffer)
    return buffer, offsets
