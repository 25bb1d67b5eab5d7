"""The grid that is worked on, and what counts as valid on it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipeline.errors import InputError, TileError
from pipeline.grid import Window
from pipeline.raster import open_raster
from pipeline.working import WorkingRaster, read_source, working_raster
from tests.images import north_up, write

# affine 3 asks its users for `@`; rasterio 1.4 still multiplies
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def read_all(working: WorkingRaster) -> tuple[np.ndarray, np.ndarray]:
    return read_source(working, Window(0, 0, *working.shape))


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (120 + 80 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)


def test_own_grid(tmp_path: Path) -> None:
    working = working_raster(open_raster(write(tmp_path / "a.tif")), 0.3)
    assert not working.resampled
    assert working.notes == ()
    assert (working.shape, working.gsd) == ((40, 60), 0.5)
    assert working.bounds == (353000, 3057980, 353030, 3058000)
    image, valid = read_source(working, Window(-3, -4, 50, 70))
    with rasterio.open(tmp_path / "a.tif") as f:
        assert (image[:, 3:43, 4:64] == f.read()).all()
    assert valid[3:43, 4:64].all()
    assert valid.sum() == 40 * 60
    assert image.sum() == image[:, 3:43, 4:64].sum()


def test_content_id_follows_image_and_grid(tmp_path: Path) -> None:
    header = open_raster(write(tmp_path / "a.tif"))
    assert working_raster(header).content_id == working_raster(header, 0.4).content_id
    assert working_raster(header).content_id != working_raster(header, 0.8).content_id


def test_nodata(tmp_path: Path) -> None:
    data = np.full((3, 8, 8), 50, np.uint8)
    data[:, 0, 0] = 0
    data[0, 1, 1] = 0  # black in one band only: a colour
    _, valid = read_all(working_raster(open_raster(write(tmp_path / "a.tif", data, nodata=0))))
    assert not valid[0, 0]
    assert valid.sum() == 63


def test_float_nan_and_infinity(tmp_path: Path) -> None:
    data = np.ones((2, 8, 8), np.float32)
    data[0, 0, 0], data[1, 0, 1], data[1, 0, 2] = np.nan, np.inf, -9999
    path = write(tmp_path / "a.tif", data, nodata=-9999)
    image, valid = read_all(working_raster(open_raster(path)))
    assert list(np.flatnonzero(~valid)) == [0, 1]
    assert np.isfinite(image).all()
    path = write(tmp_path / "b.tif", data, nodata=float("nan"))
    assert (~read_all(working_raster(open_raster(path)))[1]).sum() == 2


def test_mask_and_alpha(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.full((3, 8, 8), 50, np.uint8))
    mask = np.full((8, 8), 255, np.uint8)
    mask[:2] = 0
    with rasterio.open(path, "r+") as f:
        f.write_mask(mask)
    header = open_raster(path)
    assert header.has_mask
    assert (read_all(working_raster(header))[1] == (mask > 0)).all()
    rgba = np.concatenate([np.full((3, 8, 8), 50, np.uint8), mask[None]])
    header = open_raster(write(tmp_path / "b.tif", rgba, photometric="RGB", alpha="YES"))
    assert header.bands == 3
    assert (read_all(working_raster(header))[1] == (mask > 0)).all()


@pytest.mark.parametrize("bands", [1, 2, 4, 8, 11])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_bands_and_types(tmp_path: Path, bands: int, dtype: str) -> None:
    data = np.random.default_rng(0).integers(1, 9000, (bands, 8, 8)).astype(dtype)
    header = open_raster(write(tmp_path / "a.tif", data, photometric="MINISBLACK"))
    assert (header.bands, header.dtype) == (bands, dtype)
    assert (read_all(working_raster(header))[0] == data).all()


def test_degrees(tmp_path: Path) -> None:
    data = np.repeat(smooth(300, 400)[None], 3, axis=0)
    path = write(tmp_path / "a.tif", data, crs="EPSG:4326", transform=north_up(85.5, 27.6, 3e-6, 3e-6))
    working = working_raster(open_raster(path))
    assert "UTM zone 45N" in working.notes[0]
    assert rasterio.crs.CRS.from_wkt(working.crs).to_epsg() == 32645
    assert working.gsd == pytest.approx(0.31, abs=0.02)
    image, valid = read_all(working)
    assert 0.9 < valid.mean() < 1
    assert image.dtype == np.uint8
    from rasterio.warp import transform

    # a place keeps its colour
    c, f, gsd = working.transform[2], working.transform[5], working.transform[0]
    rows, columns = np.array([60, 150, 250]), np.array([50, 200, 300])
    lon, lat = transform(working.crs, "EPSG:4326", c + gsd * (columns + 0.5), f - gsd * (rows + 0.5))
    there = data[0, ((27.6 - np.array(lat)) / 3e-6).astype(int), ((np.array(lon) - 85.5) / 3e-6).astype(int)]
    assert np.abs(image[0, rows, columns].astype(int) - there).max() < 20
    pieces = [read_source(working, Window(0, x, working.shape[0], 512)) for x in range(0, working.shape[1], 512)]
    assert (np.concatenate([p[0] for p in pieces], axis=2)[:, :, : working.shape[1]] == image).all()


def test_degrees_outside_utm(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", crs="EPSG:4326", transform=north_up(10, 89, 1e-5, 1e-5))
    with pytest.raises(InputError, match="outside every UTM zone"):
        working_raster(open_raster(path))


def test_finer_than_models(tmp_path: Path) -> None:
    data = np.repeat(smooth(400, 600)[None], 3, axis=0)
    data[:, :, :100] = 0
    working = working_raster(open_raster(write(tmp_path / "a.tif", data, nodata=0)), 1.0)
    assert (working.shape, working.gsd) == ((200, 300), 1.0)
    assert "models' finest" in working.notes[0]
    image, valid = read_all(working)
    assert valid[:, 51:].all()
    assert not valid[:, :49].any()
    average = data[0].reshape(200, 2, 300, 2).mean(axis=(1, 3))
    assert np.abs(image[0] - average)[2:-2, 53:-2].max() < 8
    assert image[0][valid].min() >= data[0][data[0] > 0].min()  # nodata does not bleed in


def test_oblong_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", transform=north_up(353000, 3058000, 1.0, 0.5))
    working = working_raster(open_raster(path))
    assert working.shape == (40, 120)
    assert working.transform[0] == -working.transform[4] == 0.5
    assert "squares" in working.notes[0]
    image, valid = read_all(working)
    assert valid.all()
    assert image[:, :, ::2].std() > 0


def test_block_that_fails_later(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 255, (3, 512, 512), dtype=np.uint8)
    path = write(tmp_path / "a.tif", data, compress="deflate", tiled=True, blockxsize=128, blockysize=128)
    header = open_raster(path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 4000] = os.urandom(4000)
    path.write_bytes(whole)
    working = working_raster(header)
    with pytest.raises(TileError, match="cannot be read") as caught:
        read_all(working)
    assert str(path) in str(caught.value)
    read_source(working, Window(0, 0, 64, 64))
