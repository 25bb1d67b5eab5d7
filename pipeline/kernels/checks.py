"""What new outlines must not do: cross or touch, turn about a junction, change their face, leave their old place."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.kernels.components import grown
from pipeline.kernels.conflicts import meet
from pipeline.kernels.jit import kernel


@kernel
def lattice(x: Any, y: Any, a: Any, b: Any) -> Any:
    """Segments a[i]-b[i] sorted into square cells: x0, y0, side, columns, rows, heads (cells + 1,), members.

    Cell sides are about the square root of the area per segment.
    """
    x0, y0, x1, y1 = np.inf, np.inf, -np.inf, -np.inf
    for s in range(a.size):
        x0, x1 = min(x0, x[a[s]], x[b[s]]), max(x1, x[a[s]], x[b[s]])
        y0, y1 = min(y0, y[a[s]], y[b[s]]), max(y1, y[a[s]], y[b[s]])
    n = max(a.size, 1)
    side = max(np.sqrt((x1 - x0) * (y1 - y0) / n), (x1 - x0 + y1 - y0) / n)
    if not side > 0.0:
        side = 1.0
    columns, rows = int((x1 - x0) / side) + 1, int((y1 - y0) / side) + 1
    heads = np.zeros(columns * rows + 1, np.int64)
    members = np.empty(0, np.int64)
    for step in range(2):
        for s in range(a.size):
            c0, c1 = int((min(x[a[s]], x[b[s]]) - x0) / side), int((max(x[a[s]], x[b[s]]) - x0) / side)
            r0, r1 = int((min(y[a[s]], y[b[s]]) - y0) / side), int((max(y[a[s]], y[b[s]]) - y0) / side)
            for r in range(r0, r1 + 1):
                for c in range(c0, c1 + 1):
                    if step == 0:
                        heads[r * columns + c + 1] += 1
                    else:
                        heads[r * columns + c] -= 1
                        members[heads[r * columns + c]] = s
        if step == 0:
            for cell in range(columns * rows):
                heads[cell + 1] += heads[cell]
            members = np.empty(heads[columns * rows], np.int64)
            for cell in range(columns * rows):  # filling counts each head down to its start
                heads[cell] = heads[cell + 1]
    return x0, y0, side, columns, rows, heads, members


@kernel
def crossings(x: Any, y: Any, a: Any, b: Any, owner: Any, grid: Any, regular: Any, dirty: Any, bad: Any) -> Any:
    """Set `bad` for the arcs of every two segments that have more in common than an end, if one is regular.

    Only pairs with a `dirty` arc are asked; whether there is any.
    """
    x0, y0, side, columns, _, heads, members = grid
    found = False
    for s in range(a.size):
        if not dirty[owner[s]]:
            continue
        c0, c1 = int((min(x[a[s]], x[b[s]]) - x0) / side), int((max(x[a[s]], x[b[s]]) - x0) / side)
        r0, r1 = int((min(y[a[s]], y[b[s]]) - y0) / side), int((max(y[a[s]], y[b[s]]) - y0) / side)
        for r in range(r0, r1 + 1):
            for k in range(heads[r * columns + c0], heads[r * columns + c1 + 1]):
                t = members[k]
                if t == s or not (regular[owner[s]] or regular[owner[t]]):
                    continue
                if (a[s] == a[t] and b[s] == b[t]) or (a[s] == b[t] and b[s] == a[t]):
                    clash = True
                else:
                    clash = meet(x, y, a[s], b[s], a[t], b[t])
                if clash:
                    bad[owner[s]] = bad[owner[t]] = True
                    found = True
    return found


@kernel
def turned(arcs: Any, out_x: Any, out_y: Any, offsets: Any, regular: Any, bad: Any) -> None:
    """Set `bad` for the arcs at a junction whose order around it is not that of the traced ones."""
    code, angle = np.empty(64, np.int64), np.empty(64, np.float64)
    for p in range(arcs.x.size):
        begin, end = arcs.end_offsets[p], arcs.end_offsets[p + 1]
        if end - begin < 3 or end - begin > 64:
            continue
        some = False
        for i in range(begin, end):
            e = arcs.ends[i]
            arc = e >> 1
            if offsets[arc + 1] - offsets[arc] < 2:  # shrunk to a point: `bad` already, and without a direction
                some = False
                break
            some |= regular[arc]
            here, there = arcs.offsets[arc], arcs.offsets[arc] + 1
            at, to = offsets[arc], offsets[arc] + 1
            if e & 1:
                here, there = arcs.offsets[arc + 1] - 1, arcs.offsets[arc + 1] - 2
                at, to = offsets[arc + 1] - 1, offsets[arc + 1] - 2
            dx = arcs.x[arcs.points[there]] - arcs.x[arcs.points[here]]
            dy = arcs.y[arcs.points[there]] - arcs.y[arcs.points[here]]
            code[i - begin] = (0 if dx > 0 else 2) if abs(dx) > abs(dy) else (1 if dy > 0 else 3)
            angle[i - begin] = np.arctan2(out_y[to] - out_y[at], out_x[to] - out_x[at])
        if not some:
            continue
        count = end - begin
        for i in range(1, count):
            for j in range(i, 0, -1):
                if code[j - 1] > code[j]:
                    code[j - 1], code[j] = code[j], code[j - 1]
                    angle[j - 1], angle[j] = angle[j], angle[j - 1]
        around = 0.0
        for i in range(count):
            step = angle[(i + 1) % count] - angle[i]
            while step < 0.0:
                step += 2 * np.pi
            around += step
        if around > 3 * np.pi:
            for i in range(begin, end):
                bad[arcs.ends[i] >> 1] = True


@kernel
def pieces(arcs: Any) -> Any:
    """The connected piece of the graph that each arc belongs to (a,), numbered from 0, and their count."""
    root = np.arange(arcs.closed.size)
    for p in range(arcs.x.size):
        for i in range(arcs.end_offsets[p] + 1, arcs.end_offsets[p + 1]):
            a, b = arcs.ends[i] >> 1, arcs.ends[i - 1] >> 1
            while root[a] != a:
                root[a] = root[root[a]]
                a = root[a]
            while root[b] != b:
                root[b] = root[root[b]]
                b = root[b]
            root[max(a, b)] = min(a, b)
    piece, count = np.empty(root.size, np.int64), 0
    for arc in range(root.size):
        a = arc
        while root[a] != a:
            a = root[a]
        if a == arc:
            piece[arc] = count
            count += 1
        else:
            piece[arc] = piece[a]
    return piece, count


@kernel
def faces(x: Any, y: Any, a: Any, b: Any, owner: Any, grid: Any, face: Any, piece: Any, count: int) -> Any:
    """The face that each piece of the graph lies in (count,), and the arc that says so (count,); -1 for none.

    From the leftmost end of each piece a ray goes left, to the first segment of another piece.
    """
    x0, y0, side, columns, _, heads, members = grid
    left = np.full(count, -1, np.int64)
    for s in range(a.size):
        k = piece[owner[s]]
        for p in (a[s], b[s]):
            if left[k] < 0 or x[p] < x[left[k]] or (x[p] == x[left[k]] and y[p] < y[left[k]]):
                left[k] = p
    inside, hit = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    for k in range(count):
        px, py = x[left[k]], y[left[k]]
        r = int((py - y0) / side)
        best, lean = -np.inf, 0.0
        for c in range(int((px - x0) / side), -1, -1):
            if best > c * side + x0 - px + side:
                break
            for m in range(heads[r * columns + c], heads[r * columns + c + 1]):
                s = members[m]
                p, q = a[s], b[s]
                if piece[owner[s]] == k or (y[p] > py) == (y[q] > py):
                    continue
                slope = (x[q] - x[p]) / (y[q] - y[p])
                at = x[q] - px if y[q] == py else (x[p] - px) + (py - y[p]) * slope
                # Where two leave one vertex downwards, the one that leans to the ray's origin is nearer.
                if at < 0.0 and (at > best or (at == best and slope > lean)):
                    best, lean = at, slope
                    inside[k], hit[k] = face[owner[s], 0 if y[q] > y[p] else 1], owner[s]
    return inside, hit


@kernel
def _events(
    rows: Any, xs: Any, which: Any, n: int, x: Any, y: Any, ax: float, ay: float, p: int, q: int, kind: int
) -> Any:
    """Where the segment p-q crosses the middles of pixel rows, about (ax, ay): appended; the new count."""
    y0, y1 = y[p] - ay, y[q] - ay
    x0, x1 = x[p] - ax, x[q] - ax
    if y0 > y1:
        x0, y0, x1, y1 = x1, y1, x0, y0
    for r in range(int(np.ceil(y0 - 0.5)), int(np.ceil(y1 - 0.5))):
        rows[n], which[n] = r, kind
        xs[n] = x0 + (r + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        n += 1
    return n


@kernel
def overlap(arcs: Any, x: Any, y: Any, a: Any, b: Any, seg_offsets: Any, polygon: int) -> Any:
    """IoU of a polygon's new outline with the traced one, by the middles of pixel rows."""
    room = 64
    rows, xs, which = np.empty(room, np.int64), np.empty(room, np.float64), np.empty(room, np.int64)
    n = 0
    ax, ay, set_ = 0.0, 0.0, False
    for ring in range(arcs.polygon_offsets[polygon], arcs.polygon_offsets[polygon + 1]):
        for w in range(arcs.walk_offsets[ring], arcs.walk_offsets[ring + 1]):
            arc = arcs.walk[w] >> 1
            if not set_:
                ax, ay, set_ = arcs.x[arcs.points[arcs.offsets[arc]]], arcs.y[arcs.points[arcs.offsets[arc]]], True
            for k in range(arcs.offsets[arc], arcs.offsets[arc + 1] - 1):
                p, q = arcs.points[k], arcs.points[k + 1]
                need = n + int(abs(arcs.y[p] - arcs.y[q])) + 4
                if need > rows.size:
                    rows, xs, which = grown2(rows, xs, which, n, 2 * need)
                n = _events(rows, xs, which, n, arcs.x, arcs.y, ax, ay, p, q, 0)
            for s in range(seg_offsets[arc], seg_offsets[arc + 1]):
                need = n + int(abs(y[a[s]] - y[b[s]])) + 4
                if need > rows.size:
                    rows, xs, which = grown2(rows, xs, which, n, 2 * need)
                n = _events(rows, xs, which, n, x, y, ax, ay, a[s], b[s], 1)
    if n == 0:
        return 0.0
    top, bottom = rows[0], rows[0]
    for i in range(n):
        top, bottom = min(top, rows[i]), max(bottom, rows[i])
    heads = np.zeros(bottom - top + 2, np.int64)
    for i in range(n):
        heads[rows[i] - top + 1] += 1
    for r in range(bottom - top + 1):
        heads[r + 1] += heads[r]
    line, kind = np.empty(n, np.float64), np.empty(n, np.int64)
    slot = heads.copy()
    for i in range(n):  # into its row, in order: rows are short
        k = slot[rows[i] - top]
        slot[rows[i] - top] += 1
        while k > heads[rows[i] - top] and line[k - 1] > xs[i]:
            line[k], kind[k] = line[k - 1], kind[k - 1]
            k -= 1
        line[k], kind[k] = xs[i], which[i]
    both, either = 0.0, 0.0
    for r in range(bottom - top + 1):
        old = new = False
        for i in range(heads[r], heads[r + 1]):
            if i > heads[r]:
                run = line[i] - line[i - 1]
                if old and new:
                    both += run
                if old or new:
                    either += run
            if kind[i] == 0:
                old = not old
            else:
                new = not new
    return both / either if either > 0.0 else 0.0


@kernel
def grown2(rows: Any, xs: Any, which: Any, n: int, size: int) -> Any:
    """Copies of the three with room for `size` values."""
    return grown(rows[:n], size), grown(xs[:n], size), grown(which[:n], size)
