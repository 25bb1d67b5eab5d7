"""Components against SciPy; the splitter against a plain heap flood; both under cropping."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.kernels import components, instances, split

EIGHT = np.ones((3, 3))


def heap_flood(mask_scores: np.ndarray, touching: np.ndarray, threshold: int = 127) -> tuple[np.ndarray, int]:
    """Seeds first in row-major order, then (falling score, age); neighbours in row-major order."""
    score = mask_scores.astype(int) * (255 - touching.astype(int))
    mask = mask_scores > threshold
    labels, seeds = ndimage.label(mask & (score > 255 * threshold), EIGHT)
    whole, count = ndimage.label(mask, EIGHT)
    for component in range(1, count + 1):
        inside = whole == component
        if not labels[inside].any():
            seeds += 1
            labels[inside] = seeds
    heap = [(-256, age, y, x) for age, (y, x) in enumerate(np.argwhere(labels))]
    age = len(heap)
    heapq.heapify(heap)
    while heap:
        _, _, y, x = heapq.heappop(heap)
        for near_y in range(max(0, y - 1), min(y + 2, mask.shape[0])):
            for near_x in range(max(0, x - 1), min(x + 2, mask.shape[1])):
                if mask[near_y, near_x] and labels[near_y, near_x] == 0:
                    labels[near_y, near_x] = labels[y, x]
                    heapq.heappush(heap, (-(score[near_y, near_x] // 255), age, near_y, near_x))
                    age += 1
    return in_order(labels), seeds


def in_order(labels: np.ndarray) -> np.ndarray:
    """The same instances numbered by the row-major order of their first pixels."""
    values, first = np.unique(labels, return_index=True)
    values, first = values[values > 0], first[values > 0]
    renumber = np.zeros(labels.max() + 1, int)
    renumber[values[np.argsort(first)]] = np.arange(1, values.size + 1)
    return renumber[labels]


def blocks(seed: int, shape: tuple[int, int], grain: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random scores: large components with several seeds, ties and plateaus among them."""
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.normal(size=shape), grain) for _ in range(2)]
    mask, border = (field / np.abs(field).max() for field in noise)
    mask_scores = np.clip(160 + 300 * mask, 0, 255)
    touching = np.clip(200 - 900 * np.abs(border), 0, 255)
    if seed % 3 == 0:
        mask_scores, touching = mask_scores // 40 * 40, touching // 60 * 60
    return mask_scores.astype(np.uint8), touching.astype(np.uint8)


def noise(seed: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, shape, np.uint8), rng.integers(0, 256, shape, np.uint8)


@given(st.integers(1, 40), st.integers(1, 70), st.sampled_from([0.02, 0.2, 0.5, 0.6, 0.9, 1.0]), st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_label_equals_scipy(height: int, width: int, cover: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < cover
    for connectivity, structure in ((4, None), (8, EIGHT)):
        expected, count = ndimage.label(mask, structure)
        labels, found = components.label(mask, connectivity)
        assert found == count
        np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(components.label(mask.astype(np.uint8) * 130)[0], ndimage.label(mask, EIGHT)[0])


@pytest.mark.parametrize("threshold", [0, 1, 77, 127, 128, 200, 254])
def test_spans_above_a_threshold(threshold: int) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)[::-1].copy()
    labels, count = split.split(values, np.zeros_like(values), threshold)
    assert count == 1
    np.testing.assert_array_equal(labels > 0, values > threshold)


@pytest.mark.parametrize("shape", [(60, 90), (1, 1), (7, 200), (200, 3)])
def test_properties_equal_numpy(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(7).random(shape) < 0.45
    labels, count = components.label(mask)
    labels[labels == 3] = 0
    table = components.properties(labels, count)
    for value in range(1, count + 1):
        ys, xs = np.nonzero(labels == value)
        row = table[value - 1].tolist()
        if ys.size == 0:
            assert row == (0,) * 9
            continue
        box = (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)
        assert row == (ys.size, *box, ys[0], xs[0], ys.sum(), xs.sum())


def test_properties_of_labels_that_touch_and_are_out_of_range() -> None:
    labels = np.array([[1, 1, 2, 2, -5, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2]], np.int32)
    table = components.properties(labels, 2)
    assert table["area"].tolist() == [3, 3]
    assert table["x1"].tolist() == [7, 16]
    assert table["sum_x"].tolist() == [0 + 1 + 6, 2 + 3 + 15]


@pytest.mark.parametrize("seed", range(12))
def test_split_equals_the_heap_flood(seed: int) -> None:
    for mask_scores, touching in (blocks(seed, (70, 83)), noise(seed, (40, 37))):
        expected, count = heap_flood(mask_scores, touching)
        labels, found = split.split(mask_scores, touching)
        assert found == count
        np.testing.assert_array_equal(labels, expected)


@given(st.integers(1, 12), st.integers(1, 25), st.integers(0, 9999), st.sampled_from([0, 60, 127, 180]))
@settings(max_examples=150, deadline=None)
def test_split_equals_the_heap_flood_on_few_levels(height: int, width: int, seed: int, threshold: int) -> None:
    rng = np.random.default_rng(seed)
    mask_scores = rng.choice(np.array([0, 130, 200, 255], np.uint8), (height, width))
    touching = rng.choice(np.array([0, 90, 200], np.uint8), (height, width))
    expected, count = heap_flood(mask_scores, touching, threshold)
    labels, found = split.split(mask_scores, touching, threshold)
    assert found == count
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("seed", range(6))
def test_a_component_is_split_alike_in_every_crop_that_holds_it(seed: int) -> None:
    mask_scores, touching = blocks(seed, (90, 110), 2.0)
    labels, _ = split.split(mask_scores, touching)
    whole, count = components.label(mask_scores > 127)
    table = components.properties(whole, count)
    for component, row in enumerate(table, start=1):
        for margin in (0, 1, 5):
            ys = slice(max(0, row["y0"] - margin), row["y1"] + margin)
            crop = ys, slice(max(0, row["x0"] - margin), row["x1"] + margin)
            inside = whole[crop] == component
            found = split.split(mask_scores[crop], touching[crop])[0]
            np.testing.assert_array_equal(in_order(found * inside), in_order(labels[crop] * inside))


@pytest.mark.parametrize("seed", range(6))
def test_instances_know_their_component(seed: int) -> None:
    for mask_scores, touching in (blocks(seed, (70, 83)), noise(seed, (40, 37))):
        labels, component = split.grouped(mask_scores, touching)
        whole, count = ndimage.label(mask_scores > 127, EIGHT)
        rows, columns = np.nonzero(labels)
        np.testing.assert_array_equal(component[labels[rows, columns] - 1], whole[rows, columns])
        assert component.dtype == np.int32 and set(component) == set(range(1, count + 1))
        again, found = split.split(mask_scores, touching)
        assert found == component.size
        np.testing.assert_array_equal(again, labels)


@pytest.mark.parametrize("least", [0, 2, 20, 10_000])
def test_runs_of_some_labels_are_those_of_a_raster_without_the_others(least: int) -> None:
    labels, count = split.split(*blocks(4, (70, 83), 1.0))
    runs, table = instances.runs(labels), components.properties(labels, count)
    np.testing.assert_array_equal(instances.properties(runs, count), table)
    kept = table["area"] >= least
    expected = instances.runs(np.where(np.concatenate([[False], kept])[labels], labels, 0).astype(np.int32))
    for one, other in zip(instances.only(runs, kept), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seed", range(6))
def test_measures_are_those_of_every_pixel_and_its_neighbours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 4, (6, 5)), np.ones((1 + seed, 7 - seed))).astype(np.int32)
    scores, touching = rng.integers(0, 256, (2, *labels.shape)).astype(np.uint8)
    valid = rng.random(labels.shape) < 1 - 0.02 * seed
    labels[~valid] = 0
    sums, touches = np.zeros((3, 3), int), np.zeros(3, bool)
    height, width = labels.shape
    for y, x in np.argwhere(labels):
        row = labels[y, x] - 1
        sums[row, 0] += scores[y, x]
        for v, u in np.ndindex(3, 3):
            v, u = v + y - 1, u + x - 1
            if not (0 <= v < height and 0 <= u < width) or not valid[v, u]:
                touches[row] = True
            elif abs(v - y) + abs(u - x) == 1 and labels[v, u] != labels[y, x]:
                if labels[v, u]:
                    sums[row, 1:] += max(touching[y, x], touching[v, u]), 1
                elif scores[v, u] <= 127:
                    sums[row, 1:] += int(scores[y, x]) - int(scores[v, u]), 1
    *found, near = instances.measure(instances.runs(labels), 3, scores, touching, valid, 127)
    np.testing.assert_array_equal(np.stack(found, axis=1), sums)
    np.testing.assert_array_equal(near, touches)


@pytest.mark.parametrize("window", [(0, 40, 0, 37), (3, 9, 5, 31), (39, 40, 36, 37), (4, 4, 2, 9)])
def test_renumbered_labels_are_those_of_the_table(window: tuple[int, int, int, int]) -> None:
    labels, count = split.split(*noise(2, (40, 37)))
    table = np.random.default_rng(1).integers(0, 9999, count + 1).astype(np.int32)
    table[0] = 0
    rows, columns = slice(*window[:2]), slice(*window[2:])
    expected = labels.copy()
    expected[rows, columns] = table[expected[rows, columns]]
    components.renumber(labels, table, rows, columns)
    np.testing.assert_array_equal(labels, expected)
    with pytest.raises(ValueError, match="begins with 0"):
        components.renumber(labels, table + 1, rows, columns)


@pytest.mark.parametrize("shape", [(1, 30), (2, 25), (3, 3), (40, 1), (30, 2), (12, 9)])
def test_split_equals_the_heap_flood_up_to_the_rim(shape: tuple[int, int]) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mask_scores = rng.integers(128, 256, shape, np.uint8)
        touching = rng.choice(np.array([0, 120, 255], np.uint8), shape)
        expected, count = heap_flood(mask_scores, touching)
        labels, found = split.split(mask_scores, touching)
        assert found == count
        np.testing.assert_array_equal(labels, expected)


def test_touching_houses_are_parted_along_the_border_and_nothing_is_lost() -> None:
    mask_scores, touching = np.zeros((20, 60), np.uint8), np.zeros((20, 60), np.uint8)
    mask_scores[4:16, 5:35] = 230
    touching[4:16, 19:22] = 220
    mask_scores[4:7, 40:43] = 140
    touching[4:7, 40:43] = 200
    labels, count = split.split(mask_scores, touching)
    assert count == 3
    assert len(set(labels[10, 5:20])) == 1
    assert len(set(labels[10, 21:35])) == 1
    assert labels[10, 18] != labels[10, 22]
    assert (labels[4:7, 40:43] == labels[5, 41]).all()
    assert ((labels > 0) == (mask_scores > 127)).all()


def test_out_is_overwritten_and_checked() -> None:
    mask_scores, touching = blocks(1, (50, 60))
    out = np.full((50, 60), -1, np.int32)
    labels, _ = split.split(mask_scores, touching, out=out)
    assert labels is out
    np.testing.assert_array_equal(out, split.split(mask_scores, touching)[0])
    components.label(mask_scores > 99, out=out)
    np.testing.assert_array_equal(out, ndimage.label(mask_scores > 99, EIGHT)[0])
    with pytest.raises(ValueError, match="out must be"):
        split.split(mask_scores, touching, out=np.zeros((50, 61), np.int32))


def test_empty_and_full() -> None:
    zero = np.zeros((5, 9), np.uint8)
    assert split.split(zero, zero)[1] == 0
    assert split.split(zero + 255, zero)[0].tolist() == np.ones((5, 9)).tolist()
    assert split.split(zero + 255, zero + 255)[1] == 1
    assert split.split(zero[:0], zero[:0])[1] == 0
    assert components.label(zero[:, :0])[1] == 0
    with pytest.raises(ValueError, match="threshold"):
        split.split(zero, zero, 255)
    with pytest.raises(ValueError, match="touching channel"):
        split.split(zero, zero[:3])
    with pytest.raises(ValueError, match="connectivity"):
        components.label(zero, 6)
