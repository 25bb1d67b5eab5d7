"""A scene's statistics are numpy's over all of its valid pixels, whatever the type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.grid import Window
from pipeline.scene import read_image
from pipeline.statistics import statistics
from tests.images import ingest


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64", "int32"])
def test_statistics_equal_numpy(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(90, 30, (2, 150, 170)).clip(1, 250)
    if dtype != "uint8":
        data = data * 37 - (4000 if dtype != "uint16" else 0)
    data = data.astype(dtype)
    nodata = 0
    data[:, :30] = nodata
    made, _ = ingest(tmp_path, data, nodata=nodata)
    found = made.statistics
    assert found is not None
    valid = (data != nodata).any(axis=0)
    pixels = data[:, valid].astype(np.float32 if dtype.startswith("f") else np.float64)
    assert found.level == 1
    assert found.count == valid.sum()
    assert found.p1 == pytest.approx(np.percentile(pixels, 1, axis=1), rel=1e-6)
    assert found.p99 == pytest.approx(np.percentile(pixels, 99, axis=1), rel=1e-6)
    assert found.minimum == pytest.approx(pixels.min(axis=1))
    assert found.maximum == pytest.approx(pixels.max(axis=1))
    assert found.mean == pytest.approx(pixels.mean(axis=1), rel=1e-5)
    assert found.std == pytest.approx(pixels.std(axis=1), rel=1e-4)
    assert statistics(made.root) == found


def test_statistics_of_a_large_scene_come_from_a_coarse_level(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(1, 255, (1, 2100, 2300), dtype=np.uint8)
    made, _ = ingest(tmp_path, data)
    assert made.statistics is not None
    assert made.statistics.level == 2
    coarse = read_image(made, 2, Window(0, 0, 1050, 1150))
    assert made.statistics.p99 == pytest.approx([np.percentile(coarse, 99)])


def test_outliers_do_not_blur_the_percentiles(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(1, 0.01, (1, 100, 100)).astype(np.float32)
    data[0, 0, :3] = 1e30, -1e30, 0
    made, _ = ingest(tmp_path, data)
    assert made.statistics is not None
    assert made.statistics.p1[0] == pytest.approx(np.percentile(data, 1), rel=1e-6)
    assert made.statistics.p99[0] == pytest.approx(np.percentile(data, 99), rel=1e-6)
