"""Outlines: simplified group by group, as if each were alone, wherever it stands."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.buildings import Ragged, join_polygons, take_polygons
from pipeline.grid import Window
from pipeline.kernels import instances, rasterise, simplify
from pipeline.stages import outlines
from pipeline.stages.outlines import claims_of, simplified, trace_runs


def scene(seed: int, shape: tuple[int, int] = (60, 70)) -> tuple[Ragged, np.ndarray]:
    """Traced instances and the mask component of each, many of them a pixel apart."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.normal(size=(2, *shape)), (0, 1.5, 1.5))
    component, _ = ndimage.label(smooth[0] > 0, np.ones((3, 3)))
    labels = np.where(component > 0, 2 * component + (smooth[1] > 0), 0).astype(np.int32)
    polygons, label = trace_runs(instances.runs(labels), Window(0, 0, *shape))
    return polygons, label // 2


def same(one: Ragged, other: Ragged) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), row=st.sampled_from([2**24, 2**8]))
def test_each_group_as_if_it_were_alone(seed: int, row: int) -> None:
    polygons, group = scene(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlines, "ROW", row)  # a short row: several of them
        together = simplified(polygons, group, 0.75)
    assert together[1].size == polygons[1].size and together[2].size == polygons[2].size
    for number in np.unique(group):
        mine = np.flatnonzero(group == number)
        alone = simplify.simplify(*take_polygons(polygons, mine), 0.75)
        same(take_polygons(together, mine), alone)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), row=st.sampled_from([2**24, 2**8]))
def test_regular_outlines_of_a_group_depend_on_its_claims_alone(seed: int, row: int) -> None:
    polygons, group = scene(seed)
    mask = rasterise.fill(*polygons, (60, 70))
    component, _ = ndimage.label(mask, np.ones((3, 3)))
    window = Window(0, 0, 60, 70)
    claims = claims_of(component.astype(np.int32), None, window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlines, "ROW", row)
        together = simplified(polygons, group, 0.75, claims)
    shapes = shapely.from_ragged_array(shapely.GeometryType.POLYGON, together[0], together[1:])
    assert shapely.is_valid(shapes).all()
    assert shapely.union_all(shapes).area == pytest.approx(shapely.area(shapes).sum(), rel=1e-9)
    for number in np.unique(group):
        mine = np.flatnonzero(group == number)
        others = (component != number) & (component > 0)
        own = claims_of(np.where(component == number, component, 0).astype(np.int32), others, window)
        np.testing.assert_array_equal(own.owner == number, claims.owner == number)
        alone = simplified(take_polygons(polygons, mine), group[mine], 0.75, own)
        same(take_polygons(together, mine), alone)


def test_where_a_component_stands_does_not_matter() -> None:
    polygons, group = scene(1)
    here = simplified(polygons, group, 0.75)
    far = np.array([3e6, 7e6])
    there = simplified((polygons[0] + far, *polygons[1:]), group + 5, 0.75)
    same((there[0] - far, *there[1:]), here)


def test_a_component_with_very_many_vertices_stays_as_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    polygons, group = scene(2)
    vertices = np.bincount(np.repeat(np.repeat(group, np.diff(polygons[2])), np.diff(polygons[1])))
    monkeypatch.setattr(outlines, "MOST", 60)
    done = simplified(polygons, group, 0.75)
    plain = join_polygons(
        [simplified(take_polygons(polygons, np.array([k])), group[[k]], 0.0) for k in range(group.size)]
    )
    large = np.flatnonzero(vertices[group] > 60)
    assert 0 < large.size < group.size
    same(take_polygons(done, large), take_polygons(plain, large))
    assert done[0].shape[0] < polygons[0].shape[0]
    shapes = shapely.from_ragged_array(shapely.GeometryType.POLYGON, done[0], done[1:])
    assert shapely.is_valid(shapes).all()


def test_nothing_to_simplify() -> None:
    none = (np.zeros((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64))
    same(simplified(none, np.zeros(0, np.int64), 0.75), none)
