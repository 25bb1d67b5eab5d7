"""What an image says of itself: anything GDAL opens, a Zarr store, a URL or a STAC item.

Only headers are read here, plus a probe of a few blocks; everything that cannot be worked on is
refused with one line (DESIGN 7). The grid that is worked on is chosen in `working`.
"""

from __future__ import annotations

import json
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.ground import ground_sampling
from pipeline.locate import date_of, gdal_name, is_zarr, source_id, stac_asset

if TYPE_CHECKING:
    import rasterio
    import xarray

CACHE_MB = 128
"""GDAL's block cache in a process; its default, a twentieth of the machine, would not stay under 2 GiB."""

PROBES = 9
"""Blocks that are read at plan to find a truncated file."""

_local = threading.local()


@dataclass(frozen=True, slots=True)
class RasterHeader:
    """An image on its own grid, north-up, as its file describes it.

    `name` is what GDAL (or, for `kind` 'zarr', xarray) opens; `shape` is (height, width) in px;
    `bands` the colour bands, without `alpha` (its number, or None); `dtype` numpy's name; `crs` WKT;
    `transform` the affine (a, b, c, d, e, f) with b = d = 0, a > 0, e < 0; `gsd` metres on the ground
    (x, y); `image_date` ISO 8601 or None; `source_id` changes when the file does.
    """

    path: str
    name: str
    kind: str
    variable: str
    shape: tuple[int, int]
    bands: int
    dtype: str
    crs: str
    transform: tuple[float, float, float, float, float, float]
    gsd: tuple[float, float]
    nodata: float | None
    has_mask: bool
    alpha: int | None
    image_date: str | None
    source_id: str


def open_raster(path: str | Path) -> RasterHeader:
    """The header of the image at `path`; InputError, one line, where it cannot be worked on."""
    text = str(path)
    base = text.split("?")[0].lower()
    if base.endswith((".json", ".geojson")):
        asset, date = stac_asset(text)
        header = open_raster(asset)
        return replace(header, path=text, image_date=date or header.image_date)
    local = "://" not in text and not text.startswith("/vsi")
    if local and is_zarr(Path(text)):
        header = _zarr_header(text)
    else:
        looks_like_file = not re.match(r"^[A-Za-z0-9_]{2,}:", text)
        if local and looks_like_file and not Path(text).exists():
            raise InputError(f"{text}: no such file; give the path or URL of an image")
        header = _gdal_header(text)
    _check(header)
    return header


@contextmanager
def gdal_settings() -> Iterator[None]:
    """GDAL within bounds: small block cache, no directory listings over the network, few retries."""
    import rasterio

    with rasterio.Env(
        GDAL_CACHEMAX=CACHE_MB,
        GDAL_HTTP_MAX_RETRY=3,
        GDAL_HTTP_RETRY_DELAY=1,
        GDAL_HTTP_TIMEOUT=60,
        GDAL_HTTP_CONNECTTIMEOUT=10,
        GDAL_NUM_THREADS=1,
    ):
        yield


def open_gdal(name: str) -> rasterio.DatasetReader:
    """GDAL's handle of `name` for this thread; handles are never shared between threads."""
    import rasterio

    handles: dict[str, rasterio.DatasetReader] = _local.__dict__.setdefault("handles", {})
    if name not in handles:
        while len(handles) >= 4:
            handles.pop(next(iter(handles))).close()
        if name.startswith("/vsi"):
            with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
                handles[name] = rasterio.open(name, sharing=False)
        else:
            handles[name] = rasterio.open(name, sharing=False)
    return handles[name]


def open_zarr(name: str, variable: str) -> xarray.DataArray:
    """The array `variable` of the Zarr store `name`, (band, y, x), lazily, raw values."""
    opened: dict[tuple[str, str], xarray.DataArray] = _local.__dict__.setdefault("stores", {})
    if (name, variable) not in opened:
        dataset = _open_store(name)
        array = dataset[variable]
        spatial = (array.rio.y_dim, array.rio.x_dim)
        band = [dim for dim in array.dims if dim not in spatial]
        if not band:
            array, band = array.expand_dims("band"), ["band"]
        opened[name, variable] = array.transpose(*band, *spatial)
    return opened[name, variable]


def _gdal_header(path: str) -> RasterHeader:
    import rasterio
    from rasterio.enums import ColorInterp, MaskFlags

    name = gdal_name(path)
    try:
        with gdal_settings(), _without_place(), rasterio.open(name, sharing=False) as source:
            if source.count == 0 or source.width == 0 or source.height == 0:
                inside = f"; it holds {len(source.subdatasets)} others, name one" if source.subdatasets else ""
                raise InputError(f"{path}: an image with no bands{inside}")
            alpha = [i + 1 for i, c in enumerate(source.colorinterp) if c == ColorInterp.alpha]
            colour = [i for i in range(source.count) if i + 1 not in alpha]
            if not colour:
                raise InputError(f"{path}: has no bands but an alpha channel; give one with colours")
            if source.colorinterp[colour[0]] == ColorInterp.palette:
                raise InputError(f"{path}: colours by palette; convert it with gdal_translate -expand rgb")
            dtype = np.result_type(*[np.dtype(source.dtypes[i]) for i in colour])
            tags = source.tags() | source.tags(ns="IMAGERY")
            files = [name] if name.startswith("/vsi") else [*source.files]
            header = RasterHeader(
                path=path,
                name=name,
                kind="gdal",
                variable="",
                shape=(source.height, source.width),
                bands=len(colour),
                dtype=dtype.name,
                crs=source.crs.to_wkt() if source.crs else "",
                transform=tuple(source.transform)[:6],
                gsd=(0.0, 0.0),
                nodata=source.nodata,
                has_mask=MaskFlags.per_dataset in source.mask_flag_enums[colour[0]],
                alpha=alpha[0] if alpha else None,
                image_date=date_of(tags),
                source_id=source_id(path, files),
            )
            _check(header)
    except rasterio.errors.RasterioError as error:
        reason = " ".join(str(error).replace(f"'{name}' ", "").split()).rstrip(".")
        raise InputError(f"{path}: not an image that GDAL can open ({reason}); give a GeoTIFF") from None
    return replace(header, gsd=ground_sampling(header.crs, header.transform, header.shape))


@contextmanager
def _without_place() -> Iterator[None]:
    """Keep quiet about images that lie nowhere: they are refused with a line of their own. Plan only:
    changing the warnings' filters is not safe among threads."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def _open_store(name: str) -> xarray.Dataset:
    import rioxarray  # noqa: F401  the .rio accessor
    import xarray

    # not consolidated: version 3 does not need it, and looking for it warns
    return xarray.open_zarr(name, chunks=None, decode_coords="all", mask_and_scale=False, consolidated=False)


def _zarr_header(path: str) -> RasterHeader:
    fix = "write one with rioxarray: (band, y, x) with spatial_ref"
    try:
        dataset = _open_store(path)
    except Exception as error:  # xarray and zarr raise what their engines raise: anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a Zarr store of an image ({reason}); {fix}") from None
    for variable in dataset.data_vars:
        array = dataset[variable]
        try:
            spatial = (array.rio.y_dim, array.rio.x_dim)
        except Exception:  # rioxarray: no spatial dimensions
            continue
        if array.ndim in (2, 3):
            break
    else:
        raise InputError(f"{path}: no array of two or three dimensions with x and y; {fix}")
    crs, affine = array.rio.crs, array.rio.transform()
    meta = dataset.attrs | array.attrs
    if crs is None:
        crs, affine = _geozarr(meta, affine)
    bands = [array.sizes[dim] for dim in array.dims if dim not in spatial]
    fill = array.attrs.get("_FillValue", array.attrs.get("nodata"))
    transform = tuple(float(value) for value in tuple(affine)[:6])
    shape = (int(array.sizes[spatial[0]]), int(array.sizes[spatial[1]]))
    header = RasterHeader(
        path=path,
        name=path,
        kind="zarr",
        variable=str(variable),
        shape=shape,
        bands=int(bands[0]) if bands else 1,
        dtype=array.dtype.name,
        crs=crs.to_wkt() if crs else "",
        transform=transform,  # type: ignore[arg-type]
        gsd=(0.0, 0.0),
        nodata=float(fill) if isinstance(fill, int | float | np.number) else None,
        has_mask=False,
        alpha=None,
        image_date=date_of({str(key): str(value) for key, value in meta.items()}),
        source_id=source_id(path, [str(file) for file in Path(path).rglob("*") if file.is_file()]),
    )
    _check(header)
    return replace(header, gsd=ground_sampling(header.crs, transform, shape))  # type: ignore[arg-type]


def _geozarr(meta: dict[Any, Any], affine: Any) -> tuple[Any, Any]:
    """CRS and affine from the newer `proj:` and `spatial:` attributes, where a store has only these."""
    import rasterio

    said = next((meta[key] for key in ("proj:code", "proj:wkt2", "proj:projjson") if meta.get(key)), None)
    if said is None:
        return None, affine
    crs = rasterio.crs.CRS.from_user_input(json.dumps(said) if isinstance(said, dict) else said)
    values = meta.get("spatial:transform")
    return crs, (rasterio.Affine(*values[:6]) if values else affine)


def _check(header: RasterHeader) -> None:
    """The rules that every image must keep, whatever it came as."""
    a, b, _, d, e, _ = header.transform
    if not header.crs:
        raise InputError(f"{header.path}: has no CRS; set it, for example with gdal_edit.py -a_srs EPSG:…")
    if header.transform[:6] == (1, 0, 0, 0, 1, 0):
        raise InputError(f"{header.path}: has no place on the ground; set it with gdal_translate -a_ullr")
    if max(abs(b), abs(d)) > 1e-9 * max(abs(a), abs(e)):
        raise InputError(f"{header.path}: is rotated or sheared; make it north-up first with gdalwarp")
    if a <= 0 or e >= 0:
        raise InputError(f"{header.path}: is not north-up (pixel size {a}, {e}); turn it first with gdalwarp")
    if header.bands == 0 or 0 in header.shape:
        raise InputError(f"{header.path}: an image with no bands or no pixels")
    if np.dtype(header.dtype).kind not in "uif":
        raise InputError(f"{header.path}: pixels of type {header.dtype}; give integers or floats")


def probe(header: RasterHeader) -> None:
    """Read the last block and some others: a truncated file must not wait until its tile comes."""
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    if header.kind == "zarr":
        return  # chunks are files of their own: a damaged one is its tile's failure
    with gdal_settings():
        source = open_gdal(header.name)
        rows, columns = source.block_shapes[0]
        down, across = -(-source.height // rows), -(-source.width // columns)
        blocks = sorted({round(i * (down * across - 1) / (PROBES - 1)) for i in range(PROBES)}, reverse=True)
        for block in blocks:
            y0, x0 = block // across * rows, block % across * columns
            window = Window(x0, y0, min(columns, source.width - x0), min(rows, source.height - y0))
            try:
                source.read(window=window)
                source.read_masks(1, window=window)
            except RasterioError:
                raise InputError(
                    f"{header.path}: cannot be read at row {y0}, column {x0}: truncated or damaged"
                ) from None
