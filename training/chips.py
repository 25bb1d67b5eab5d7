"""Labelled scenes as plain arrays: what every recipe trains on.

`load_scenes` alone needs the geodata stack; all that follows works on a bare machine from arrays.
Polygons are ragged: `coords (n, 2)` float64 (x, y) in pixels of the scene with (0, 0) the outer corner of the
top-left pixel, `ring_offsets` int64 into vertices, `polygon_offsets` int64 into rings, shells first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

if TYPE_CHECKING:
    from training.city import City

Ragged = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]

CLASSES = {1: "forest", 2: "water", 3: "road", 4: "building"}
"""Names of `class_id` in NAME_classes.gpkg; others come as 'class_<id>' (255: not told)."""


@dataclass(frozen=True, slots=True)
class LabelledScene:
    """One scene with what is known of it. Train and score only where `labelled & valid`.

    image            (3, h, w) uint8
    valid, labelled  (h, w) bool: inside the image's own mask; inside the area where labels are complete
    coords, ring_offsets, polygon_offsets   ragged building polygons, holes kept, not cut at the image's edge
    roads            road centre lines, each (n, 2) px; with roads and no buildings, labelled for roads only
    class_polygons   class name (CLASSES) -> ragged polygons, where the scene has them
    """

    name: str
    gsd: float
    image: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    coords: NDArray[np.float64]
    ring_offsets: NDArray[np.int64]
    polygon_offsets: NDArray[np.int64]
    roads: tuple[NDArray[np.float64], ...] = ()
    class_polygons: dict[str, Ragged] = field(default_factory=dict)

    @property
    def polygons(self) -> int:
        """Number of building polygons."""
        return len(self.polygon_offsets) - 1


def drawn_scene(made: City, name: str = "city") -> LabelledScene:
    """A city of training/city.py as a scene: everything of it is labelled, houses and streets."""
    whole = np.ones(made.image.shape[1:], np.bool_)
    return LabelledScene(
        name, made.gsd, made.image, whole, whole, made.coords, made.ring_offsets, made.polygon_offsets, made.roads
    )


def load_scenes(data: Path, names: Iterable[str] | None = None) -> list[LabelledScene]:
    """The scenes of a data folder (`NAME/NAME.tif`, `NAME_buildings.parquet`, `NAME_aoi.gpkg`, ...), by name.

    Scenes without any label come with `labelled` all False. Raises InputError where a named one is not there.
    """
    data = Path(data)
    found = sorted(path.parent.name for path in data.glob("*/*.tif") if path.stem == path.parent.name)
    wanted = found if names is None else list(names)
    missing = [name for name in wanted if name not in found]
    if missing or not wanted:
        raise InputError(f"{data}: no scene {', '.join(missing) or 'at all'}; expected NAME/NAME.tif folders")
    return [_load_scene(data / name, name) for name in wanted]


def _load_scene(folder: Path, name: str) -> LabelledScene:
    import geopandas
    import rasterio
    from rasterio.features import rasterize

    with rasterio.open(folder / f"{name}.tif") as source:
        image, valid, transform = source.read([1, 2, 3]), source.dataset_mask() > 0, source.transform
    shape = valid.shape

    def frame(suffix: str) -> Any:
        path = folder / f"{name}_{suffix}"
        if not path.exists():
            return None
        return geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)

    buildings, area, classes, roads = map(frame, ("buildings.parquet", "aoi.gpkg", "classes.gpkg", "roads.gpkg"))
    if area is not None:
        labelled = rasterize(list(area.geometry), out_shape=shape, transform=transform, dtype="uint8") > 0
    else:
        labelled = np.full(shape, roads is not None)
    inverse = ~transform
    coords, ring_offsets, polygon_offsets = ragged(_geometries(buildings), inverse)
    return LabelledScene(
        name=name,
        gsd=float(transform.a),
        image=image,
        valid=valid,
        labelled=labelled,
        coords=coords,
        ring_offsets=ring_offsets,
        polygon_offsets=polygon_offsets,
        roads=tuple(_to_px(np.asarray(line.coords)[:, :2], inverse) for line in _geometries(roads)),
        class_polygons={}
        if classes is None
        else {
            CLASSES.get(int(key), f"class_{key}"): ragged(_geometries(rows), inverse)
            for key, rows in classes.groupby("class_id")
        },
    )


def _geometries(frame: Any) -> list[Any]:
    return [] if frame is None else list(frame.geometry.explode())


def _to_px(xy: NDArray[np.float64], inverse: Any) -> NDArray[np.float64]:
    return np.stack([inverse.a * xy[:, 0] + inverse.c, inverse.e * xy[:, 1] + inverse.f], axis=1)


def ragged(geometries: Sequence[Any], inverse: Any) -> Ragged:
    """Shapely (multi)polygons as ragged arrays in pixels; `inverse` is the north-up world-to-pixel affine."""
    parts = [part for shape in geometries for part in getattr(shape, "geoms", [shape])]
    rings = [[part.exterior, *part.interiors] for part in parts]
    arrays = [np.asarray(ring.coords)[:, :2] for polygon in rings for ring in polygon]
    coords = _to_px(np.concatenate(arrays), inverse) if arrays else np.zeros((0, 2))
    return coords, _offsets([len(a) for a in arrays]), _offsets([len(polygon) for polygon in rings])


def _offsets(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def stretch(image: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Scene stretch: clip((v - p1) / (p99 - p1), 0, 1) per band over valid pixels, nodata 0: float32."""
    out = np.zeros(image.shape, np.float32)
    if not valid.any():
        return out
    for band, target in zip(image, out, strict=True):
        low, high = np.percentile(band[valid], (1, 99))
        target[:] = np.clip((band.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
        target[~valid] = 0
    return out


def halve(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Next pyramid level by mask-aware 2x2 averaging: (bands, ceil(h/2), ceil(w/2)) and its valid mask.

    A pixel is valid if any of its four is; only valid ones are averaged; nodata is 0.
    """
    height, width = valid.shape
    odd = ((0, height % 2), (0, width % 2))
    weight = np.pad(valid, odd).astype(np.float32)
    image = np.pad(image, ((0, 0), *odd)) * weight
    total = image[:, 0::2, 0::2] + image[:, 1::2, 0::2] + image[:, 0::2, 1::2] + image[:, 1::2, 1::2]
    count = weight[0::2, 0::2] + weight[1::2, 0::2] + weight[0::2, 1::2] + weight[1::2, 1::2]
    return (total / np.maximum(count, 1)).astype(np.float32), count > 0
