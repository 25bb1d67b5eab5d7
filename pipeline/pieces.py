"""Polygons made ready to be overlaid: repaired, and cut so that none is walked whole for each of its neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_VERTICES = 256
"""Polygons with more are halved until they have fewer before they are overlaid: one that covers a city would
otherwise be walked whole for each house in it."""


def polygonal(shapes: Iterable[Any]) -> NDArray[Any]:
    """The polygons of shapely geometries (n,), repaired where invalid; empty ones where there is no area."""
    import shapely

    array = np.array([shapely.Polygon() if s is None else s for s in shapes], dtype=object)
    bad = ~shapely.is_valid(array)
    array[bad] = shapely.make_valid(array[bad], method="structure", keep_collapsed=False)
    kinds = shapely.get_type_id(array)
    array[np.isin(kinds, (0, 1, 2, 4, 5))] = shapely.Polygon()  # points and lines
    for i in np.flatnonzero(kinds == shapely.GeometryType.GEOMETRYCOLLECTION):
        inside = [part for part in shapely.get_parts(array[i]) if part.area > 0]
        array[i] = shapely.union_all(polygonal(inside)) if inside else shapely.Polygon()
    return array


def pieces(shapes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The shapes in pieces of at most MAX_VERTICES where that can be had, and the position each is from."""
    import shapely

    index = np.arange(len(shapes))
    done: list[NDArray[Any]] = []
    owners: list[NDArray[np.int64]] = []
    for _ in range(40):
        big = shapely.get_num_coordinates(shapes) > MAX_VERTICES
        done.append(shapes[~big])
        owners.append(index[~big])
        shapes, index = shapes[big], index[big]
        if not len(shapes):
            break
        shapes, index = np.concatenate(_halves(shapes)), np.tile(index, 2)
        some = shapely.area(shapes) > 0
        shapes, index = shapes[some], index[some]
    return np.concatenate([*done, shapes]), np.concatenate([*owners, index])


def _halves(shapes: NDArray[Any]) -> list[NDArray[Any]]:
    """Shapes (n,) cut across the longer side of their bounds; by overlay, which is slow, only where clipping fails."""
    import shapely

    bounds = shapely.bounds(shapes)
    rows, longer = np.arange(len(bounds)), (np.diff(bounds[:, 1::2]) > np.diff(bounds[:, ::2])).astype(int)[:, 0]
    boxes = bounds.copy(), bounds.copy()
    boxes[0][rows, longer + 2] = boxes[1][rows, longer] = (bounds[rows, longer] + bounds[rows, longer + 2]) / 2
    halves = [
        np.array([shapely.clip_by_rect(shape, *box) for shape, box in zip(shapes, half.tolist(), strict=True)], object)
        for half in boxes
    ]
    area, both = shapely.area(shapes), sum(shapely.area(half) for half in halves)
    bad = ~(shapely.is_valid(halves[0]) & shapely.is_valid(halves[1]) & np.isclose(area, both, rtol=1e-9, atol=0))
    for half, box in zip(halves, boxes, strict=True):
        half[bad] = polygonal(shapely.intersection(shapes[bad], shapely.box(*box[bad].T)))
    return halves
