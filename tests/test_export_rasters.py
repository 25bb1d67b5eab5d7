"""COGs: valid for other people's tools, pixels kept, names and colours kept, the same bytes twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rio_cogeo import cog_validate

from pipeline.errors import StoreError
from pipeline.export import rasters as export_rasters
from pipeline.export.rasters import write_cog
from pipeline.grid import Window

TRANSFORM = Affine(0.15, 0, 340_000, 0, -0.15, 3_060_000)
NAMES = {0: "background", 1: "building", 2: "road"}
COLOURS = {0: (250, 250, 245), 1: (200, 60, 40), 2: (90, 90, 90), 255: (0, 0, 0)}


def write(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    def read(window: Window) -> np.ndarray:
        return pixels[:, *window.slices()]

    words: dict[str, Any] = {"crs": "EPSG:32645", "transform": TRANSFORM, "nodata": None}
    shape = (pixels.shape[1], pixels.shape[2])
    words |= {"bands": len(pixels), "dtype": str(pixels.dtype)}
    return write_cog(path, read, shape, **(words | options))


@pytest.fixture
def classes() -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 3, (1, 13, 17), dtype=np.uint8)
    pixels = pixels.repeat(100, axis=1).repeat(100, axis=2)[:, :1250, :1655].copy()
    pixels[:, :, -40:] = 255
    return pixels


def test_a_class_map_is_a_valid_cog_with_colours_and_names(
    tmp_path: Path, classes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_rasters, "_CHUNK", 512)
    path = write(
        tmp_path / "classes.tif",
        classes,
        nodata=255,
        colours=COLOURS,
        class_names=NAMES,
        band_names=["class"],
    )
    valid, errors, warnings = cog_validate(path, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as layer:
        assert (layer.read() == classes).all()
        assert layer.crs.to_epsg() == 32645
        assert layer.transform == TRANSFORM
        assert layer.nodata == 255
        assert layer.descriptions == ("class",)
        assert {k: layer.colormap(1)[k][:3] for k in COLOURS} == COLOURS
        assert layer.tags(1)["class_1"] == "building"
        assert json.loads(layer.tags(1)["class_names"])["2"] == "road"
        assert layer.overviews(1) == [2, 4]
        smaller = layer.read(1, out_shape=(313, 414))
        assert set(np.unique(smaller)) <= {0, 1, 2, 255}
    assert [file.name for file in tmp_path.iterdir()] == ["classes.tif"]


def test_a_field_keeps_its_numbers_and_its_holes(tmp_path: Path) -> None:
    field = np.random.default_rng(1).normal(0, 1, (3, 700, 600)).astype(np.float32)
    field[:, 100:300, 200:400] = np.nan
    names = ["dx_m", "dy_m", "confidence"]
    path = write(tmp_path / "displacement.tif", field, nodata=np.nan, band_names=names)
    assert cog_validate(path, strict=True)[0]
    with rasterio.open(path) as layer:
        assert np.array_equal(layer.read(), field, equal_nan=True)
        assert layer.descriptions == tuple(names)
        assert np.isnan(layer.nodata)


def test_the_same_pixels_give_the_same_bytes(
    tmp_path: Path, classes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write(tmp_path / "1.tif", classes, nodata=255, class_names=NAMES).read_bytes()
    monkeypatch.setattr(export_rasters, "_CHUNK", 512)
    assert write(tmp_path / "2.tif", classes, nodata=255, class_names=NAMES).read_bytes() == one


def test_a_tiny_raster_is_a_cog_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.ones((1, 3, 5), np.uint8))
    assert cog_validate(path, strict=True)[0]


def test_failures_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        write(tmp_path / "a.tif", np.ones((1, 3, 5), np.float32), dtype="uint8")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write(tmp_path / "file" / "a.tif", np.ones((1, 3, 5), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
