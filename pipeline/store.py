"""Zarr arrays of a run: whole shards in, any window out (DESIGN 2, invariant 2).

A shard is the smallest thing that is written, always as a whole and by one task, so that two
writers never meet in one file and a task that dies leaves either the old shard or the new one:

    +---------+---------+----+    write   windows made of whole shards, cut only at the array's edge
    | shard   |         |    |    read    any window; what lies outside the array is filled
    +---------+---------+----+

Nothing here says whether a shard is done: a shard of nothing but fill value has no file. Receipts do.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import StoreError

if TYPE_CHECKING:
    import zarr

    from pipeline.grid import Window

LEFTOVER = "*.partial"
"""Files that a writer killed in mid-write leaves behind; `sweep` removes them."""


@contextlib.contextmanager
def reported(path: Path | str) -> Iterator[None]:
    """Turn a failing disk under `path` into a StoreError of one line that says what to do."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "the disk is full: free some space and run the same command again",
            errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
            errno.EROFS: "the disk is read-only: choose another --out",
            errno.EACCES: "no permission: choose another --out or change its owner",
            errno.EPERM: "no permission: choose another --out or change its owner",
        }.get(error.errno or 0, f"{error.strerror or error}: check the disk and run the same command again")
        raise StoreError(f"{path}: {advice}") from error


@lru_cache(maxsize=1)
def _zarr() -> Any:
    """The zarr module, set up once a process: its own concurrency multiplies with Dask's threads."""
    import zarr
    from numcodecs import blosc

    zarr.config.set({"async.concurrency": 4, "threading.max_workers": 2})
    blosc.use_threads = False  # its threads append blocks as they finish: other bytes on every run
    return zarr


def create_group(root: Path, name: str = "", attributes: dict[str, Any] | None = None) -> None:
    """Make group `name` under `root` if it is not there, and set `attributes` on it (others stay)."""
    zarr = _zarr()
    path = root / name
    with reported(root):
        group = zarr.open_group(str(path), mode="a", zarr_format=3, use_consolidated=False)
        if attributes and any(group.attrs.get(key) != value for key, value in attributes.items()):
            group.update_attributes(attributes)


def create_array(
    root: Path,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None = None,
    fill: float = 0,
    attributes: dict[str, Any] | None = None,
    dimensions: tuple[str, ...] | None = None,
) -> None:
    """Make array `name` under `root`; one that is there already must have the same layout.

    `chunks` are what is compressed and read, `shards` (a whole number of chunks; the chunks
    themselves if None) what is written. Blocks of nothing but `fill` take no space. Called by the
    driver only. Raises StoreError where an array of another layout stands in its place.
    """
    zarr = _zarr()
    written = shards or chunks
    if len(chunks) != len(shape) or len(written) != len(shape):
        raise StoreError(f"{root / name}: chunks {chunks} do not fit an array of shape {shape}")
    if any(outer % inner for outer, inner in zip(written, chunks, strict=True)):
        raise StoreError(f"{root / name}: shards {shards} are not whole chunks {chunks}")
    layout = (tuple(shape), np.dtype(dtype), tuple(written), tuple(chunks), dimensions)
    parents = [parent.as_posix() for parent in reversed(Path(name).parents) if parent.as_posix() != "."]
    for parent in ["", *parents]:
        if not (root / parent / "zarr.json").is_file():
            create_group(root, parent)
    if (root / name / "zarr.json").is_file():
        there = open_array(root, name)
        found = _layout(there)
        if found != layout or not _same(there.fill_value, fill):
            raise StoreError(f"{root / name}: there is an array of another layout {found}; use another --out")
        if attributes and any(there.attrs.get(key) != value for key, value in attributes.items()):
            with reported(root):
                there.update_attributes(attributes)
        return
    compressor = zarr.codecs.BloscCodec(
        cname="lz4", clevel=5, shuffle="shuffle" if np.dtype(dtype).itemsize > 1 else "noshuffle"
    )
    with reported(root):
        zarr.create_array(
            str(root / name),
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            shards=None if written == chunks else written,
            compressors=compressor,
            fill_value=fill,
            attributes=attributes or {},
            dimension_names=dimensions,
            zarr_format=3,
        )


def create_variable(
    root: Path, name: str, data: np.ndarray, attributes: dict[str, Any], dimensions: tuple[str, ...]
) -> None:
    """Write a small array whole (coordinates, a grid mapping), in place of what is there. Driver only."""
    zarr = _zarr()
    with reported(root):
        array = zarr.create_array(
            str(root / name),
            shape=data.shape,
            dtype=data.dtype,
            chunks=data.shape or "auto",
            fill_value=0,
            attributes=attributes,
            dimension_names=dimensions,
            zarr_format=3,
            overwrite=True,
        )
        array[...] = data


def _layout(array: zarr.Array[Any]) -> tuple[Any, ...]:
    dimensions = getattr(array.metadata, "dimension_names", None)
    written = array.shards or array.chunks
    return array.shape, array.dtype, tuple(written), tuple(array.chunks), dimensions


def _same(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b))


def open_array(root: Path, name: str) -> zarr.Array[Any]:
    """The array `name` under `root`, opened once a process. StoreError where there is none."""
    path = root / name
    try:
        made = (path / "zarr.json").stat().st_mtime_ns
    except OSError:
        raise StoreError(f"{path}: no such array; the step that writes it has not run yet") from None
    return _open(str(path), made)


@lru_cache(maxsize=256)
def _open(path: str, made: int) -> zarr.Array[Any]:
    try:
        return _zarr().open_array(path, mode="r+")
    except (ValueError, KeyError) as error:
        raise StoreError(f"{path}: the array's metadata is damaged ({error}); use another --out") from error


def attributes(root: Path, name: str = "") -> dict[str, Any]:
    """The attributes of group or array `name` under `root`."""
    try:
        return dict(_zarr().open(str(root / name), mode="r", use_consolidated=False).attrs)
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise StoreError(f"{root / name}: nothing readable there; use another --out") from error


def check_aligned(array: zarr.Array[Any], window: Window) -> None:
    """Refuse a window that is not made of whole shards of `array` (its edge may cut the last ones)."""
    height, width = array.shape[-2:]
    shard = (array.shards or array.chunks)[-2:]
    begins = window.y0 % shard[0] == 0 and window.x0 % shard[1] == 0
    ends = (window.y1 % shard[0] == 0 or window.y1 == height) and (
        window.x1 % shard[1] == 0 or window.x1 == width
    )
    inside = 0 <= window.y0 <= window.y1 <= height and 0 <= window.x0 <= window.x1 <= width
    if not (begins and ends and inside):
        raise StoreError(
            f"{array.store_path}: a write of {window} is not made of whole shards of {shard} px "
            f"in {height} x {width} px: other tasks' pixels would be lost"
        )


def write(array: zarr.Array[Any], window: Window, data: np.ndarray) -> None:
    """Write `data` (…, height, width) into `window`, all leading axes at once.

    The window must be made of whole shards, cut only at the array's edge, and the data must fit it:
    anything else is a StoreError, as is a full or read-only disk. An old shard is replaced in one
    step, so a rerun of a task that was killed gives the same bytes as an undisturbed one.
    """
    expected = (*array.shape[:-2], window.height, window.width)
    if data.shape != expected or data.dtype != array.dtype:
        raise StoreError(
            f"{array.store_path}: {data.dtype} data of shape {data.shape} do not fit {array.dtype} {expected}"
        )
    check_aligned(array, window)
    if window.area == 0:
        return
    with reported(str(array.store_path)):
        array[(..., *window.slices())] = np.ascontiguousarray(data)


def read(array: zarr.Array[Any], window: Window, fill: float = 0) -> np.ndarray:
    """Read `window`, (…, height, width) in the array's dtype; `fill` where it lies outside the array."""
    inside = window.clip((array.shape[-2], array.shape[-1]))
    if inside == window and window.area:
        with reported(str(array.store_path)):
            return np.asarray(array[(..., *window.slices())])
    data = np.full((*array.shape[:-2], window.height, window.width), fill, dtype=array.dtype)
    if inside.area:
        with reported(str(array.store_path)):
            data[(..., *inside.slices(window))] = array[(..., *inside.slices())]
    return data


def sweep(root: Path) -> int:
    """Remove what killed writers left half-written under `root`; only while nobody else writes there.

    Returns how many files went. What is left is complete, but not said to be current: receipts say that.
    """
    count = 0
    for leftover in root.rglob(LEFTOVER):
        with contextlib.suppress(FileNotFoundError), reported(leftover):
            os.unlink(leftover)
            count += 1
    return count
