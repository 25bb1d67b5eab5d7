"""Regular outlines: straight and square where they nearly are, shared walls shared, nothing torn or overlapping."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.kernels import regular, simplify, trace
from pipeline.kernels.claims import NOBODY, claim
from pipeline.kernels.rasterise import fill

Ragged = tuple[np.ndarray, np.ndarray, np.ndarray]


def shapes(ragged: Ragged) -> np.ndarray:
    coords, ring_offsets, polygon_offsets = ragged
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, coords, (ring_offsets, polygon_offsets))


def traced(labels: np.ndarray) -> Ragged:
    return trace.trace(labels.astype(np.int32))[:3]


def drawn(corners: np.ndarray, shape: tuple[int, int] = (90, 90)) -> np.ndarray:
    """Pixels of a polygon (n, 2)."""
    ring = np.vstack([corners, corners[:1]])
    return fill(ring, np.array([0, len(ring)]), np.array([0, 1]), shape)


def turned(points: list[tuple[float, float]], degrees: float, centre: tuple[float, float]) -> np.ndarray:
    """Points about the origin, turned and moved."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array(points) @ np.array([[c, s], [-s, c]]) + centre


def box(width: float, height: float) -> list[tuple[float, float]]:
    w, h = width / 2, height / 2
    return [(-w, -h), (w, -h), (w, h), (-w, h)]


def turns(shape: shapely.Polygon) -> np.ndarray:
    """Degrees by which the shell turns at each corner, 0 to 180."""
    step = np.diff(shapely.get_coordinates(shape.exterior), axis=0)
    angle = np.degrees(np.arctan2(step[:, 1], step[:, 0]))
    return np.abs((np.diff(angle, append=angle[0]) + 180) % 360 - 180)


def iou(one: shapely.Polygon, other: shapely.Polygon) -> float:
    return float(one.intersection(other).area / one.union(other).area)


def check(before: Ragged) -> np.ndarray:
    """What holds for every layer: all there, valid, a coverage; and near the traced one."""
    after = regular.regularise(*before, 0.75)
    old, new = shapes(before), shapes(after)
    assert len(new) == len(old)
    assert shapely.is_valid(new).all()
    assert (shapely.get_num_interior_rings(new) == shapely.get_num_interior_rings(old)).all()
    assert shapely.union_all(new).area == pytest.approx(shapely.area(new).sum(), rel=1e-9)
    assert shapely.coverage_is_valid(new)  # walls that two share are bit-equal in both
    assert (after[0] * 1024 % 1 == 0).all()
    return new


@settings(max_examples=60)
@given(
    degrees=st.floats(0, 90),
    width=st.floats(12, 40),
    ratio=st.floats(0.5, 1),
    x=st.floats(42, 46),
    y=st.floats(42, 46),
)
def test_a_rectangle_comes_back_as_one(degrees: float, width: float, ratio: float, x: float, y: float) -> None:
    true = turned(box(width, max(ratio * width, 10)), degrees, (x, y))
    found = check(traced(drawn(true)))[0]
    corners = shapely.get_coordinates(found.exterior)[:-1]
    assert len(corners) == 4
    apart = np.hypot(*(corners[:, None] - true[None]).transpose(2, 0, 1))
    assert apart.min(axis=0).max() < 1.0
    assert np.abs(turns(found) - 90).max() < 0.5


@pytest.mark.parametrize("degrees", [0, 15, 31, 45, 77])
def test_an_l_stays_an_l_and_drawing_it_again_changes_little(degrees: float) -> None:
    true = turned([(-18, -14), (18, -14), (18, 2), (2, 2), (2, 14), (-18, 14)], degrees, (45, 44))
    found = check(traced(drawn(true)))[0]
    assert len(shapely.get_coordinates(found.exterior)) == 7
    assert np.abs(turns(found) - 90).max() < 0.5
    assert iou(found, shapely.Polygon(true)) > 0.95
    again = check(traced(drawn(shapely.get_coordinates(found.exterior)[:-1])))[0]
    assert len(shapely.get_coordinates(again.exterior)) == 7
    assert shapely.hausdorff_distance(again.exterior, found.exterior) < 0.75


@pytest.mark.parametrize("degrees", [0, 20, 40])
def test_a_long_diagonal_stays_one(degrees: float) -> None:
    true = turned([(-20, -14), (4, -14), (20, 2), (20, 14), (-20, 14)], degrees, (45, 44))
    found = check(traced(drawn(true)))[0]
    assert len(shapely.get_coordinates(found.exterior)) == 6
    assert iou(found, shapely.Polygon(true)) > 0.95
    assert sorted(np.round(turns(found) / 45)) == [1, 1, 2, 2, 2]


def test_rounded_corners_become_corners_and_small_jogs_go() -> None:
    mask = np.zeros((70, 80), np.uint8)
    mask[10:50, 12:60] = 1
    mask[10:24, 60:61] = 1  # a jog of one pixel
    rounded = ndimage.binary_opening(mask, np.hypot(*np.mgrid[-5:6, -5:6]) < 5.5)
    found = check(traced(rounded))[0]
    assert len(shapely.get_coordinates(found.exterior)) == 5
    assert iou(found, shapely.box(12, 10, 60, 50)) > 0.97


def test_a_circle_is_only_simplified() -> None:
    y, x = np.mgrid[:70, :70]
    before = traced((x - 34.3) ** 2 + (y - 35.1) ** 2 < 25**2)
    assert check(before)[0].normalize() == shapes(simplify.simplify(*before, 0.75))[0].normalize()


@pytest.mark.parametrize("degrees", [0, 12, 33, 60])
def test_a_terrace_keeps_its_party_walls_and_one_front(degrees: float) -> None:
    labels = np.zeros((90, 90), np.int32)
    for house, left in enumerate((-36, -18, 2, 20)):
        right = (-18, 2, 20, 36)[house]
        labels[drawn(turned([(left, -10), (right, -10), (right, 10), (left, 10)], degrees, (45, 45))) > 0] = house + 1
    new = check(traced(labels))
    assert [len(shapely.get_coordinates(house)) for house in new] == [5, 5, 5, 5]
    for house in new:
        assert np.abs(turns(house) - 90).max() < 1.0
    hull = shapely.union_all(new)
    assert iou(hull, shapely.Polygon(turned(box(72, 20), degrees, (45, 45)))) > 0.95
    corners = shapely.get_coordinates(hull.simplify(0.01).exterior)
    assert len(corners) == 5  # the fronts lie on one line


def test_houses_that_stand_back_keep_their_step() -> None:
    labels = np.zeros((50, 70), np.int32)
    labels[10:40, 8:30], labels[16:40, 30:60] = 1, 2
    new = check(traced(labels))
    assert new[0].equals(shapely.box(8, 10, 30, 40)) and new[1].equals(shapely.box(30, 16, 60, 40))


def test_holes_are_kept_and_squared() -> None:
    outer = drawn(turned(box(60, 50), 25, (45, 45)))
    inner = drawn(turned(box(20, 16), 25, (45, 45)))
    found = check(traced((outer > 0) & (inner == 0)))[0]
    assert len(shapely.get_coordinates(found.interiors[0])) == 5
    courtyard = np.where(inner > 0, 2, (outer > 0).astype(np.int32))
    both = check(traced(courtyard))
    assert shapely.Polygon(both[0].interiors[0]).equals(both[1])


def blobs(seed: int, shape: tuple[int, int], grain: float, labels: int) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), grain)
    return np.digitize(field, np.quantile(field, np.linspace(0.3, 0.9, labels)))


@settings(max_examples=60)
@given(seed=st.integers(0, 9999), grain=st.sampled_from([0.8, 1.5, 3.0, 5.0]), labels=st.integers(1, 5))
def test_any_coverage_stays_one(seed: int, grain: float, labels: int) -> None:
    check(traced(blobs(seed, (60, 70), grain, labels)))


@settings(max_examples=30)
@given(seed=st.integers(0, 9999), labels=st.integers(2, 4))
def test_speckle_stays_valid(seed: int, labels: int) -> None:
    check(traced(np.random.default_rng(seed).integers(0, labels, (24, 30))))


@settings(max_examples=20)
@given(seed=st.integers(0, 9999), houses=st.integers(4, 14))
def test_crowded_houses_stay_a_coverage(seed: int, houses: int) -> None:
    """Turned boxes over each other, so that they touch in every way that boxes can."""
    random = np.random.default_rng(seed)
    labels = np.zeros((90, 90), np.int32)
    base = random.uniform(0, 90)
    for house in range(houses):
        size = random.uniform(10, 30, 2)
        corners = turned(box(*size), base + random.normal(0, 4), tuple(random.uniform(15, 75, 2)))
        labels[drawn(corners) > 0] = house + 1
    check(traced(labels))


def test_where_a_layer_stands_does_not_matter() -> None:
    before = traced(blobs(5, (80, 90), 2.5, 4))
    here = regular.regularise(*before, 0.75)
    for move in ((2**24, 2**24), (3_000_017, 11)):
        there = regular.regularise(before[0] + np.array(move, np.float64), *before[1:], 0.75)
        np.testing.assert_array_equal(there[0] - np.array(move, np.float64), here[0])
        np.testing.assert_array_equal(there[1], here[1])


def claims_by_hand(component: np.ndarray, reach: int) -> np.ndarray:
    """Claims from a distance map of each component."""
    numbers = [number for number in np.unique(component) if number]
    far = np.stack([ndimage.distance_transform_cdt(component != number, "chessboard") for number in numbers])
    nearest = far.min(axis=0)
    owner = np.array(numbers)[far.argmin(axis=0)]
    owner[(far == nearest).sum(axis=0) > 1] = NOBODY
    return np.where(nearest <= reach, owner, 0)


@pytest.mark.parametrize("seed", range(6))
def test_claims_go_to_the_nearest(seed: int) -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(50, 60)), 1.2 + seed / 4)
    component, _ = ndimage.label(smooth > np.quantile(smooth, 0.8), np.ones((3, 3)))
    component[component == 2] = -1
    np.testing.assert_array_equal(claim(component.astype(np.int32), 6), claims_by_hand(component, 6))


def test_lines_without_polygons() -> None:
    none = (np.zeros((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64))
    for one, other in zip(regular.regularise(*none, 0.75), none, strict=True):
        np.testing.assert_array_equal(one, other)
