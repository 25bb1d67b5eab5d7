"""Whole shards in, any window out; what a dead or failing writer leaves behind does no harm."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import store
from pipeline.errors import StoreError
from pipeline.grid import TileGrid, Window

SHAPE, SHARD, CHUNK = (70, 90), 32, 16


def make(root: Path, name: str = "a/scores") -> None:
    store.create_array(root, name, (2, *SHAPE), "uint8", (2, CHUNK, CHUNK), (2, SHARD, SHARD))


def contents(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    root = tmp_path_factory.mktemp("filled")
    make(root)
    data = np.random.default_rng(0).integers(0, 255, (2, *SHAPE), dtype=np.uint8)
    array = store.open_array(root, "a/scores")
    for tile in TileGrid(SHAPE, SHARD, 0):
        store.write(array, tile.core, data[(slice(None), *tile.core.slices())])
    return root, data


@given(st.integers(-40, 100), st.integers(-40, 120), st.integers(0, 120), st.integers(0, 120))
@settings(max_examples=60, deadline=None)
def test_read_any_window(filled: tuple[Path, np.ndarray], y0: int, x0: int, height: int, width: int) -> None:
    root, data = filled
    window = Window(y0, x0, height, width)
    padded = np.full((2, 70 + 300, 90 + 300), 7, dtype=np.uint8)
    padded[:, 150:220, 150:240] = data
    expected = padded[:, y0 + 150 : y0 + 150 + height, x0 + 150 : x0 + 150 + width]
    got = store.read(store.open_array(root, "a/scores"), window, fill=7)
    assert got.shape == expected.shape
    assert (got == expected).all()


@pytest.mark.parametrize(
    "window",
    [
        Window(0, 0, 16, 32),  # half a shard
        Window(16, 0, 32, 32),  # begins inside one
        Window(0, 64, 32, 20),  # ends before the array does
        Window(0, 64, 32, 32),  # reaches over the edge
        Window(-32, 0, 32, 32),
    ],
)
def test_write_refuses_parts_of_shards(tmp_path: Path, window: Window) -> None:
    make(tmp_path)
    data = np.ones((2, window.height, window.width), dtype=np.uint8)
    with pytest.raises(StoreError, match="whole shards"):
        store.write(store.open_array(tmp_path, "a/scores"), window, data)


def test_write_refuses_other_data(tmp_path: Path) -> None:
    make(tmp_path)
    array = store.open_array(tmp_path, "a/scores")
    with pytest.raises(StoreError, match="do not fit"):
        store.write(array, Window(0, 0, 32, 32), np.ones((2, 32, 31), dtype=np.uint8))
    with pytest.raises(StoreError, match="do not fit"):
        store.write(array, Window(0, 0, 32, 32), np.ones((2, 32, 32), dtype=np.float32))


def test_create_again(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    make(tmp_path)
    assert contents(tmp_path) == before
    with pytest.raises(StoreError, match="another layout"):
        store.create_array(tmp_path, "a/scores", (2, *SHAPE), "uint8", (2, 32, 32))
    with pytest.raises(StoreError, match="another layout"):
        store.create_array(tmp_path, "a/scores", (2, *SHAPE), "uint8", (2, CHUNK, CHUNK), (2, SHARD, SHARD), fill=1)
    with pytest.raises(StoreError, match="whole chunks"):
        store.create_array(tmp_path, "b", (64, 64), "uint8", (24, 24), (32, 32))


def test_missing_array(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such array"):
        store.open_array(tmp_path, "nothing")
    (tmp_path / "zarr.json").write_text("{")
    with pytest.raises(StoreError):
        store.attributes(tmp_path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_bytes_do_not_depend_on_order_or_repetition(tmp_path: Path, dtype: str) -> None:
    data = np.random.default_rng(1).normal(100, 20, SHAPE).astype(dtype)
    tiles = list(TileGrid(SHAPE, SHARD, 0))
    for name, order in (("one", tiles), ("two", [*tiles[::-1], *tiles[:3]])):
        store.create_array(tmp_path / name, "x", SHAPE, dtype, (CHUNK, CHUNK), (SHARD, SHARD))
        array = store.open_array(tmp_path / name, "x")
        for tile in order:
            store.write(array, tile.core, data[tile.core.slices()])
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_rewriting_with_fill_leaves_nothing_stale(tmp_path: Path) -> None:
    make(tmp_path)
    array, window = store.open_array(tmp_path, "a/scores"), Window(0, 0, 32, 32)
    store.write(array, window, np.full((2, 32, 32), 9, dtype=np.uint8))
    store.write(array, window, np.zeros((2, 32, 32), dtype=np.uint8))
    assert not store.read(array, window).any()


WRITER = """
import sys, pathlib, numpy as np
from pipeline import store
from pipeline.grid import Window
array = store.open_array(pathlib.Path(sys.argv[1]), "x")
data = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
print("go", flush=True)
while True:
    for y in range(0, 1024, 256):
        store.write(array, Window(y, 0, 256, 256), data)
"""


def test_killed_writer(tmp_path: Path) -> None:
    """kill -9 in the middle of writing: what is there is whole, and a rerun gives the same bytes."""
    store.create_array(tmp_path / "s", "x", (1024, 256), "uint8", (64, 64), (256, 256))
    data = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
    for pause in (0.0, 0.01, 0.03):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "s")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(pause)
            writer.send_signal(signal.SIGKILL)
    array = store.open_array(tmp_path / "s", "x")
    for y in range(0, 1024, 256):
        found = store.read(array, Window(y, 0, 256, 256))
        assert (found == data).all() or not found.any()
        store.write(array, Window(y, 0, 256, 256), data)
    store.sweep(tmp_path / "s")
    store.create_array(tmp_path / "t", "x", (1024, 256), "uint8", (64, 64), (256, 256))
    for y in range(0, 1024, 256):
        store.write(store.open_array(tmp_path / "t", "x"), Window(y, 0, 256, 256), data)
    assert contents(tmp_path / "s") == contents(tmp_path / "t")


@pytest.mark.parametrize(
    ("code", "said"), [(errno.ENOSPC, "full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")]
)
def test_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> None:
    make(tmp_path)
    array = store.open_array(tmp_path, "a/scores")

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("zarr.storage._local._put", fail)
    with pytest.raises(StoreError, match=said) as caught:
        store.write(array, Window(0, 0, 32, 32), np.ones((2, 32, 32), dtype=np.uint8))
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match=said):
        store.create_array(tmp_path, "other", (8, 8), "uint8", (8, 8))


def test_sweep_removes_only_leftovers(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "a" / "0.0123.partial").write_bytes(b"half")
    assert store.sweep(tmp_path) == 1
    assert contents(tmp_path) == before
