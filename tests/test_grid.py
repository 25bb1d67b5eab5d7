"""Windows, tiles and grids: cores partition the raster, whatever its size and the tile's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.grid import WINDOW, TileGrid, Window, check_tile, level_shape, windows_of

sides = st.integers(1, 3000)


@given(sides, sides, st.sampled_from([64, 256, 512, 1024]), st.integers(0, 100))
def test_cores_partition_the_raster(height: int, width: int, core: int, halo: int) -> None:
    grid = TileGrid((height, width), core, halo)
    seen = np.zeros((height, width), np.uint8)
    for tile in grid:
        seen[tile.core.slices()] += 1
        assert tile.read.contains(tile.core)
        assert grid.at(tile.key) == tile
    assert (seen == 1).all()
    assert len({tile.key for tile in grid}) == len(grid)


@given(sides, sides, st.integers(-50, 3000), st.integers(-50, 3000), st.integers(0, 900), st.integers(0, 900))
def test_touching_is_exactly_the_tiles_that_share_a_pixel(
    height: int, width: int, y0: int, x0: int, h: int, w: int
) -> None:
    grid, window = TileGrid((height, width), 256, 7), Window(y0, x0, h, w)
    direct = [tile for tile in grid if tile.core.intersects(window)] if window.area else []
    assert list(grid.touching(window)) == direct


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from([256, 512, 1024]))
def test_windows_are_the_same_for_every_tile_size(height: int, width: int, core: int) -> None:
    fixed = set(windows_of(Window(0, 0, height, width)))
    cut = [window for tile in TileGrid((height, width), core, 0) for window in windows_of(tile.core)]
    assert set(cut) == fixed and len(cut) == len(fixed)


def test_a_core_off_the_window_grid_is_refused() -> None:
    with pytest.raises(SettingsError, match="window grid"):
        list(windows_of(Window(100, 0, WINDOW, WINDOW)))


@pytest.mark.parametrize(("tile", "near"), [(0, 256), (100, 256), (700, 768), (1000, 1024)])
def test_a_tile_that_is_no_whole_number_of_windows_is_refused_with_the_nearest(tile: int, near: int) -> None:
    with pytest.raises(SettingsError, match=f"try {near}"):
        check_tile(tile)
    assert check_tile(near) == near


def test_keys_stay_unique_beyond_four_digits() -> None:
    grid = TileGrid((12_000 * 4, 4), 4, 0)
    assert grid.at("r11999c0000").core == Window(11_999 * 4, 0, 4, 4)


def test_level_shape_counts_partial_pixels() -> None:
    assert level_shape((17, 16), 8) == (3, 2)


def test_clip_outside_is_empty() -> None:
    assert Window(50, 50, 10, 10).clip((20, 20)).area == 0
    assert Window(-5, -5, 10, 10).clip((20, 20)) == Window(0, 0, 5, 5)
