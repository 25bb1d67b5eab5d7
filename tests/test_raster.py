"""Images as they come, and every bad image of DESIGN 7: one line that names the file and the fix."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from pipeline.errors import InputError
from pipeline.grid import Window
from pipeline.raster import open_raster, probe
from pipeline.working import read_source, working_raster
from tests.images import north_up, write

# affine 3 asks its users for `@`; rasterio 1.4 still multiplies
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def refused(path: Path | str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        probe(open_raster(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", nodata=0, tags={"TIFFTAG_DATETIME": "2023:05:01 10:11:12"})
    header = open_raster(path)
    assert (header.shape, header.bands, header.dtype) == ((40, 60), 3, "uint8")
    assert header.gsd == (0.5, 0.5)
    assert header.nodata == 0
    assert header.image_date == "2023-05-01T10:11:12"
    assert header.transform == (0.5, 0, 353000, 0, -0.5, 3058000)
    probe(header)


def test_no_crs(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.tif", crs=None), "no CRS")


@pytest.mark.parametrize("affine", [Affine(0.5, 0.1, 0, 0.1, -0.5, 0), Affine(0.5, 0, 0, 0.2, -0.5, 0)])
def test_rotated(tmp_path: Path, affine: Affine) -> None:
    refused(write(tmp_path / "a.tif", transform=affine), "rotated")


def test_south_up(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.tif", transform=Affine(0.5, 0, 353000, 0, 0.5, 3058000)), "north-up")


def test_without_place(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.tif", transform=Affine.identity()), "no place")


def test_not_a_raster(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("no image")
    refused(tmp_path / "a.tif", "not an image")
    refused(tmp_path / "none.tif", "no such file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "not an image")


def test_without_bands(tmp_path: Path) -> None:
    alpha = write(tmp_path / "a.tif", np.ones((1, 8, 8), np.uint8), photometric="MINISBLACK")
    with rasterio.open(alpha, "r+") as f:
        f.colorinterp = [rasterio.enums.ColorInterp.alpha]
    refused(alpha, "no bands")
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8"><SRS>EPSG:32645</SRS>'
        "<GeoTransform>0,1,0,0,0,-1</GeoTransform></VRTDataset>"
    )
    refused(tmp_path / "a.vrt", "bands")


def test_palette_and_complex(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.ones((1, 8, 8), np.uint8), photometric="palette")
    with rasterio.open(path, "r+") as f:
        f.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})
    refused(path, "palette")
    refused(write(tmp_path / "b.tif", np.ones((1, 8, 8), np.complex64)), "complex64")


@pytest.mark.parametrize("tiled", [True, False])
def test_truncated(tmp_path: Path, tiled: bool) -> None:
    data = np.random.default_rng(0).integers(0, 255, (3, 512, 512), dtype=np.uint8)
    layout = {"tiled": True, "blockxsize": 128, "blockysize": 128} if tiled else {}
    path = write(tmp_path / "a.tif", data, compress="deflate", **layout)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    refused(path, "truncated|not an image")


def test_truncated_jpeg(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 255, (3, 512, 512), dtype=np.uint8)
    path = write(
        tmp_path / "a.tif",
        data,
        compress="jpeg",
        tiled=True,
        blockxsize=128,
        blockysize=128,
        interleave="pixel",
        photometric="ycbcr",
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10])
    refused(path, "truncated|not an image")


def test_source_id(tmp_path: Path) -> None:
    first = open_raster(write(tmp_path / "a.tif")).source_id
    assert open_raster(tmp_path / "a.tif").source_id == first
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    assert open_raster(tmp_path / "a.tif").source_id == first
    write(tmp_path / "a.tif", np.full((3, 40, 60), 9, np.uint8))
    assert open_raster(tmp_path / "a.tif").source_id != first


def test_vrt_changes_with_its_source(tmp_path: Path) -> None:
    from rasterio.shutil import copy

    write(tmp_path / "a.tif")
    copy(str(tmp_path / "a.tif"), str(tmp_path / "a.vrt"), driver="VRT")
    first = open_raster(tmp_path / "a.vrt").source_id
    write(tmp_path / "a.tif", np.full((3, 40, 60), 9, np.uint8))
    assert open_raster(tmp_path / "a.vrt").source_id != first


@pytest.mark.parametrize(("crs", "expected"), [("EPSG:3857", 0.866), ("EPSG:2263", 0.3048)])
def test_gsd_is_on_the_ground(tmp_path: Path, crs: str, expected: float) -> None:
    """Web Mercator at 30 degrees north is 13 % finer than it says; US feet are feet."""
    origin = (9_000_000, 3_503_549.8) if crs == "EPSG:3857" else (980_000, 200_000)
    path = write(tmp_path / "a.tif", crs=crs, transform=north_up(*origin, 1, 1))
    assert open_raster(path).gsd == pytest.approx((expected, expected), rel=0.005)


def test_zarr_written_by_rioxarray(tmp_path: Path) -> None:
    import rioxarray

    data = np.random.default_rng(0).integers(1, 255, (3, 40, 60), dtype=np.uint8)
    write(tmp_path / "a.tif", data, nodata=0)
    with rioxarray.open_rasterio(tmp_path / "a.tif") as array, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array.to_dataset(name="city").to_zarr(tmp_path / "a.zarr", zarr_format=3)
    header = open_raster(tmp_path / "a.zarr")
    assert (header.shape, header.bands, header.dtype, header.kind) == ((40, 60), 3, "uint8", "zarr")
    assert header.transform == open_raster(tmp_path / "a.tif").transform
    assert header.nodata == 0
    working = working_raster(header)
    image, valid = read_source(working, Window(-2, 10, 20, 30))
    assert (image[:, 2:] == data[:, :18, 10:40]).all()
    assert valid[2:].all()
    assert not valid[:2].any()


def test_zarr_without_crs_or_image(tmp_path: Path) -> None:
    import xarray
    import zarr

    zarr.create_array(str(tmp_path / "raw.zarr"), shape=(8, 8), dtype="uint8")
    refused(tmp_path / "raw.zarr", "not a Zarr store of an image|no array")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = xarray.DataArray(np.ones((8, 8)), dims=("y", "x"), coords={"y": -np.arange(8.0), "x": np.arange(8.0)})
        data.to_dataset(name="a").to_zarr(tmp_path / "bare.zarr", zarr_format=3)
    refused(tmp_path / "bare.zarr", "no CRS")


def test_stac_item(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.tif")
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "properties": {"datetime": "2024-02-03T04:05:06Z"},
        "assets": {
            "thumbnail": {"href": "small.png", "roles": ["thumbnail"], "type": "image/png"},
            "table": {"href": "t.parquet", "roles": ["data"], "type": "application/x-parquet"},
            "visual": {"href": "./data/a.tif", "roles": ["data"], "type": "image/tiff; application=geotiff"},
        },
    }
    (tmp_path / "item.json").write_text(json.dumps(item))
    header = open_raster(tmp_path / "item.json")
    assert header.shape == (40, 60)
    assert header.image_date == "2024-02-03T04:05:06Z"
    del item["assets"]["visual"], item["assets"]["table"]
    (tmp_path / "item.json").write_text(json.dumps(item))
    refused(tmp_path / "item.json", "no asset")
    (tmp_path / "item.json").write_text("[")
    refused(tmp_path / "item.json", "not a STAC item")


SERVER = """
import functools, http.server, pathlib, sys

class Ranges(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        path = pathlib.Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        whole = path.read_bytes()
        begin, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        first, last = int(begin), min(int(end or len(whole)), len(whole) - 1)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(whole)}")
        self.end_headers()
        self.wfile.write(whole[first : last + 1])

handler = functools.partial(Ranges, directory=sys.argv[1])
with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A file server that knows byte ranges, in a process of its own: GDAL waits for it with the GIL held."""
    command = [sys.executable, "-c", SERVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def test_url(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    data = np.random.default_rng(0).integers(1, 255, (3, 40, 60), dtype=np.uint8)
    write(tmp_path / "a.tif", data)
    header = open_raster(f"{server}/a.tif")
    assert header.name == f"/vsicurl/{server}/a.tif"
    image, _ = read_source(working_raster(header), Window(0, 0, 40, 60))
    assert (image == data).all()
    (tmp_path / "item.json").write_text(json.dumps({"assets": {"a": {"href": "a.tif", "roles": ["data"]}}}))
    assert open_raster(f"{server}/item.json").shape == (40, 60)
    refused(f"{server}/none.tif", "not an image")
