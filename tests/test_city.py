from __future__ import annotations

import time

import numpy as np
import pytest
import shapely

from training.city import cadaster_rows, city, plan_city
from training.city_draw import BLOCK, draw


def geometries(plan) -> np.ndarray:  # type: ignore[no-untyped-def, type-arg]
    rings = shapely.linearrings(
        plan.coords, indices=np.repeat(np.arange(len(plan.ring_offsets) - 1), np.diff(plan.ring_offsets))
    )
    owner = np.repeat(np.arange(len(plan.polygon_offsets) - 1), np.diff(plan.polygon_offsets))
    return shapely.polygons(rings, indices=owner)


def test_same_seed_same_city_other_seed_other_city() -> None:
    a, b, c = (city((150, 200), 0.5, seed, labels=True) for seed in (1, 1, 2))
    assert a.image.shape == (3, 150, 200) and a.image.dtype == np.uint8
    assert np.array_equal(a.image, b.image) and np.array_equal(a.coords, b.coords)
    assert a.labels is not None and b.labels is not None and np.array_equal(a.labels, b.labels)
    assert not np.array_equal(a.image, c.image)


def test_ragged_polygons_are_closed_valid_and_apart() -> None:
    plan = plan_city((900, 900), 0.6, 5, density=0.8)
    first, last = plan.ring_offsets[:-1], plan.ring_offsets[1:] - 1
    assert np.array_equal(plan.coords[first], plan.coords[last])
    assert plan.coords.dtype == np.float64 and plan.ring_offsets.dtype == np.int64
    shapes = geometries(plan)
    assert len(shapes) == len(plan.heights) == len(plan.halves) > 200
    assert shapely.is_valid(shapes).all()
    total = shapely.area(shapes).sum()
    assert total - shapely.area(shapely.union_all(shapes)) < 1e-3 * total  # at most slivers where walls bend


def test_party_walls_share_their_vertices_to_the_bit() -> None:
    plan = plan_city((900, 900), 0.6, 5, density=0.8)
    shapes = geometries(plan)
    tree = shapely.STRtree(shapes)
    a, b = tree.query(shapes, predicate="dwithin", distance=0.02)
    a, b = a[a < b], b[a < b]
    vertices = [set(map(tuple, shapely.get_coordinates(s))) for s in shapes]
    shared = [len(vertices[i] & vertices[j]) for i, j in zip(a, b, strict=True)]
    assert len(a) > 100
    assert min(shared) >= 1 and np.mean([s >= 2 for s in shared]) > 0.9


def test_holes_are_there() -> None:
    plan = plan_city((1200, 1200), 0.6, 3)
    assert (np.diff(plan.polygon_offsets) > 1).sum() >= 3


def test_labels_lie_where_the_polygons_are() -> None:
    made = city((300, 300), 0.5, 4, labels=True)
    assert made.labels is not None
    points = np.argwhere(made.labels > 0)[::97]
    shapes = geometries(made.plan)[made.labels[tuple(points.T)] - 1]
    distance = shapely.distance(shapes, shapely.points(points[:, ::-1] + 0.5))
    assert len(points) > 50 and distance.max() < 1.5


def test_the_image_tells_houses_from_streets() -> None:
    made = city((400, 400), 0.5, 6, labels=True)
    assert made.labels is not None
    gray = made.image.mean(0)
    assert gray.std() > 10 and abs(gray[made.labels > 0].mean() - gray[made.labels == 0].mean()) > 3


def test_blocks_join_without_a_seam_in_the_roads() -> None:
    plan = plan_city((64, BLOCK + 64), 0.5, 7)
    image, _ = draw(plan)
    step = np.abs(np.diff(image.astype(int), axis=2)).mean((0, 1))
    assert step[BLOCK - 1] < 3 * np.median(step)


@pytest.mark.parametrize("source", [500, "plan"])
def test_cadaster_rows_have_every_kind(source: int | str) -> None:
    given = plan_city((900, 900), 0.6, 5) if source == "plan" else 2000
    wkb, columns = cadaster_rows(given, seed=1, n=2000)
    assert len(wkb) == 2000 and all(len(c) == 2000 for c in columns.values())
    assert set(columns["kind"]) == {"polygon", "hole", "multi", "z", "bowtie", "empty", "null"}
    shapes, kind = shapely.from_wkb(wkb), columns["kind"]
    assert all(w is None for w in np.array(wkb, dtype=object)[kind == "null"])
    assert shapely.has_z(shapes[kind == "z"]).all() and shapely.is_empty(shapes[kind == "empty"]).all()
    assert not shapely.is_valid(shapes[kind == "bowtie"]).any()
    fine = np.isin(kind.astype(str), ["polygon", "hole", "multi", "z"])
    assert shapely.is_valid(shapes[fine]).all()
    assert len(np.unique(columns["cadaster_id"])) < 2000


def test_cadaster_rows_are_deterministic_and_quick() -> None:
    began = time.perf_counter()
    wkb, _ = cadaster_rows(20_000, seed=3)
    assert time.perf_counter() - began < 20
    assert wkb[:200] == cadaster_rows(20_000, seed=3)[0][:200] and len(set(wkb)) > 18_000
