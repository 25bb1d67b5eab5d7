"""The STAC item of a run: what lies in its folder, where on Earth, made by what, with checksums.

`run_item` is pure; `write_item` writes it. A catalog of runs is a list of such items.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError

NAME = "item.json"
_EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
EXTENSIONS = tuple(
    _EXTENSION.format(name)
    for name in (
        "projection/v2.0.0",
        "raster/v2.0.0",
        "file/v2.1.0",
        "processing/v1.2.0",
        "classification/v1.1.0",
        "table/v1.2.0",
    )
)
_PARQUET = "application/vnd.apache.parquet"
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_TYPES = {
    ".parquet": _PARQUET,
    ".tif": _COG,
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".html": "text/html",
    ".gpkg": "application/geopackage+sqlite3",
    ".fgb": "application/flatgeobuf",
    ".qml": "application/xml",
}
_TITLES = {
    "cadaster_aligned": "Cadaster moved onto the image",
    "buildings": "Buildings seen in the image",
    "changes": "Cadaster and image compared",
    "displacement": "Displacement field",
    "classes": "Land-cover classes",
    "certificate": "Certificate of completeness",
    "report": "Report",
    "run": "Settings, inputs, models and versions",
    "events": "What happened, when",
}
_ROLES = {"certificate": "metadata", "report": "overview", "run": "metadata", "events": "metadata"}
_FIELD_BANDS = (("dx_m", "m"), ("dy_m", "m"), ("confidence", "1"))


def run_item(
    *,
    id: str,
    crs: Any,
    transform: Sequence[float],
    shape: tuple[int, int],
    gsd: float,
    created: str,
    outputs: Mapping[str, Mapping[str, Any]],
    image_date: str | None = None,
    classes: Mapping[int, str] | None = None,
    colours: Mapping[int, tuple[int, int, int]] | None = None,
    software: Mapping[str, str] | None = None,
    models: Iterable[str] = (),
    source: str | None = None,
    properties: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The item as a plain mapping.

    `transform`: six numbers a, b, c, d, e, f of the working raster (x = a col + b row + c); `shape` its
    (height, width); `gsd` in metres. `created`: when the run began, ISO 8601 with offset. `image_date`:
    when the image was taken, if known; else the item's datetime is `created` and `resurvey:image_date` null.
    `outputs`: file name → facts, of which `bytes`, `sha256` and `rows` are used; files without a sha256
    (certificate, report: they are written after the item) are listed without a checksum. `source`: link
    to the image or its item. Footprints over the 180th meridian are not split.
    """
    ring, box, proj_box = _footprint(crs, transform, shape)
    code = _code(crs)
    common: dict[str, Any] = {
        "datetime": _rfc3339(image_date or created),
        "created": _rfc3339(created),
        "gsd": gsd,
        "proj:code": code,
        "proj:shape": list(shape),
        "proj:transform": [float(v) for v in transform],
        "proj:bbox": proj_box,
        "processing:level": "L4",
        "processing:lineage": "Image and cadaster, aligned, classified, split into buildings and compared by Resurvey",
        "processing:software": dict(software or {"resurvey": "unknown"}),
        "resurvey:image_date": image_date,
        "resurvey:models": sorted(models),
    }
    if code is None:
        import pyproj

        common["proj:wkt2"] = pyproj.CRS.from_user_input(crs).to_wkt()
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": id,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": box,
        "properties": common | dict(properties or {}),
        "links": [{"rel": "derived_from", "href": source}] if source else [],
        "assets": {
            name.replace(".", "_"): _asset(name, facts, gsd, classes or {}, colours or {})
            for name, facts in sorted(outputs.items())
        },
    }


def write_item(folder: Path, item: Mapping[str, Any]) -> Path:
    """Write `item.json` into a run's folder, whole or not at all."""
    path = Path(folder) / NAME
    draft = path.with_name(f".{NAME}.part")
    try:
        draft.write_text(json.dumps(item, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}); free space and rerun") from error
    return path


def _asset(
    name: str,
    facts: Mapping[str, Any],
    gsd: float,
    classes: Mapping[int, str],
    colours: Mapping[int, tuple[int, int, int]],
) -> dict[str, Any]:
    stem, suffix = Path(name).stem, Path(name).suffix
    role = "style" if suffix == ".qml" else _ROLES.get(stem, "data")
    asset: dict[str, Any] = {
        "href": f"./{name}",
        "title": _TITLES.get(stem, stem) + (" (QGIS style)" if suffix == ".qml" else ""),
        "type": _TYPES.get(suffix, "application/octet-stream"),
        "roles": [role],
    }
    if "sha256" in facts:
        asset |= {"file:size": facts["bytes"], "file:checksum": "1220" + facts["sha256"]}
    if suffix == ".parquet":
        asset["table:primary_geometry"] = "geometry"
        if "rows" in facts:
            asset["table:row_count"] = facts["rows"]
    if suffix == ".tif":
        asset["raster:spatial_resolution"] = facts.get("gsd", gsd)
    if name == "displacement.tif":
        asset["bands"] = [{"name": band, "data_type": "float32", "unit": unit} for band, unit in _FIELD_BANDS]
    if name == "classes.tif":
        asset |= {"data_type": "uint8", "nodata": 255}
        if classes:
            asset["classification:classes"] = [
                {"value": value, "name": label, "description": label}
                | ({"color_hint": "{:02X}{:02X}{:02X}".format(*colours[value])} if value in colours else {})
                for value, label in sorted(classes.items())
            ]
    return asset


def _footprint(
    crs: Any, transform: Sequence[float], shape: tuple[int, int]
) -> tuple[list[list[float]], list[float], list[float]]:
    """The raster's outline in EPSG:4326 (counter-clockwise, 8 points a side), its box, and its box in `crs`."""
    import pyproj

    a, b, c, d, e, f = transform[:6]
    h, w = shape
    steps = [i / 8 for i in range(8)]
    pixels = (
        [(0.0, h * t) for t in steps]
        + [(w * t, float(h)) for t in steps]
        + [(float(w), h * (1 - t)) for t in steps]
        + [(w * (1 - t), 0.0) for t in steps]
    )
    xs = [a * x + b * y + c for x, y in pixels]
    ys = [d * x + e * y + f for x, y in pixels]
    to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    lon, lat = to_degrees.transform(xs, ys)
    ring = [[round(float(x), 8), round(float(y), 8)] for x, y in zip(lon, lat, strict=True)]
    box = [min(p[0] for p in ring), min(p[1] for p in ring), max(p[0] for p in ring), max(p[1] for p in ring)]
    return [*ring, ring[0]], box, [min(xs), min(ys), max(xs), max(ys)]


def _code(crs: Any) -> str | None:
    import pyproj

    authority = pyproj.CRS.from_user_input(crs).to_authority(min_confidence=100)
    return ":".join(authority) if authority else None


def _rfc3339(text: str) -> str:
    """An ISO date or datetime as STAC wants it: with seconds, in UTC, ending in Z."""
    from datetime import UTC, datetime

    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
