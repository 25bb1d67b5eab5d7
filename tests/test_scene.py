"""The scene on disk: what each level holds, statistics, reading over edges, and the CRS in xarray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from pipeline import scene, store
from pipeline.errors import StoreError
from pipeline.grid import LEVELS, Window, level_shape
from pipeline.raster import open_raster
from pipeline.scene import (
    create_scene,
    ingest_tile,
    open_scene,
    pyramid,
    read_image,
    read_stretched,
    read_valid,
)
from pipeline.worker import border
from pipeline.working import working_raster
from tests.images import ingest, write


def naive_level(data: np.ndarray, valid: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel by pixel: the mean of the valid ones under each coarse pixel, half of the area deciding."""
    height, width = level_shape(valid.shape, level)
    image, good = np.zeros((len(data), height, width), data.dtype), np.zeros((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            part = np.s_[y * level : (y + 1) * level, x * level : (x + 1) * level]
            inside = valid[part]
            if inside.any() and inside.mean() >= 0.5:
                good[y, x] = 1
                mean = data[(slice(None), *part)][:, inside].astype(np.float64).mean(axis=1)
                image[:, y, x] = np.rint(mean) if data.dtype.kind in "ui" else mean
    return image, good


@given(
    nps.arrays(np.uint16, st.tuples(st.just(2), st.integers(1, 25), st.integers(1, 25)), fill=st.nothing()),
    st.floats(0, 1),
    st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_pyramid_is_the_mean_of_valid_pixels(data: np.ndarray, share: float, seed: int) -> None:
    valid = np.random.default_rng(seed).random(data.shape[1:]) < share
    data = np.where(valid, data, 0).astype(data.dtype)
    levels = pyramid(data, valid)
    for level in LEVELS[1:]:
        image, good = naive_level(data, valid, level)
        assert (levels[level][1] == good).all()
        assert (levels[level][0] == image).all()


def test_ingest_covers_every_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks, cut at the edge: the same levels as the whole image at once."""
    monkeypatch.setattr(scene, "BLOCK", 128)
    monkeypatch.setattr(scene, "CHUNK", 16)
    data = np.random.default_rng(0).integers(1, 255, (3, 200, 300), dtype=np.uint8)
    data[:, 40:90, 100:170] = 0
    made, _ = ingest(tmp_path, data, nodata=0)
    whole = pyramid(data, (data > 0).any(axis=0))
    for level in LEVELS:
        window = Window(0, 0, *level_shape((200, 300), level))
        assert (read_image(made, level, window) == whole[level][0]).all()
        assert (read_valid(made, level, window) == whole[level][1]).all()
    share = border.coarse_share(made, 2, 32)
    assert share.shape == (4, 5)
    assert share[0, 0] == 1
    expected = whole[8][1][0:8, 8:16].mean()
    assert share[0, 1] == pytest.approx(expected)


def test_digest_says_what_was_written(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(1, 255, (3, 60, 80), dtype=np.uint8)
    made, working = ingest(tmp_path, data)
    first = ingest_tile(working, made.root, "r0000c0000")
    assert first == ingest_tile(working, made.root, "r0000c0000")
    assert first[1] == 1.0
    data[0, 0, 0] ^= 1
    (tmp_path / "b").mkdir()
    other, working = ingest(tmp_path / "b", data)
    assert ingest_tile(working, other.root, "r0000c0000")[0] != first[0]


def test_all_nodata(tmp_path: Path) -> None:
    made, working = ingest(tmp_path, np.zeros((3, 40, 40), np.uint8), nodata=0)
    assert ingest_tile(working, made.root, "r0000c0000")[1] == 0.0
    assert made.statistics is not None
    assert made.statistics.count == 0
    assert not read_stretched(made, 1, Window(0, 0, 40, 40)).any()


def test_stretch(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(10, 200, (3, 60, 80), dtype=np.uint8)
    data[2] = 77  # a constant band must not divide by zero
    data[:, :, 70:] = 0
    made, _ = ingest(tmp_path, data, nodata=0)
    stretched = read_stretched(made, 1, Window(-5, 60, 20, 40))
    assert stretched.dtype == np.float32
    assert stretched.shape == (3, 20, 40)
    assert not stretched[:, :5].any()
    assert not stretched[:, :, 10:].any()
    assert not stretched[2].any()
    assert made.statistics is not None
    low, high = made.statistics.p1[0], made.statistics.p99[0]
    expected = np.clip((data[0, :15, 60:70].astype(np.float32) - low) / (high - low), 0, 1)
    assert stretched[0, 5:, :10] == pytest.approx(expected, abs=1e-6)


def test_a_window_is_the_same_whatever_it_is_part_of(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(5, 2, (2, 100, 120)).astype(np.float32)
    made, _ = ingest(tmp_path, data)
    whole = read_stretched(made, 2, Window(0, 0, 50, 60))
    part = read_stretched(made, 2, Window(13, 17, 20, 30))
    assert (part == whole[:, 13:33, 17:47]).all()


def test_create_again_and_refuse_another(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(1, 255, (3, 60, 80), dtype=np.uint8)
    made, working = ingest(tmp_path, data)
    assert create_scene(made.root, working) == made  # statistics stay
    other = write(tmp_path / "other.tif", data[:, :50])
    with pytest.raises(StoreError, match="holds another scene"):
        create_scene(made.root, working_raster(open_raster(other)))
    with pytest.raises(StoreError, match="no scene"):
        open_scene(tmp_path / "none.zarr")


def test_statistics_are_needed_first(tmp_path: Path) -> None:
    working = working_raster(open_raster(write(tmp_path / "a.tif")))
    made = create_scene(tmp_path / "s.zarr", working)
    with pytest.raises(StoreError, match="no statistics"):
        read_stretched(made, 1, Window(0, 0, 8, 8))


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@pytest.mark.parametrize("level", [1, 4])
def test_xarray_finds_the_crs(tmp_path: Path, level: int) -> None:
    import rioxarray  # noqa: F401  the .rio accessor
    import xarray

    made, _ = ingest(tmp_path, np.random.default_rng(0).integers(1, 255, (3, 61, 83), dtype=np.uint8))
    store.create_array(
        made.root, "classify/scores", (3, *level_shape(made.shape, 4)), "uint8", (3, 16, 16),
        attributes=scene.MAPPED, dimensions=("class", "y", "x"),
    )  # fmt: skip
    scene.georeference(made.root, "classify", 4)
    for group, name, at in ((f"image/{level}", "image", level), ("classify", "scores", 4)):
        opened = xarray.open_zarr(made.root, group=group, decode_coords="all", consolidated=False)
        array = opened[name]
        assert array.rio.crs.to_epsg() == 32645
        assert tuple(array.rio.transform())[:6] == (0.5 * at, 0, 353000, 0, -0.5 * at, 3058000)
        assert array.dims[-2:] == ("y", "x")
        assert float(array.x[0]) == 353000 + 0.25 * at
        assert array.shape[-2:] == level_shape(made.shape, at)
