"""Rows of a procedural cadaster: the geometries of a city with everything that a real cadaster has wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.city import Plan

SHARES = {"multi": 0.03, "z": 0.04, "bowtie": 0.01, "empty": 0.01, "null": 0.01}
"""Shares of the rows that are made into each kind; the rest are 'polygon' or, with holes, 'hole'."""


def rows(
    plan: Plan, seed: int, n: int, origin: tuple[float, float]
) -> tuple[list[bytes | None], dict[str, NDArray[Any]]]:
    """`n` rows of WKB (None: null geometry) and their columns; see `training.city.cadaster_rows`."""
    import shapely

    rng = np.random.default_rng([seed, 1])
    polygons = len(plan.polygon_offsets) - 1
    world = plan.coords * (plan.gsd, -plan.gsd) + origin
    linear = shapely.linearrings(
        world, indices=np.repeat(np.arange(len(plan.ring_offsets) - 1), np.diff(plan.ring_offsets))
    )
    owner = np.repeat(np.arange(polygons), np.diff(plan.polygon_offsets))
    shells = shapely.polygons(linear, indices=owner)

    geometry = shells[np.arange(n) % polygons]
    kind = np.where(shapely.get_num_interior_rings(geometry) > 0, "hole", "polygon").astype(object)
    edges = np.cumsum([0.0, *SHARES.values()])
    draw = rng.random(n)
    for name, low, high in zip(SHARES, edges[:-1], edges[1:], strict=True):
        chosen = np.flatnonzero((draw >= low) & (draw < high))
        kind[chosen] = name
        if name == "multi":
            away = shells[rng.integers(0, polygons, len(chosen))]
            # A far copy, so that the parts do not touch: a valid multipolygon.
            far = shapely.transform(away, lambda xy: xy + (plan.shape[1] * plan.gsd * 2, 0))
            geometry[chosen] = [shapely.multipolygons([a, b]) for a, b in zip(geometry[chosen], far, strict=True)]
        elif name == "z":
            geometry[chosen] = shapely.force_3d(geometry[chosen], rng.uniform(0, 60, len(chosen)).round(2))
        elif name == "bowtie":
            corner = shapely.bounds(geometry[chosen])
            geometry[chosen] = [shapely.polygons([(a, b), (c, d), (c, b), (a, d), (a, b)]) for a, b, c, d in corner]
        elif name == "empty":
            geometry[chosen] = shapely.from_wkt("POLYGON EMPTY")
        else:
            geometry[chosen] = None
    wkb = shapely.to_wkb(geometry, output_dimension=3, flavor="iso")

    ids = np.arange(n, dtype=np.int64) + 1_000
    twice = rng.random(n) < 0.01
    ids[1:][twice[1:]] = ids[:-1][twice[1:]]
    value = rng.uniform(0, 1e6, n).round(2)
    value[rng.random(n) < 0.05] = np.nan
    columns = {
        "cadaster_id": ids,
        "kind": kind,
        "name": np.array([f"Straße {i % 977}" for i in range(n)], dtype=object),
        "value": value,
    }
    return list(wkb), columns
