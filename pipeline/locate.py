"""What the path of an input means: a file, a URL, a Zarr store or a STAC item, and when it changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from pipeline.errors import InputError

_REMOTE = {"http": "/vsicurl/", "https": "/vsicurl/", "s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}


def gdal_name(path: str) -> str:
    """The name under which GDAL opens `path`: URLs become /vsicurl/, /vsis3/, …"""
    scheme, separator, rest = path.partition("://")
    if not separator or scheme.lower() not in _REMOTE:
        return path
    prefix = _REMOTE[scheme.lower()]
    return prefix + (path if prefix == "/vsicurl/" else rest)


def source_id(path: str, files: list[str]) -> str:
    """A hash that changes when a source does: name, size, time and both ends of each file; a URL's ETag.

    Overviews and GDAL's side notes (.ovr, .aux.xml) are left out: viewers write them as they look.
    """
    digest = hashlib.blake2b(digest_size=16)
    if path.startswith(("http://", "https://")):
        digest.update(_remote_id(path).encode())
        return digest.hexdigest()
    for file in sorted(files):
        if file.endswith((".ovr", ".aux.xml")):
            continue
        digest.update(Path(file).name.encode())
        with open(file, "rb") if os.path.isfile(file) else open(os.devnull, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            digest.update(f"{size} {os.fstat(stream.fileno()).st_mtime_ns if size else 0}".encode())
            digest.update(stream.read(4096))
            stream.seek(max(0, size - 4096))
            digest.update(stream.read(4096))
    return digest.hexdigest()


def _remote_id(url: str) -> str:
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, method="HEAD"), timeout=20) as answer:
            said = [answer.headers.get(key) or "" for key in ("ETag", "Last-Modified", "Content-Length")]
    except OSError:
        said = []
    return " ".join([url.split("?")[0], *said])


def is_zarr(path: Path) -> bool:
    return path.is_dir() and any((path / mark).is_file() for mark in ("zarr.json", ".zgroup", ".zarray"))


def date_of(tags: dict[str, str]) -> str | None:
    said = tags.get("ACQUISITIONDATETIME") or tags.get("TIFFTAG_DATETIME") or tags.get("datetime") or ""
    match = re.match(r"(\d{4})[:-](\d\d)[:-](\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?))?", said)
    if not match:
        return None
    year, month, day, time = match.groups()
    return f"{year}-{month}-{day}" + (f"T{time}" if time else "")


def stac_asset(path: str) -> tuple[str, str | None]:
    """The image asset of the STAC item at `path`, resolved against it, and the item's date."""
    from urllib.request import urlopen

    try:
        if path.startswith(("http://", "https://")):
            with urlopen(path, timeout=20) as answer:
                item = json.load(answer)
        else:
            item = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a STAC item that can be read ({error})") from None
    assets = item.get("assets") if isinstance(item, dict) else None
    if not isinstance(assets, dict):
        raise InputError(f"{path}: not a STAC item: it has no assets; give an item or an image")
    tiffs = [
        a for a in assets.values() if "tiff" in str(a.get("type", "")) or _is_tiff(str(a.get("href", "")))
    ]
    data = [a for a in assets.values() if "data" in (a.get("roles") or []) and not _is_other(a)]
    chosen = [*data, *tiffs]
    if not chosen:
        raise InputError(f"{path}: no asset with the role 'data' and no GeoTIFF among {', '.join(assets)}")
    href = str(chosen[0]["href"])
    if "://" not in href and not href.startswith("/"):
        href = urljoin(path, href) if "://" in path else str(Path(path).parent / href)
    properties = item.get("properties") or {}
    date = properties.get("datetime") or properties.get("start_datetime")
    return href, str(date) if date else None


def _is_tiff(href: str) -> bool:
    return href.split("?")[0].lower().endswith((".tif", ".tiff"))


def _is_other(asset: dict[str, Any]) -> bool:
    """Whether an asset is plainly no raster (a table, vectors, metadata)."""
    kind = str(asset.get("type", ""))
    return any(word in kind for word in ("json", "parquet", "geopackage", "html", "text", "xml"))
