"""Mask and touching-border targets on cases small enough to check by eye."""

from __future__ import annotations

import numpy as np
import pytest
from rasterio.features import rasterize
from shapely import Polygon

from training import targets
from training.city import plan_city
from training.targets import label_image, mask_and_touching, touching_borders


def two_squares(gap: int, side: int = 12, size: int = 40) -> np.ndarray:
    """Two squares side by side with `gap` px between them; the left one ends at column 16."""
    labels = np.zeros((size, size), np.int32)
    labels[10 : 10 + side, 16 - side : 16] = 1
    labels[10 : 10 + side, 16 + gap : 16 + gap + side] = 2
    return labels


def test_a_party_wall_gives_a_band_of_four_pixels() -> None:
    touching = touching_borders(two_squares(0))
    assert np.flatnonzero(touching[16]).tolist() == [14, 15, 16, 17]
    rows = np.flatnonzero(touching.any(axis=1))
    assert rows[0] >= 10 - 5 and rows[-1] <= 21 + 5 and {10, 21} <= set(rows.tolist())


@pytest.mark.parametrize("gap", [1, 2, 3])
def test_a_small_gap_is_covered_and_reaches_into_both(gap: int) -> None:
    columns = np.flatnonzero(touching_borders(two_squares(gap))[16])
    assert len(columns) == 4  # one band, unbroken
    assert columns[-1] - columns[0] == 3
    middle = 16 + gap / 2
    assert columns[0] < middle < columns[-1] + 1


@pytest.mark.parametrize("gap", [8, 12])
def test_a_wide_gap_is_not_touching(gap: int) -> None:
    assert not touching_borders(two_squares(gap, side=8)).any()


def test_near_says_what_counts_as_close() -> None:
    labels = two_squares(8, side=8)
    assert touching_borders(labels, near=6).any()
    assert not touching_borders(two_squares(3), near=1).any()


def test_single_building_and_nothing() -> None:
    labels = np.zeros((20, 20), np.int32)
    assert not mask_and_touching(labels).any()
    labels[5:12, 5:12] = 7
    mask, touching = mask_and_touching(labels)
    assert mask.sum() == 49 and not touching.any()


def test_a_corner_contact_is_marked_at_the_corner_only() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[8:20, 8:20] = 1
    labels[20:32, 20:32] = 2
    ys, xs = np.nonzero(touching_borders(labels))
    assert len(ys) and max(abs(ys - 19.5).max(), abs(xs - 19.5).max()) <= 6
    assert touching_borders(labels)[19:21, 19:21].all()


def test_the_target_does_not_depend_on_the_numbering() -> None:
    rng = np.random.default_rng(0)
    labels = np.kron(rng.permutation(36).reshape(6, 6) + 1, np.ones((9, 9), np.int32)).astype(np.int32)
    renumbered = (labels * 1000).astype(np.int32)  # far beyond 255, where the published code wraps
    np.testing.assert_array_equal(touching_borders(labels), touching_borders(renumbered))
    np.testing.assert_array_equal(touching_borders(labels), touching_borders(labels.T).T)


def test_the_mask_keeps_whole_buildings() -> None:
    labels = two_squares(0)
    np.testing.assert_array_equal(mask_and_touching(labels)[0], labels > 0)


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def test_labels_follow_pixel_centres_holes_and_scale() -> None:
    coords = np.array(square(2, 2, 8) + square(4, 4, 2) + square(10, 2, 4), float)
    rings, polygons = np.array([0, 5, 10, 15]), np.array([0, 2, 3])
    labels = label_image(coords, rings, polygons, (16, 16))
    assert (labels == 1).sum() == 64 - 4 and (labels[4:6, 4:6] == 0).all()
    assert (labels == 2).sum() == 16 and (labels[2:6, 10:14] == 2).all()
    half = label_image(coords, rings, polygons, (8, 8), scale=0.5)
    assert (half == 1).sum() == 16 - 1 and (half == 2).sum() == 4


def test_a_small_building_on_a_large_one_survives_and_edges_cut() -> None:
    coords = np.array(square(5, 5, 3) + square(-4, -4, 14) + square(40, 40, 3), float)
    labels = label_image(coords, np.array([0, 5, 10, 15]), np.array([0, 1, 2, 3]), (12, 12))
    assert (labels[5:8, 5:8] == 1).all() and (labels == 2).sum() == 91 and not (labels == 3).any()


def test_several_shells_are_one_building_and_a_polygon_without_rings_is_none() -> None:
    coords = np.array(square(0, 0, 2) + square(6, 6, 3) + square(7, 7, 1) + square(4, 0, 2), float)
    labels = label_image(coords, np.array([0, 5, 10, 15, 20]), np.array([0, 0, 3, 4, 4]), (12, 12))
    assert (labels == 2).sum() == 4 + 9 - 1 and labels[7, 7] == 0
    assert (labels == 3).sum() == 4 and set(np.unique(labels)) == {0, 2, 3}
    assert not label_image(np.zeros((0, 2)), np.zeros(1, int), np.zeros(1, int), (3, 4)).any()


def test_labels_are_gdals_pixels() -> None:
    """One polygon after another with rasterio, largest first: the same labels, whatever the number of pieces."""
    plan = plan_city((500, 600), 0.3, seed=3)
    rings = [plan.coords[a:b] for a, b in zip(plan.ring_offsets[:-1], plan.ring_offsets[1:], strict=True)]
    polygons = [
        Polygon(rings[a], rings[a + 1 : b])
        for a, b in zip(plan.polygon_offsets[:-1], plan.polygon_offsets[1:], strict=True)
    ]
    order = sorted(range(len(polygons)), key=lambda i: -Polygon(polygons[i].exterior).area)
    expected = rasterize([(polygons[i], i + 1) for i in order], out_shape=plan.shape, dtype="int32")
    labels = label_image(plan.coords, plan.ring_offsets, plan.polygon_offsets, plan.shape)
    assert len(np.unique(labels)) > 60
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("near", [1, 3, 7])
def test_blocks_change_nothing(near: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_city((380, 430), 0.3, seed=5, density=0.9)
    labels = label_image(plan.coords, plan.ring_offsets, plan.polygon_offsets, plan.shape)
    rng = np.random.default_rng(near)
    # Speckle: many ties between labels at equal distances.
    noise = np.where(rng.random((150, 170)) < 0.05, rng.integers(1, 90, (150, 170)), 0).astype(np.int32)
    for image in (labels, noise):
        monkeypatch.setattr(targets, "BLOCK", 10_000)
        whole = touching_borders(image, near)
        assert whole.any()
        for block in (64, 97):
            monkeypatch.setattr(targets, "BLOCK", block)
            np.testing.assert_array_equal(touching_borders(image, near), whole)
