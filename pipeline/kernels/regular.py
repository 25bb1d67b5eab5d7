"""Regular outlines: straight walls and right angles in place of the staircase that pixels leave.

For a whole layer of traced polygons at once, as a planar graph (`arcs`), so that a wall that two share is one:

1. arcs are cut into sides by Douglas-Peucker, and each side gets the line that fits its pixel edges;
2. every polygon has a direction, and those that touch have one together where theirs are close;
3. a side within `SNAP` of a direction or its perpendicular takes it, a longer diagonal keeps its own; what runs on
   is merged, short jogs and the cut corners that a network leaves go (`sides`);
4. corners are where lines meet; junctions too, and a line is the same on both sides of a junction (`corners`).

Then everything is checked (`checks`): an arc that crosses or touches anything, or would leave its face, and all
arcs of a polygon whose overlap with the traced one is below a floor, are only simplified, and what meets them ends
where they do. That is repeated until nothing is wrong, in the worst case with the simplified layer, which is valid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels import checks, corners, simplify
from pipeline.kernels import sides as walls
from pipeline.kernels.arcs import Arcs, arcs_of
from pipeline.kernels.claims import trespass
from pipeline.kernels.jit import kernel, plain
from pipeline.kernels.nodes import noded
from pipeline.kernels.tidy import tidy

CUT = 1.5
"""Tolerance, px, of the cut into sides."""
SNAP = np.radians(30.0)
"""Nearest multiple of 90° from a frame's direction that a side may be off to take it."""
SHORT = 6.0
"""px: shorter sides may be farther off, in proportion, since their direction says less."""
JOG = 1.5
"""px: parallel lines nearer than this are one wall."""
STEP = 3.0
"""px: shorter sides between two runs of one wall are jogs."""
CHAMFER = 9.0
"""px: shorter diagonals between two walls are corners that the mask rounded."""
NEAR = np.radians(7.0)
"""Neighbours whose directions differ by less have one frame."""
AGREE = 0.2
"""How far a polygon's sides must agree on a direction, 0 to 1 (about 0 for a circle), for it to have one."""
REACH = 4.0
"""px: no corner or junction goes farther from where its sides parted."""
BEND = 0.7
"""px: a wall that misses its junction by less is bent to it; another gets a corner."""
FLOOR = 0.8
"""Least IoU of a regular polygon with the traced one."""


@kernel
def _segments(arcs: Any, offsets: Any) -> Any:
    """Segments of outlines: first and last vertex, arc, and the segments of each arc; shared vertices have one id."""
    total = offsets[-1] - (offsets.size - 1)
    a, b, owner = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total, np.int64)
    seg_offsets = np.zeros(offsets.size, np.int64)
    known = np.full(arcs.x.size, -1, np.int64)
    n = 0
    for arc in range(offsets.size - 1):
        first, last = offsets[arc], offsets[arc + 1] - 1
        p, q = arcs.points[arcs.offsets[arc]], arcs.points[arcs.offsets[arc + 1] - 1]
        if known[p] < 0:
            known[p] = first
        if known[q] < 0:
            known[q] = last
        for k in range(first, last):
            a[n] = known[p] if k == first else k
            b[n] = known[q] if k + 1 == last else k + 1
            owner[n] = arc
            n += 1
        seg_offsets[arc + 1] = n
    return a, b, owner, seg_offsets


@kernel
def _worse(
    arcs: Any, x: Any, y: Any, a: Any, b: Any, seg_offsets: Any, regular: Any, dirty: Any, floor: float, bad: Any
) -> None:
    """Set `bad` for all arcs of polygons that overlap their traced outline by less than `floor`."""
    for polygon in range(arcs.polygon_offsets.size - 1):
        first = arcs.walk_offsets[arcs.polygon_offsets[polygon]]
        last = arcs.walk_offsets[arcs.polygon_offsets[polygon + 1]]
        ask = touched = False
        for w in range(first, last):
            touched |= dirty[arcs.walk[w] >> 1]
            ask |= regular[arcs.walk[w] >> 1]
        if ask and touched and checks.overlap(arcs, x, y, a, b, seg_offsets, polygon) < floor:
            for w in range(first, last):
                bad[arcs.walk[w] >> 1] = True


@kernel
def _around(arcs: Any, changed: Any) -> Any:
    """Arcs that changed, and those that meet them at a junction."""
    out = changed.copy()
    for p in range(arcs.x.size):
        some = False
        for i in range(arcs.end_offsets[p], arcs.end_offsets[p + 1]):
            some |= changed[arcs.ends[i] >> 1]
        if some:
            for i in range(arcs.end_offsets[p], arcs.end_offsets[p + 1]):
                out[arcs.ends[i] >> 1] = True
    return out


@kernel
def _emit(arcs: Any, x: Any, y: Any, offsets: Any) -> Any:
    """Closed rings from the walks along the arcs."""
    size = 0
    for w in range(arcs.walk.size):
        size += offsets[(arcs.walk[w] >> 1) + 1] - offsets[arcs.walk[w] >> 1]
    coords = np.empty((size, 2), np.float64)
    ring_offsets = np.zeros(arcs.walk_offsets.size, np.int64)
    n = 0
    for ring in range(arcs.walk_offsets.size - 1):
        first = n
        for w in range(arcs.walk_offsets[ring], arcs.walk_offsets[ring + 1]):
            arc = arcs.walk[w] >> 1
            count = offsets[arc + 1] - offsets[arc]
            for i in range(count - 1):
                k = offsets[arc + 1] - 1 - i if arcs.walk[w] & 1 else offsets[arc] + i
                coords[n, 0], coords[n, 1] = x[k], y[k]
                n += 1
        if n > first:
            coords[n, 0], coords[n, 1] = coords[first, 0], coords[first, 1]
            n += 1
        ring_offsets[ring + 1] = n
    return coords[:n], ring_offsets


def sides_of(arcs: Arcs) -> tuple[walls.Sides, NDArray[np.bool_]]:
    """The walls of all arcs with their lines, tidied and linked; and which arcs border a polygon with a frame."""
    offsets, first, last, moments = walls.cut(arcs, CUT)
    polygons = arcs.polygon_offsets.size - 1
    total, agree = walls.directions(arcs, offsets, first, last, moments, polygons)
    apart = walls.apart(arcs, total, agree, AGREE)
    order = np.argsort(apart, kind="stable")
    frame, angle = walls.frames(arcs, total, agree, order[apart[order] <= NEAR], AGREE, NEAR)
    kind, line = np.full(first.size, -1, np.int64), np.zeros((first.size, 3), np.float64)
    sides = walls.Sides(offsets, np.diff(offsets), first, last, moments, kind, line)
    walls.bind(arcs, sides, frame, angle, SNAP, SHORT)
    tidy(arcs, sides, JOG, STEP, CHAMFER)
    corners.link(arcs, sides, JOG)
    known = np.append(frame >= 0, False)
    return sides, known[arcs.face[:, 0]] | known[arcs.face[:, 1]]


def regularise(
    coords: NDArray[np.float64],
    ring_offsets: NDArray[np.int64],
    polygon_offsets: NDArray[np.int64],
    tolerance: float,
    claims: NDArray[np.int32] | None = None,
    whose: NDArray[np.int64] | None = None,
    shift: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Traced polygons (whole coordinates, px) with straight walls and right angles where they nearly have them.

    Every polygon and ring comes back, in order. What two polygons share comes out the same in both; valid stays
    valid, and disjoint stays disjoint. What cannot be made regular is simplified (`simplify.simplify`, with
    `tolerance`). New coordinates are multiples of 1 / 1024 px. The result for a group of touching polygons depends
    on nothing but the group and what comes within 32 px of it, and moves with it by whole pixels.

    With `claims` (h, w) int32 (see `kernels.claims`) a regular polygon keeps to the pixels of its claim, `whose` (k,);
    `shift` (k, 2) leads from its coordinates to those of `claims`.
    """
    x, y, points, offsets = noded(coords, ring_offsets)
    keep = simplify.kept(x, y, points, offsets, float(tolerance))
    arcs = arcs_of(x, y, points, offsets, plain(polygon_offsets, np.int64))
    sides, regular = sides_of(arcs)
    none = np.zeros_like(regular)
    dirty = np.ones_like(regular)
    piece, count = checks.pieces(arcs)
    new_x, new_y = x.copy(), y.copy()
    pinned = np.zeros(x.size, np.bool_)
    out_x, out_y, _, a, b, owner, _ = _drawn(arcs, sides, none, pinned, keep, new_x, new_y, none)
    grid = checks.lattice(out_x, out_y, a, b)
    home, _ = checks.faces(out_x, out_y, a, b, owner, grid, arcs.face, piece, count)
    while True:
        bad = none.copy()
        drawn = _drawn(arcs, sides, regular, pinned, keep, new_x, new_y, bad)
        out_x, out_y, out_offsets, a, b, owner, seg_offsets = drawn
        _worse(arcs, out_x, out_y, a, b, seg_offsets, regular, dirty, FLOOR, bad)
        hopeless = bad & regular
        if claims is not None:
            trespass(arcs, out_x, out_y, a, b, owner, regular & dirty, claims, whose, shift, bad)
        checks.turned(arcs, out_x, out_y, out_offsets, regular, bad)
        grid = checks.lattice(out_x, out_y, a, b)
        checks.crossings(out_x, out_y, a, b, owner, grid, regular, dirty, bad)
        if not (bad & regular).any():
            there, hit = checks.faces(out_x, out_y, a, b, owner, grid, arcs.face, piece, count)
            gone = np.flatnonzero(there != home)
            bad = np.isin(piece, gone)
            bad[hit[gone][hit[gone] >= 0]] = True
            if gone.size and not (bad & regular).any():  # it was walls already given up that it went through
                faces = np.concatenate([home[gone], there[gone]])
                bad |= np.isin(arcs.face, faces[faces >= 0]).any(axis=1)
        bad &= regular
        if not bad.any():
            break
        dirty = _around(arcs, bad)
        ends = np.stack([arcs.points[arcs.offsets[:-1]], arcs.points[arcs.offsets[1:] - 1]])
        again = bad & ~hopeless & ~arcs.closed & ~pinned[ends].all(axis=0)
        pinned[ends[:, again]] = True
        regular = regular & ~(bad & ~again)
    done, done_offsets = _emit(arcs, out_x, out_y, out_offsets)
    return done, done_offsets, plain(polygon_offsets, np.int64).copy()


def _drawn(arcs: Arcs, sides: walls.Sides, regular: Any, pinned: Any, keep: Any, x: Any, y: Any, bad: Any) -> Any:
    """Vertices, offsets of the arcs in them, and segments (see `_segments`); `x`, `y` are overwritten."""
    corners.place_junctions(arcs, sides, regular, pinned, REACH, x, y)
    out_x, out_y, offsets = corners.outline(arcs, sides, regular, pinned, keep, x, y, REACH, BEND, bad)
    return out_x, out_y, offsets, *_segments(arcs, offsets)
