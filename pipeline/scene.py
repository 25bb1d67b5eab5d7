"""A scene: the image on its working grid as a Zarr pyramid, with validity, statistics and its CRS.

    scene.zarr/image/{1,2,4,8}/image   (band, y, x) the source's dtype, 0 where invalid
                              /valid   (y, x) uint8 0/1
                              /x, y, spatial_ref   CF coordinates and grid mapping

One ingest task owns a block of 2048 px and one shard of each level: 2048, 1024, 512 and 256 px. The
grid of blocks does not depend on --tile.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import resample, store
from pipeline.errors import StoreError, TileError
from pipeline.grid import LEVELS, TileGrid, Window, level_shape
from pipeline.working import Affine, WorkingRaster, read_source

BLOCK = 2048
"""Side, px of level 1, of what one ingest task reads and writes; a multiple of the coarsest level."""

CHUNK = 256
_REPLACEABLE = ("content_id", "image_date")

MAPPED = {"grid_mapping": "spatial_ref"}
"""Attributes of an array that `georeference` has given coordinates."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the valid pixels of each band, over the whole scene at pyramid `level`, in the image's units."""

    level: int
    count: int
    p1: tuple[float, ...]
    p99: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """An open scene. `shape` (height, width) px and `transform` of level 1; `gsd` metres; `crs` WKT.

    `content_id` changes with the image and the grid; `statistics` is None until they are computed.
    """

    root: Path
    shape: tuple[int, int]
    gsd: float
    crs: str
    transform: Affine
    bands: int
    dtype: str
    levels: tuple[int, ...]
    content_id: str
    image_date: str | None
    statistics: Statistics | None


def blocks(shape: tuple[int, int]) -> TileGrid:
    """The ingest grid of a scene of `shape`: one task and one shard of each level a tile."""
    return TileGrid(shape, BLOCK, 0, 1)


def create_scene(root: Path, working: WorkingRaster) -> Scene:
    """Lay out an empty scene for `working` under `root`; one that is there already must be the same."""
    described: dict[str, Any] = {
        "shape": list(working.shape),
        "gsd": working.gsd,
        "crs": working.crs,
        "transform": list(working.transform),
        "bands": working.bands,
        "dtype": working.dtype,
        "levels": list(LEVELS),
        "content_id": working.content_id,
        "image_date": working.source.image_date,
    }
    found = store.attributes(root).get("scene") if (root / "zarr.json").is_file() else None
    if found is not None:
        # Another image on the same grid is a backfill: its receipts, not this, say what is done.
        names = [key for key in described if found.get(key) != described[key] and key not in _REPLACEABLE]
    if found is not None and names:
        raise StoreError(f"{root}: holds another scene ({', '.join(names)} differ); use another --out")
    store.create_group(root, "", {"scene": described})
    for level in LEVELS:
        shape, side = level_shape(working.shape, level), BLOCK // level
        group, bands = f"image/{level}", working.bands
        store.create_array(
            root,
            f"{group}/image",
            (bands, *shape),
            working.dtype,
            (bands, CHUNK, CHUNK),
            (bands, side, side),
            attributes=MAPPED,
            dimensions=("band", "y", "x"),
        )
        store.create_array(root, f"{group}/valid", shape, "uint8", (CHUNK, CHUNK), (side, side), 0, MAPPED, ("y", "x"))
        georeference(root, group, level)
    return open_scene(root)


def open_scene(root: Path) -> Scene:
    """The scene under `root`; read again only when its metadata changed. StoreError where there is none."""
    try:
        changed = (root / "zarr.json").stat()
    except OSError:
        raise StoreError(f"{root}: no scene; ingest it first") from None
    return _open_scene(root, changed.st_mtime_ns, changed.st_ino)


@lru_cache(maxsize=16)
def _open_scene(root: Path, _changed: int, _file: int) -> Scene:
    try:
        said = json.loads((root / "zarr.json").read_text())["attributes"]
        scene, statistics = said["scene"], said.get("statistics")
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{root}: the scene's metadata is damaged ({error}); use another --out") from None
    if statistics is not None:
        statistics = Statistics(**_tuples(statistics))
    return Scene(root=root, statistics=statistics, **_tuples(scene))


def _tuples(said: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}


def georeference(root: Path, group: str, level: float) -> None:
    """Give group `group` of a scene the x and y coordinates and the grid mapping of `level`.

    Arrays in it with dimensions (…, 'y', 'x') and the attributes MAPPED then open in xarray
    (`decode_coords="all"`) with their CRS. The newer `proj:` and `spatial:` attributes are written too.
    """
    import pyproj

    scene = open_scene(root)
    height, width = level_shape(scene.shape, level)
    a, _, c, _, e, f = scene.transform
    a, e = a * level, e * level
    crs = pyproj.CRS.from_wkt(scene.crs)
    code = crs.to_authority()
    mapping = {**crs.to_cf(), "GeoTransform": f"{c!r} {a!r} 0.0 {f!r} 0.0 {e!r}"}
    store.create_group(
        root,
        group,
        {
            "spatial:dimensions": ["y", "x"],
            "spatial:transform": [a, 0.0, c, 0.0, e, f],
            "spatial:shape": [height, width],
            **({"proj:code": ":".join(code)} if code else {"proj:wkt2": crs.to_wkt()}),
        },
    )
    axes = {"x": c + a * (np.arange(width) + 0.5), "y": f + e * (np.arange(height) + 0.5)}
    unit = crs.axis_info[0].unit_name if crs.axis_info else "metre"
    for name, values in axes.items():
        attributes = {"axis": name.upper(), "standard_name": f"projection_{name}_coordinate", "units": unit}
        store.create_variable(root, f"{group}/{name}", values, attributes, (name,))
    store.create_variable(root, f"{group}/spatial_ref", np.zeros((), dtype=np.int64), mapping, ())


def ingest_tile(working: WorkingRaster, root: Path, key: str) -> tuple[str, float]:
    """Read block `key` of the image once and write its shard of every level.

    Coarser levels are area averages of the valid pixels (integers rounded half to even), valid where at
    least half of the area inside the image is. Returns the digest (hex) of what was written and the
    valid share of the block at level 1. TileError where the image cannot be read there.
    """
    window = blocks(working.shape).at(key).core
    try:
        image, valid = read_source(working, window)
    except TileError:
        _blank(root, window)
        raise
    digest = hashlib.blake2b(digest_size=16)
    levels = pyramid(image, valid)
    for level, (pixels, good) in levels.items():
        y0, x0 = window.y0 // level, window.x0 // level
        place = Window(y0, x0, *good.shape)
        store.write(store.open_array(root, f"image/{level}/image"), place, pixels)
        store.write(store.open_array(root, f"image/{level}/valid"), place, good)
        digest.update(repr((level, pixels.shape, pixels.dtype.str)).encode())
        digest.update(np.ascontiguousarray(pixels).data)
        digest.update(np.ascontiguousarray(good).data)
    return digest.hexdigest(), float(valid.mean())


def _blank(root: Path, window: Window) -> None:
    """Nothing valid in a block, at every level: what an earlier image left there must not pass for this one's."""
    for level in LEVELS:
        height, width = -(-window.height // level), -(-window.width // level)
        place = Window(window.y0 // level, window.x0 // level, height, width)
        for name in ("image", "valid"):
            array = store.open_array(root, f"image/{level}/{name}")
            store.write(array, place, np.zeros((*array.shape[:-2], height, width), array.dtype))


def pyramid(image: np.ndarray, valid: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Levels 1, 2, 4, 8 of a block: level → (bands, h, w) pixels, 0 where invalid, and (h, w) uint8 validity.

    `image` (bands, height, width) must be 0 where `valid` (height, width) is not. Sums are exact for
    integers of up to 16 bits, so that a level does not depend on how it was reached.
    """
    total: type[np.generic] = np.float64
    if image.dtype.kind in "ui" and image.dtype.itemsize <= 2:
        total = np.uint32 if image.dtype.kind == "u" else np.int32
    sums, count = image.astype(total), valid.astype(np.uint8)
    inside = np.ones(valid.shape, dtype=np.uint8)
    levels = {1: (image, count)}
    for level in LEVELS[1:]:
        sums, count, inside = _quarter(sums), _quarter(count), _quarter(inside)
        good = (2 * count.astype(np.int16) >= inside) & (count > 0)
        mean = sums / np.maximum(count, 1)
        if image.dtype.kind in "ui":
            mean = np.rint(mean)
        levels[level] = np.where(good, mean, 0).astype(image.dtype), good.astype(np.uint8)
    return levels


def _quarter(plane: np.ndarray) -> np.ndarray:
    """Sums of 2 by 2 pixels, (…, height, width); an odd edge is completed with zeros."""
    height, width = plane.shape[-2:]
    if height % 2 or width % 2:
        plane = np.pad(plane, [(0, 0)] * (plane.ndim - 2) + [(0, height % 2), (0, width % 2)])
    rows = plane[..., ::2, :] + plane[..., 1::2, :]
    return np.asarray(rows[..., ::2] + rows[..., 1::2])


def read_image(scene: Scene, level: int, window: Window) -> np.ndarray:
    """Pixels of `window` at `level`, (bands, height, width), the image's dtype; 0 where invalid or outside."""
    return store.read(store.open_array(scene.root, f"image/{level}/image"), window)


def read_valid(scene: Scene, level: float, window: Window) -> np.ndarray:
    """Validity of `window` at `level`, (height, width) uint8 0/1; 0 outside the scene."""
    if level not in LEVELS:
        return _between(scene, level, window, with_image=False)[1]
    return store.read(store.open_array(scene.root, f"image/{level:g}/valid"), window)


def _between(scene: Scene, level: float, window: Window, with_image: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Means and validity of `window` at a level between those of the pyramid (see `resample`)."""
    finer, source = resample.finer(level), resample.source_window(window, level)
    valid = read_valid(scene, finer, source)
    image = read_image(scene, finer, source) if with_image else np.zeros((0, *valid.shape), np.float32)
    inside = np.zeros_like(valid)
    inside[source.clip(level_shape(scene.shape, finer)).slices(source)] = 1
    image, valid = resample.averaged(image, valid, inside, window, level)
    outside = np.ones(valid.shape, np.bool_)  # the finer level's last pixel may reach beyond this one's
    outside[window.clip(level_shape(scene.shape, level)).slices(window)] = False
    image[:, outside], valid[outside] = 0, 0
    return image, valid


def read_stretched(scene: Scene, level: float, window: Window) -> np.ndarray:
    """Pixels as every network sees them: (bands, height, width) float32 in 0..1, 0 where invalid or outside.

    clip((v - p1) / (p99 - p1), 0, 1) with the scene's own percentiles, so that no window is normalised
    by itself (DESIGN 2, invariant 7). A band without spread becomes 0.
    """
    if scene.statistics is None:
        raise StoreError(f"{scene.root}: the scene has no statistics yet; ingest it first")
    if level in LEVELS:
        image, valid = read_image(scene, int(level), window), read_valid(scene, level, window)
    else:
        image, valid = _between(scene, level, window)
    stretched = stretch(image, scene.statistics)
    stretched *= valid
    return stretched


def stretch(image: np.ndarray, statistics: Statistics) -> np.ndarray:
    """clip((v - p1) / (p99 - p1), 0, 1) of each band; `image` (bands, height, width), result float32."""
    low = np.array(statistics.p1, dtype=np.float32)[:, None, None]
    spread = (np.array(statistics.p99) - np.array(statistics.p1)).astype(np.float32)
    scale = np.where(spread > 0, np.float32(1) / np.where(spread > 0, spread, 1), 0).astype(np.float32)
    stretched = (image.astype(np.float32) - low) * scale[:, None, None]
    return np.clip(stretched, 0, 1, out=stretched)


def save_statistics(root: Path, statistics: Statistics) -> None:
    """Write the scene's statistics into its metadata. One writer: the task that computed them."""
    store.create_group(root, "", {"statistics": asdict(statistics)})
