"""Components across faces, instances across windows: nothing lost, nothing doubled, nothing glued."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from test_split import SCENES, assert_equal, blobs, burn, holes, padded, tiled, whole

from pipeline.buildings import SplitPart, concatenate
from pipeline.faces import face_record
from pipeline.grid import TileGrid, Window
from pipeline.kernels import components
from pipeline.seams import LargeComponent, find_large, match, unite, unite_pairs
from pipeline.stages.split import split_tile
from pipeline.stages.split_large import split_large


def records(mask: np.ndarray, grid: TileGrid, cap: int = 10**9) -> list:
    return [
        (tile, face_record(*components.label(mask[tile.core.slices()].copy()), tile.core, grid.shape, cap))
        for tile in grid
    ]


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    core=st.integers(2, 17),
    seed=st.integers(0, 999),
    cover=st.sampled_from([0.2, 0.4, 0.6]),
)
def test_united_components_are_those_of_the_whole(height: int, width: int, core: int, seed: int, cover: float) -> None:
    random = np.random.default_rng(seed)
    mask = (random.random((height, width)) < cover).astype(np.uint8)
    grid = TileGrid((height, width), core, 0)
    faces = records(mask, grid)
    random.shuffle(faces)
    united = unite(faces, grid)
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    expected = {}
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        inside = np.argwhere(labels == index)
        on_line = any(
            (n > 0 and n % core == 0) or (n % core == core - 1 and n < edge - 1)
            for y, x in inside
            for n, edge in ((y, height), (x, width))
        )
        if on_line:
            box = (rows.start, columns.start, rows.stop, columns.stop)
            expected[int(inside[0][0] * width + inside[0][1])] = (box, len(inside))
    found = {
        int(first): (tuple(int(side) for side in box), int(area))
        for first, box, area in zip(united.first, united.boxes, united.area, strict=True)
    }
    assert found == expected


def test_large_components_do_not_depend_on_the_tiles_that_hold_them() -> None:
    shape = (120, 120)
    mask = np.zeros(shape, np.uint8)
    mask[10:14, 5:115] = mask[14:90, 60] = 1
    mask[100:104, 100:104] = 1
    for core in (16, 32, 64):
        large = find_large(records(mask, TileGrid(shape, core, 8)), TileGrid(shape, core, 8))
        assert [(c.first, c.box, c.area, c.windowed) for c in large] == [
            (10 * 120 + 5, Window(10, 5, 80, 110), 440 + 76, False)
        ]
    for core in (16, 120):  # over the cap it is listed even where one tile holds everything
        (one,) = find_large(records(mask, TileGrid(shape, core, 8), 500), TileGrid(shape, core, 8), 500)
        assert one.windowed and one.key == "component000000000001205"


def test_union_joins_chains_in_any_order() -> None:
    pairs = np.array([[8, 9], [2, 3], [9, 2], [5, 5], [3, 7]])
    assert unite_pairs(10, pairs).tolist() == [0, 1, 2, 2, 4, 5, 6, 2, 2, 2]


def test_match_takes_only_mutual_best_partners() -> None:
    one = np.array([[1, 1, 1, 1, 0, 2, 2, 3, 3, 3]], np.int32)
    other = np.array([[4, 4, 4, 0, 0, 5, 6, 6, 6, 6]], np.int32)
    a, b, shared, iou, same = match(one, other)
    assert list(zip(a.tolist(), b.tolist(), shared.tolist(), same.tolist(), strict=True)) == [
        (1, 4, 3, True),
        (2, 5, 1, True),  # exactly one half
        (2, 6, 1, False),
        (3, 6, 3, True),
    ]
    np.testing.assert_allclose(iou, [0.75, 0.5, 0.2, 0.75])


def city(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One mask over everything, cut by party walls into houses of 21 to 25 px; and the true labels."""
    random = np.random.default_rng(seed)
    scores = np.zeros((2, *shape), np.uint8)
    scores[0] = random.integers(200, 256, shape)
    truth = np.zeros(shape, np.int64)
    ys = np.cumsum(random.integers(21, 26, shape[0] // 20))
    xs = np.cumsum(random.integers(21, 26, shape[1] // 20))
    rows, columns = np.digitize(np.arange(shape[0]), ys), np.digitize(np.arange(shape[1]), xs)
    truth = rows[:, None] * 1000 + columns[None, :] + 1
    wall = (truth != np.roll(truth, 1, 0)) | (truth != np.roll(truth, 1, 1))
    wall |= (truth != np.roll(truth, -1, 0)) | (truth != np.roll(truth, -1, 1))
    scores[1][wall] = 255
    return scores, truth


def windowed(scores: np.ndarray, valid: np.ndarray, tile: int, core: int, overlap: int, min_pixels: int = 0):
    """Tiles, then the large ones with a cap of 2 000 px, so that big components go by windows."""
    shape = valid.shape
    grid = TileGrid(shape, tile, 8)
    parts, faces, audits = [], [], []
    for place in grid:
        part, record = split_tile(
            padded(scores, place.read),
            padded(valid, place.read),
            place,
            shape,
            cap=2000,
            tolerance=0.0,
            min_pixels=min_pixels,
        )
        parts.append(part)
        faces.append((place, record))
    for component in find_large(faces, grid, 2000):
        part, audit = split_large(
            lambda window: (scores[:, *window.slices()], valid[window.slices()]),
            component,
            shape,
            tolerance=0.0,
            core=core,
            overlap=overlap,
            min_pixels=min_pixels,
        )
        parts.append(part)
        audits.append(audit)
    return concatenate(parts), audits


def test_windows_recover_the_houses_that_they_cut() -> None:
    shape = (300, 280)
    scores, truth = city(shape, 1)
    valid = np.ones(shape, np.bool_)
    part, (audit,) = windowed(scores, valid, 64, 64, 32)
    reference = whole(scores, valid, 0.0)
    assert len(part) == len(reference) == np.unique(truth).size
    np.testing.assert_array_equal(part.pixels, reference.pixels)
    np.testing.assert_array_equal(part.score_sum, reference.score_sum)
    np.testing.assert_array_equal(part.building_id, reference.building_id)
    assert (burn(part, shape) == 1).all()
    # Audit: what was merged is one building of the truth, and no merge joined neighbours.
    assert audit.merged.sum() > 100
    ids = truth.reshape(-1)
    assert (ids[audit.building_a] == ids[audit.building_b])[audit.merged].all()


@pytest.mark.parametrize("kind", SCENES)
@pytest.mark.parametrize(("core", "overlap"), [(40, 16), (33, 33), (500, 16)])
def test_windows_lose_and_double_nothing(kind: str, core: int, overlap: int) -> None:
    shape = (131, 118)
    scores, valid = SCENES[kind](shape, 7), holes(shape, 8)
    part, _ = windowed(scores, valid, 64, core, overlap)
    mask = (scores[0] > 127) & valid
    np.testing.assert_array_equal(burn(part, shape), mask)
    assert part.pixels.sum() == mask.sum()
    assert part.score_sum.sum() == scores[0][mask].sum()


@pytest.mark.parametrize("kind", ["speckle", "snake"])
def test_windows_leave_specks_out_once_they_are_whole(kind: str) -> None:
    shape = (131, 118)
    scores, valid = SCENES[kind](shape, 7), holes(shape, 8)
    every, _ = windowed(scores, valid, 64, 40, 16)
    part, _ = windowed(scores, valid, 64, 40, 16, min_pixels=12)
    large = every.pixels >= 12
    assert not large.all()
    np.testing.assert_array_equal(part.building_id, every.building_id[large])
    np.testing.assert_array_equal(part.pixels, every.pixels[large])
    assert (np.diff(part.building_offsets) > 0).all()


@pytest.mark.parametrize("kind", SCENES)
def test_windows_do_not_depend_on_the_tile(kind: str) -> None:
    shape = (131, 118)
    scores, valid = SCENES[kind](shape, 9), holes(shape, 10)
    one, _ = windowed(scores, valid, 32, 50, 20)
    for tile in (64, 131):
        assert_equal(windowed(scores, valid, tile, 50, 20)[0], one)


def test_one_window_that_holds_all_is_exact() -> None:
    shape = (90, 80)
    scores, valid = blobs(shape, 2, 3.0, 0.8), holes(shape, 3)
    part, _ = windowed(scores, valid, 32, 128, 16)
    reference = whole(scores, valid, 0.0)
    for name in ("building_id", "pixels", "score_sum", "edge_sum", "edge_count", "touches_nodata"):
        np.testing.assert_array_equal(getattr(part, name), getattr(reference, name), err_msg=name)


def test_a_factory_over_nine_windows_is_one_building() -> None:
    shape = (150, 150)
    scores = np.zeros((2, *shape), np.uint8)
    scores[0, 3:147, 4:148] = 230
    scores[0, 60:90, 60:90] = 0  # a court
    part, (audit,) = windowed(scores, np.ones(shape, np.bool_), 64, 50, 12)
    assert len(part) == 1 and part.pixels[0] == 144 * 144 - 900
    assert np.diff(part.ring_offsets).tolist() == [5, 5]
    assert audit.merged.sum() == 12 and (audit.building_a == audit.building_b).all()


def test_a_component_that_changed_since_its_record_is_refused() -> None:
    shape = (40, 40)
    scores = np.zeros((2, *shape), np.uint8)
    scores[0, 5:30, 5:30] = 255

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        return scores[:, *window.slices()], np.ones((window.height, window.width), np.bool_)

    right = LargeComponent(5 * 40 + 5, Window(5, 5, 25, 25), 625, False)
    assert len(split_large(read, right, shape)[0]) == 1
    for box, first in ((Window(5, 5, 20, 25), 205), (Window(0, 0, 3, 3), 0)):
        for by_windows in (False, True):
            part, audit = split_large(read, LargeComponent(first, box, 0, by_windows), shape)
            assert len(part) == 0 and audit.iou.size == 0


def test_a_failed_tile_does_not_double_what_runs_through_it() -> None:
    shape = (60, 200)
    scores = np.zeros((2, *shape), np.uint8)
    scores[0, 20:30, 10:190] = 255
    valid = np.ones(shape, np.bool_)
    grid = TileGrid(shape, 64, 8)
    made = {}
    for place in grid:
        made[place] = split_tile(padded(scores, place.read), padded(valid, place.read), place, shape)

    def buildings(tiles: list) -> SplitPart:
        parts = [made[place][0] for place in tiles]
        for component in find_large(((place, made[place][1]) for place in tiles), grid):
            parts.append(
                split_large(lambda window: (scores[:, *window.slices()], valid[window.slices()]), component, shape)[0]
            )
        return concatenate(parts)

    assert len(buildings([place for place in grid if place.column != 1])) == 0
    assert_equal(buildings(list(grid)), whole(scores, valid))
    assert_equal(tiled(scores, valid, 64, 8), whole(scores, valid))


@pytest.mark.parametrize("side", [600, 1200])
def test_memory_of_windows_is_that_of_a_window(side: int) -> None:
    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        y, x = np.ogrid[window.y0 : window.y1, window.x0 : window.x1]
        walls = (y % 60 < 2) | (x % 60 < 2)
        scores = np.stack([np.full(walls.shape, 250, np.uint8), walls.astype(np.uint8) * 255])
        return scores, np.ones(walls.shape, np.bool_)

    component = LargeComponent(0, Window(0, 0, side, side), side * side, True)
    split_large(read, component, (side, side), core=200, overlap=60)  # compiled, imported
    tracemalloc.start()
    part, _ = split_large(read, component, (side, side), core=200, overlap=60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert part.pixels.sum() == side * side and len(part) >= (side // 60) ** 2
    assert peak < 320**2 * 80  # bytes: whatever the side
