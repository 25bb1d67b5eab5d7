"""Tiled == whole for building instances: every tile size, halo and kind of mask gives the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.buildings import (
    SplitPart,
    combine,
    concatenate,
    part_arrays,
    polygon_areas,
    read_part,
    to_wkb,
    write_arrays,
)
from pipeline.errors import StoreError
from pipeline.faces import face_arrays, read_faces
from pipeline.grid import TileGrid, Window
from pipeline.kernels import instances
from pipeline.seams import find_large
from pipeline.stages.split import margin_of, split_components, split_tile
from pipeline.stages.split_large import split_large
from tests.scores import blobs, everything, speckle, terraces


def snake(shape: tuple[int, int], seed: int) -> np.ndarray:
    """One component that winds through the whole scene."""
    scores = np.zeros((2, *shape), np.uint8)
    scores[0, ::4] = 200
    scores[0, :, 0 :: shape[1] - 1] = 0
    for row, y in enumerate(range(0, shape[0] - 4, 4)):
        scores[0, y : y + 5, -1 if row % 2 else 0] = 180
    scores[1] = np.random.default_rng(seed).integers(0, 2, shape) * 255
    return scores


SCENES = {"blobs": blobs, "speckle": speckle, "terraces": terraces, "everything": everything, "snake": snake}


def holes(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Valid pixels of a scene with a nodata corner and a few dropped blocks."""
    valid = np.ones(shape, np.bool_)
    valid[: shape[0] // 5, : shape[1] // 6] = False
    random = np.random.default_rng(seed)
    for _ in range(3):
        y, x = random.integers(0, shape[0]), random.integers(0, shape[1])
        valid[y : y + 7, x : x + 9] = False
    return valid


def padded(array: np.ndarray, window: Window) -> np.ndarray:
    """What a reader gives for a window that may reach over the scene's edge: zeros there."""
    shape = array.shape[-2:]
    out = np.zeros((*array.shape[:-2], window.height, window.width), array.dtype)
    inside = window.clip(shape)
    out[(..., *inside.slices(window))] = array[(..., *inside.slices())]
    return out


def whole(
    scores: np.ndarray, valid: np.ndarray, tolerance: float = 0.75, min_pixels: int = 0, **options: Any
) -> SplitPart:
    """The scene at once."""
    shape = valid.shape
    mask = np.where(valid, scores[0], 0).astype(np.uint8)
    scene = Window(0, 0, *shape)
    return split_components(mask, scores[1].copy(), valid.copy(), scene, shape[1], tolerance, min_pixels, **options)


def tiled(
    scores: np.ndarray, valid: np.ndarray, core: int, halo: int, tolerance: float = 0.75, **options: Any
) -> SplitPart:
    """The scene by tiles, then what no tile saw whole."""
    grid = TileGrid(valid.shape, core, halo)
    parts, faces = [], []
    cap = options.pop("cap", 10**9)
    options.setdefault("min_pixels", 0)
    for tile in grid:
        given = tile.read.grow(margin_of(options.get("outlines", "traced")))
        part, record = split_tile(
            padded(scores, given),
            padded(valid, given),
            tile,
            grid.shape,
            cap=cap,
            tolerance=tolerance,
            min_pixels=options["min_pixels"],
            outlines=options.get("outlines", "traced"),
        )
        parts.append(part)
        faces.append((tile, record))

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        assert Window(0, 0, *grid.shape).contains(window)
        return scores[:, *window.slices()], valid[window.slices()]

    for component in find_large(faces, grid, cap):
        parts.append(split_large(read, component, grid.shape, tolerance=tolerance, **options)[0])
    return concatenate(parts)


def assert_equal(one: SplitPart, other: SplitPart) -> None:
    for (name, a), b in zip(part_arrays(one).items(), part_arrays(other).values(), strict=True):
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, err_msg=name)


def burn(part: SplitPart, shape: tuple[int, int]) -> np.ndarray:
    """How many pieces cover each pixel, by an independent rasteriser."""
    import rasterio.features

    count = np.zeros(shape, np.int64)
    shapes = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, part.coords, (part.ring_offsets, part.polygon_offsets)
    )
    for geometry in shapes:
        count += rasterio.features.rasterize([geometry], shape)
    return count


@pytest.mark.parametrize("kind", SCENES)
@pytest.mark.parametrize(("core", "halo"), [(32, 8), (64, 0), (48, 40), (128, 16)])
def test_tiled_equals_whole(kind: str, core: int, halo: int) -> None:
    shape = (115, 130)
    scores, valid = SCENES[kind](shape, 3), holes(shape, 4)
    assert_equal(tiled(scores, valid, core, halo), whole(scores, valid))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    height=st.integers(3, 60),
    width=st.integers(3, 60),
    core=st.integers(5, 40),
    halo=st.integers(0, 20),
    seed=st.integers(0, 99),
    spread=st.sampled_from([0.3, 1.0, 2.5]),
    cover=st.sampled_from([0.1, 0.4, 0.7, 0.95]),
)
def test_tiled_equals_whole_for_any_grid(
    height: int, width: int, core: int, halo: int, seed: int, spread: float, cover: float
) -> None:
    shape = (height, width)
    scores, valid = blobs(shape, seed, spread, cover), holes(shape, seed)
    assert_equal(tiled(scores, valid, core, halo), whole(scores, valid))


@pytest.mark.parametrize("kind", SCENES)
def test_specks_go_whatever_the_tile(kind: str) -> None:
    shape = (90, 100)
    scores, valid = SCENES[kind](shape, 5), holes(shape, 6)
    part = tiled(scores, valid, 32, 8, min_pixels=12)
    assert_equal(part, whole(scores, valid, min_pixels=12))
    assert_equal(tiled(scores, valid, 32, 8, tolerance=0.0, min_pixels=1), whole(scores, valid, 0.0))
    every = whole(scores, valid)
    large = every.pixels >= 12
    np.testing.assert_array_equal(part.building_id, every.building_id[large])
    np.testing.assert_array_equal(part.edge_sum, every.edge_sum[large])


@pytest.mark.parametrize("kind", SCENES)
def test_instances_cover_the_mask_once(kind: str) -> None:
    shape = (90, 100)
    scores, valid = SCENES[kind](shape, 5), holes(shape, 6)
    part = tiled(scores, valid, 32, 8, tolerance=0.0)
    mask = (scores[0] > 127) & valid
    np.testing.assert_array_equal(burn(part, shape), mask)
    assert part.pixels.sum() == mask.sum()
    areas = polygon_areas((part.coords, part.ring_offsets, part.polygon_offsets))
    np.testing.assert_array_equal(np.add.reduceat(areas, part.building_offsets[:-1]), part.pixels)
    assert np.unique(part.building_id).size == len(part)
    assert mask.reshape(-1)[part.building_id].all()


@pytest.mark.parametrize("kind", SCENES)
def test_simplified_outlines_are_valid_and_share_their_walls(kind: str) -> None:
    shape = (90, 100)
    scores, valid = SCENES[kind](shape, 11), holes(shape, 12)
    traced, part = whole(scores, valid, 0.0), whole(scores, valid)
    if kind == "blobs":  # elsewhere most vertices are corners, and walls gain those of their neighbours
        assert part.coords.shape[0] < 0.5 * traced.coords.shape[0]
    np.testing.assert_array_equal(part.building_offsets, traced.building_offsets)
    shapes = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, part.coords, (part.ring_offsets, part.polygon_offsets)
    )
    assert shapely.is_valid(shapes).all()
    # Nothing overlaps: the union is as large as the sum.
    union = shapely.union_all(shapes)
    assert union.area == pytest.approx(shapely.area(shapes).sum(), rel=1e-9)


def test_measures_worked_by_hand() -> None:
    scores = np.zeros((2, 6, 8), np.uint8)
    scores[0] = 20
    scores[0, 2:4, 2:6] = 220
    scores[1, :, 4] = 100
    labels = np.zeros((6, 8), np.int32)
    labels[2:4, 2:4], labels[2:4, 4:6] = 1, 2
    valid = np.ones((6, 8), np.bool_)
    valid[4, 6] = False
    score, evidence, edges, touches = instances.measure(
        instances.runs(labels), 2, scores[0], scores[1], valid, 127
    )
    assert score.tolist() == [880, 880]
    assert edges.tolist() == [8, 8]
    assert evidence.tolist() == [6 * 200 + 2 * 100] * 2
    assert touches.tolist() == [False, True]


def test_an_empty_and_a_nodata_tile_have_no_buildings() -> None:
    shape = (40, 40)
    tile = TileGrid(shape, 32, 8).tile(0, 0)
    for scores, valid in (
        (np.zeros((2, 48, 48), np.uint8), np.ones((48, 48), np.bool_)),
        (np.full((2, 48, 48), 255, np.uint8), np.zeros((48, 48), np.bool_)),
    ):
        part, faces = split_tile(scores, valid, tile, shape)
        assert len(part) == 0 and faces.label.size == 0
        assert len(combine([part], 0.3, 10.0, 2)) == 0


def test_parts_come_back_as_they_were_and_with_the_same_bytes(tmp_path: Path) -> None:
    shape = (70, 80)
    scores, valid = blobs(shape, 1, 2.0), holes(shape, 1)
    grid = TileGrid(shape, 48, 8)
    tile = grid.tile(0, 1)
    part, faces = split_tile(padded(scores, tile.read), padded(valid, tile.read), tile, shape)
    for name in ("one", "two"):
        write_arrays(tmp_path / name, part_arrays(part) | face_arrays(faces))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert_equal(read_part(tmp_path / "one"), part)
    for field in faces.__slots__:
        np.testing.assert_array_equal(getattr(read_faces(tmp_path / "one"), field), getattr(faces, field))
    (tmp_path / "one").write_bytes((tmp_path / "one").read_bytes()[:100])
    with pytest.raises(StoreError, match="one: not a readable part"):
        read_part(tmp_path / "one")


def test_combine_filters_by_size_and_keeps_published_units() -> None:
    scores = np.zeros((2, 40, 40), np.uint8)
    scores[0, 2:12, 3:13] = 200  # 100 px
    scores[0, 20:22, 20:22] = 255  # 4 px
    scores[0, 12, 13] = 255  # hangs on by a corner
    part = whole(scores, np.ones((40, 40), np.bool_))
    assert len(part) == 2
    table = combine([part], gsd=0.5, min_area_m2=5.0, level=2)  # 1 m a pixel
    assert table.building_id.tolist() == [2 * 40 + 3]
    assert table.area_m2.tolist() == [100.0]
    assert np.diff(table.building_offsets).tolist() == [1]
    assert table.coords.min(axis=0).tolist() == [6.0, 4.0] and table.coords.max(axis=0).tolist() == [
        26.0,
        24.0,
    ]
    assert table.score[0] == pytest.approx((100 * 200 + 255) / 101 / 255)
    assert table.boundary_score[0] == pytest.approx((40 * 200 + 4 * 255) / 44 / 255)


def test_combine_leaves_out_what_the_network_is_unsure_of() -> None:
    scores = np.zeros((2, 40, 40), np.uint8)
    scores[0, 2:12, 3:13], scores[0, 20:30, 20:30] = 230, 140
    part = whole(scores, np.ones((40, 40), np.bool_))
    kept = [combine([part], 1.0, 4.0, 1, least).building_id.tolist() for least in (0.0, 140 / 255, 0.6, 0.95)]
    sure, unsure = 2 * 40 + 3, 20 * 40 + 20
    assert kept == [[sure, unsure], [sure, unsure], [sure], []]


def test_geometry_as_wkb_equals_shapely() -> None:
    scores, valid = blobs((80, 90), 4, 0.6), np.ones((80, 90), np.bool_)
    table = combine([whole(scores, valid, 0.0)], gsd=1.0, min_area_m2=2.0, level=1)
    buffer, offsets = to_wkb(table, (500.0, 1000.0), (0.5, -0.5))
    assert offsets[-1] == buffer.size
    shapes = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, table.coords, (table.ring_offsets, table.polygon_offsets)
    )
    shapes = shapely.transform(shapes, lambda xy: xy * [0.5, -0.5] + [500, 1000])
    pieces = np.split(shapes, table.building_offsets[1:-1])
    assert max(len(some) for some in pieces) > 1
    for index, some in enumerate(pieces):
        expected = some[0] if len(some) == 1 else shapely.multipolygons(some)
        found = buffer[offsets[index] : offsets[index + 1]].tobytes()
        assert found == shapely.to_wkb(expected)
        assert shapely.from_wkb(found).area * 4 == pytest.approx(table.area_m2[index])
    nothing = to_wkb(combine([], 1.0, 0.0, 1))
    assert nothing[0].size == 0 and nothing[1].tolist() == [0]


def test_a_building_in_two_parts_is_an_error() -> None:
    part = whole(everything((20, 20), 0), np.ones((20, 20), np.bool_))
    with pytest.raises(StoreError, match="stands in two parts"):
        concatenate([part, part])
