"""The footprints of one block, and what of them is drawn and looked for in the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.polygons import Points
from pipeline.ragged import Ints, offsets_of, ranges


@dataclass(frozen=True, slots=True)
class FootprintBlock:
    """The footprints of one block.

    rows           (r,) input rows, in input order
    row_vertices   (r + 1) where each row's vertices start in `xy`
    xy             (n, 2) float64 px of level 1, x first
    ring_offsets   (q + 1) rings (and lines and points) into `xy`; rings are closed
    ring_row       (q,) index into `rows`
    ring_kind      (q,) uint8: shell, hole, line, point (pipeline.kernels.wkb)
    """

    rows: Ints
    row_vertices: Ints
    xy: Points
    ring_offsets: Ints
    ring_row: Ints
    ring_kind: NDArray[np.uint8]

    def polygons(self, xy: Points | None = None) -> tuple[Points, Ints, Ints]:
        """Polygons and lines as `drawing.draw_cadaster` takes them: coords (n, 2), ring_offsets, polygon_offsets.

        `xy` are the block's vertices elsewhere (moved, or at another level); those of `self` if None. A
        polygon is its shell and then its holes, a line one open run; a line that ends where it begins would
        be taken for a polygon, so it comes as two. Points have nothing to draw.
        """
        from pipeline.kernels.wkb import HOLE, LINE, POINT

        points = self.xy if xy is None else xy
        runs = np.flatnonzero(self.ring_kind != POINT)
        starts, stops, kind = self.ring_offsets[runs], self.ring_offsets[runs + 1], self.ring_kind[runs]
        loops = np.flatnonzero((kind == LINE) & (points[starts] == points[stops - 1]).all(axis=1))
        if len(loops):
            turn = _first_other(points, starts[loops], stops[loops])
            starts, stops = np.insert(starts, loops + 1, turn), np.insert(stops, loops, turn + 1)
            kind = np.insert(kind, loops + 1, LINE)
        begins = np.append(np.flatnonzero(kind != HOLE), len(kind)).astype(np.int64)
        return points[ranges(starts, stops)], offsets_of(stops - starts), begins

    def outlines(self, xy: Points | None = None) -> tuple[Points, Ints, Ints]:
        """What runs along edges of the image: rings of polygons, and lines that end where they begin.

        Returns coords (n, 2), ring_offsets (q + 1), ring_row (q,) index into `rows`. An open line is a centre
        line: its edges lie to both sides of it, and as an outline it would draw its neighbours to one of them.
        """
        points = self.xy if xy is None else xy
        runs = np.flatnonzero(~self._is_open(points) & (np.diff(self.ring_offsets) > 1))
        starts, stops = self.ring_offsets[runs], self.ring_offsets[runs + 1]
        if len(runs) < len(self.ring_kind):
            points = points[ranges(starts, stops)]
        return points, offsets_of(stops - starts), self.ring_row[runs]

    def lines(self, xy: Points, rows: NDArray[np.bool_]) -> tuple[Points, Ints, Ints]:
        """Open lines of chosen `rows` (r,), as `outlines` gives the others: coords, ring_offsets, ring_row."""
        runs = np.flatnonzero(self._is_open(xy) & rows[self.ring_row])
        starts, stops = self.ring_offsets[runs], self.ring_offsets[runs + 1]
        return xy[ranges(starts, stops)], offsets_of(stops - starts), self.ring_row[runs]

    def _is_open(self, points: Points) -> NDArray[np.bool_]:
        """For each run, whether it is a line that does not end where it begins."""
        from pipeline.kernels.wkb import LINE

        first, last = points[self.ring_offsets[:-1]], points[self.ring_offsets[1:] - 1]
        return np.asarray((self.ring_kind == LINE) & (first != last).any(axis=1))

    def row_means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of a value at each vertex (n, …) over each row's vertices: (r, …)."""
        counts = np.diff(self.row_vertices).reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(np.add.reduceat(values, self.row_vertices[:-1], axis=0) / counts)


def _first_other(points: Points, starts: Ints, stops: Ints) -> Ints:
    """In each run [start, stop) of `points`, the place of the first that is not where the run begins."""
    lengths = stops - starts
    place = ranges(starts, stops)
    other = (points[place] != np.repeat(points[starts], lengths, axis=0)).any(axis=1)
    found = np.append(place[other], 0)[np.searchsorted(np.flatnonzero(other), offsets_of(lengths)[:-1])]
    return np.clip(found, starts, stops - 1)
