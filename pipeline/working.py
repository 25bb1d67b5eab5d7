"""The grid a scene is worked on, and reading an image on it.

The working raster is the image's own grid wherever that is possible. It is another one, and says so,
where the image is in degrees (then: the local UTM zone), where its pixels are not square, and where
they are finer than any model was trained on (then: resampled to the models' finest).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from pipeline.errors import InputError, TileError
from pipeline.grid import Window
from pipeline.raster import RasterHeader, gdal_settings, open_gdal, open_zarr

PIECE = 512
"""Side of the pieces in which a resampled window is computed, so that coarse scenes from fine images
do not take memory with the square of the ratio."""

_VERSION = 1

Affine = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class WorkingRaster:
    """The raster that is worked on: north-up, square pixels, a projected CRS.

    `shape` (height, width) px; `transform` the affine (a, b, c, d, e, f), b = d = 0, e = -a; `crs` WKT;
    `gsd` metres on the ground; `bands` colour bands of `dtype`; `notes` what differs from the image and
    why, for the user; `content_id` changes when the image or the grid does.
    """

    source: RasterHeader
    shape: tuple[int, int]
    transform: Affine
    crs: str
    gsd: float
    resampled: bool
    notes: tuple[str, ...]

    @property
    def bands(self) -> int:
        """Number of colour bands."""
        return self.source.bands

    @property
    def dtype(self) -> str:
        """numpy's name of the pixels' type."""
        return self.source.dtype

    @property
    def content_id(self) -> str:
        """Hash of the image's identity and of the grid it is worked on; known before ingest."""
        said = (_VERSION, self.source.source_id, self.source.nodata, self.shape, self.transform, self.crs)
        return hashlib.blake2b(repr(said).encode(), digest_size=16).hexdigest()

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in the working CRS."""
        a, _, c, _, e, f = self.transform
        return c, f + e * self.shape[0], c + a * self.shape[1], f


def working_raster(header: RasterHeader, min_gsd: float | None = None) -> WorkingRaster:
    """The grid to work `header`'s image on; `min_gsd` (metres) is the finest any model was trained on."""
    import pyproj

    notes = []
    (height, width), transform, crs, gsd = header.shape, header.transform, header.crs, header.gsd
    resampled = False
    if pyproj.CRS.from_wkt(crs).is_geographic:
        crs, transform, (height, width), name = _utm(header)
        gsd = (transform[0], transform[0])
        notes.append(f"{header.path} is in degrees: worked on in {name} at {transform[0]:.3g} m")
        resampled = True
    a, _, c, _, e, f = transform
    pixel, metres = min(a, -e), min(gsd)
    if abs(a + e) > 1e-3 * pixel:
        notes.append(f"{header.path} has pixels of {a:g} by {-e:g}: resampled to squares of {pixel:g}")
        resampled = True
    if min_gsd is not None and metres < 0.99 * min_gsd:
        notes.append(f"{header.path} has pixels of {metres:.3g} m: worked on at {min_gsd:g} m, the models' finest")
        pixel, metres, resampled = pixel * min_gsd / metres, min_gsd, True
    if resampled:
        height, width = max(1, round(height * -e / pixel)), max(1, round(width * a / pixel))
        transform = (pixel, 0.0, c, 0.0, -pixel, f)
    return WorkingRaster(header, (height, width), transform, crs, metres, resampled, tuple(notes))


def _utm(header: RasterHeader) -> tuple[str, Affine, tuple[int, int], str]:
    """WKT, affine and shape of the image in the UTM zone of its centre, at about its own GSD; its name."""
    import pyproj
    from rasterio.crs import CRS
    from rasterio.errors import RasterioError
    from rasterio.warp import calculate_default_transform

    a, _, c, _, e, f = header.transform
    height, width = header.shape
    to_wgs84 = pyproj.Transformer.from_crs(header.crs, "EPSG:4326", always_xy=True)
    lon, lat = to_wgs84.transform(c + a * width / 2, f + e * height / 2)
    if not (math.isfinite(lon) and -80 <= lat <= 84):
        raise InputError(f"{header.path}: in degrees, outside every UTM zone; reproject it with gdalwarp")
    zone = int((lon + 180) % 360 // 6) + 1
    code = (32600 if lat >= 0 else 32700) + zone
    target = CRS.from_epsg(code)
    try:
        affine, across, down = calculate_default_transform(
            CRS.from_wkt(header.crs), target, width, height, c, f + e * height, c + a * width, f
        )
    except RasterioError:
        raise InputError(f"{header.path}: does not fit into UTM zone {zone}; reproject it with gdalwarp") from None
    name = f"UTM zone {zone}{'N' if lat >= 0 else 'S'}"
    transform = (affine.a, 0.0, affine.c, 0.0, -affine.a, affine.f)
    return target.to_wkt(), transform, (int(down), int(across)), name


def read_source(working: WorkingRaster, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """The image in `window` of the working raster, (bands, height, width), and where it is valid, bool.

    Invalid are: the nodata value (in every band), the mask band, transparent pixels, NaN and infinities
    (in any band), and what lies outside the image; their values are 0. Resampling is bilinear over valid
    pixels only. Raises TileError where a block cannot be read. Handles are this thread's own.
    """
    image = np.zeros((working.bands, window.height, window.width), dtype=working.dtype)
    valid = np.zeros((window.height, window.width), dtype=bool)
    inside = window.clip(working.shape)
    pieces = [inside]
    if working.resampled:
        pieces = [
            Window(y0, x0, min(PIECE, inside.y1 - y0), min(PIECE, inside.x1 - x0))
            for y0 in range(inside.y0, inside.y1, PIECE)
            for x0 in range(inside.x0, inside.x1, PIECE)
        ]
    for piece in pieces:
        if piece.area == 0:
            continue
        values, good = _resample(working, piece) if working.resampled else _read_native(working.source, piece)
        at = piece.slices(window)
        image[(slice(None), *at)] = np.where(good, values, 0)
        valid[at] = good
    return image, valid


def _read_native(header: RasterHeader, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Bands and validity in a window that lies inside the source, on its own grid."""
    from rasterio.errors import RasterioError
    from rasterio.windows import Window as RasterWindow

    if header.kind == "zarr":
        try:
            values = open_zarr(header.name, header.variable)[(..., *window.slices())].to_numpy()
        except Exception as error:  # whatever the store's codecs raise
            raise TileError(f"{header.path}: cannot be read at {window} ({type(error).__name__})") from None
        valid = np.ones(values.shape[1:], dtype=bool)
    else:
        place = RasterWindow(window.x0, window.y0, window.width, window.height)
        try:
            with gdal_settings():
                source = open_gdal(header.name)
                colour = [band for band in range(1, source.count + 1) if band != header.alpha][: header.bands]
                values = source.read(colour, window=place, out_dtype=header.dtype)
                if header.has_mask or header.alpha:
                    masks = [source.read_masks(colour[0], window=place)] if header.has_mask else []
                    masks += [source.read(header.alpha, window=place)] if header.alpha else []
                    valid = np.logical_and.reduce([mask > 0 for mask in masks])
                else:
                    valid = np.ones(values.shape[1:], dtype=bool)
        except RasterioError:
            raise TileError(f"{header.path}: cannot be read at {window}: truncated or damaged") from None
    if header.nodata is not None and not math.isnan(header.nodata):
        valid &= (values != np.asarray(header.nodata, dtype=np.float64).astype(values.dtype)).any(axis=0)
    if values.dtype.kind == "f":
        valid &= np.isfinite(values).all(axis=0)
    return values, valid


def _resample(working: WorkingRaster, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Bands and validity in a window of a working grid that is not the source's own.

    Bilinear (with a wider kernel where it shrinks), weighted by validity; a pixel is valid where at
    least half of the weight is.
    """
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
    from rasterio.transform import Affine as Transform
    from rasterio.warp import reproject

    header = working.source
    dtype = np.dtype(working.dtype)
    image = np.zeros((working.bands, window.height, window.width), dtype=dtype)
    from_window = _source_window(working, window)
    if from_window.area == 0:
        return image, np.zeros(image.shape[1:], dtype=bool)
    values, good = _read_native(header, from_window)
    exact = np.float64 if dtype.itemsize > 2 and dtype != np.float32 else np.float32

    planes = np.concatenate([np.where(good, values, 0), good[None]]).astype(exact)
    sums = np.zeros((len(planes), window.height, window.width), dtype=exact)
    with gdal_settings():
        reproject(
            planes,
            sums,
            src_transform=Transform(*header.transform) * Transform.translation(from_window.x0, from_window.y0),
            src_crs=CRS.from_wkt(header.crs),
            dst_transform=Transform(*_shifted(working.transform, window)),
            dst_crs=CRS.from_wkt(working.crs),
            resampling=Resampling.bilinear,
            num_threads=1,
            tolerance=0.02,
        )
    valid = sums[-1] >= 0.5
    mean = sums[:-1] / np.where(valid, sums[-1], 1)
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        mean = np.clip(np.rint(mean), limits.min, limits.max)
    return np.where(valid, mean, 0).astype(dtype), valid


def _shifted(transform: Affine, window: Window) -> Affine:
    """The affine of a window of a north-up raster."""
    a, _, c, _, e, f = transform
    return a, 0.0, c + a * window.x0, 0.0, e, f + e * window.y0


def _source_window(working: WorkingRaster, window: Window) -> Window:
    """The source pixels that a window of the working raster needs, kernel included, cut at the image."""
    import pyproj

    a, _, c, _, e, f = working.transform
    along = np.linspace(0, 1, 33)
    edge = np.concatenate([along, along, np.zeros(33), np.ones(33)])
    other = np.concatenate([np.zeros(33), np.ones(33), along, along])
    x, y = c + a * (window.x0 + edge * window.width), f + e * (window.y0 + other * window.height)
    header = working.source
    if working.crs != header.crs:
        x, y = pyproj.Transformer.from_crs(working.crs, header.crs, always_xy=True).transform(x, y)
    sa, _, sc, _, se, sf = header.transform
    column, row = (np.asarray(x) - sc) / sa, (np.asarray(y) - sf) / se
    if not (np.isfinite(column).all() and np.isfinite(row).all()):
        return Window(0, 0, 0, 0)
    reach = 3 + 2 * math.ceil(max(1.0, np.ptp(column) / window.width, np.ptp(row) / window.height))
    x0, y0 = math.floor(column.min()) - reach, math.floor(row.min()) - reach
    x1, y1 = math.ceil(column.max()) + reach, math.ceil(row.max()) + reach
    return Window(y0, x0, y1 - y0, x1 - x0).clip(header.shape)
