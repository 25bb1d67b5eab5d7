"""Back into the cadaster (DESIGN 2.5): every row once, shared points shared, valid stays valid, the rest bit-equal."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import footprints, putback_shared
from pipeline.footprints import index_cadaster
from pipeline.polygons import Cadaster
from pipeline.putback import STATUSES, put_back
from pipeline.settings import Move
from pipeline.working import WorkingRaster
from tests.cadasters import CORNER, cadaster_of, check, moved_by, noise, raster, rows_of, smooth, vertices, world


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cadaster, WorkingRaster, Path]:
    """20 000 rows with party walls, holes, multipolygons, Z, bow ties, empties and nulls."""
    from training.city import cadaster_rows

    rows, _ = cadaster_rows(20_000, seed=5)
    folder = tmp_path_factory.mktemp("city")
    cadaster, working = cadaster_of(rows), raster(3300, 3300)
    index_cadaster(cadaster, working, folder)
    return cadaster, working, folder


def test_city_of_20_000(city: tuple[Cadaster, WorkingRaster, Path]) -> None:
    cadaster, working, folder = city
    field = smooth(32, 400)
    result = put_back(cadaster, working, folder, moved_by(folder, field))
    check(cadaster, result)
    status = np.array(STATUSES)[result.status]
    usable = np.asarray(footprints.load(folder, "status")) == footprints.USABLE
    assert ((status == "moved") | (status == "unmoved"))[usable].all()
    assert (status == "moved").sum() > 0.95 * usable.sum()
    old, row = vertices(cadaster, cadaster.wkb)
    assert len(np.unique(old, axis=0)) < 0.9 * len(old)  # walls are shared in this city
    # a smooth field moves what is alone as it says
    new, _ = vertices(cadaster, result.wkb)
    asked = field((old - CORNER) * (1, -1)) * (1, -1)
    exact = (np.abs(new - old - asked) < 1e-6).all(axis=1)
    assert exact[(status == "moved")[row]].mean() > 0.9


def test_city_torn_by_noise(city: tuple[Cadaster, WorkingRaster, Path]) -> None:
    cadaster, working, folder = city
    nodata = np.random.default_rng(1).random(len(cadaster)) < 0.05
    result = put_back(cadaster, working, folder, moved_by(folder, noise(3)), nodata)
    check(cadaster, result)
    usable = np.asarray(footprints.load(folder, "status")) == footprints.USABLE
    assert (np.array(STATUSES)[result.status[nodata & usable]] == "nodata").all()


def test_a_fabric_larger_than_a_group(
    city: tuple[Cadaster, WorkingRaster, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(putback_shared, "TOGETHER", 3)
    cadaster, working, folder = city
    check(cadaster, put_back(cadaster, working, folder, moved_by(folder, noise(2))))


def test_failed_block(city: tuple[Cadaster, WorkingRaster, Path]) -> None:
    cadaster, working, folder = city
    keys = footprints.block_keys(folder)
    assert len(keys) > 1
    shift = moved_by(folder, lambda xy: np.full(xy.shape, 5.0))
    result = put_back(cadaster, working, folder, lambda key: None if key == keys[0] else shift(key))
    check(cadaster, result)
    rows = dict(footprints.block_rows(folder))
    assert (np.array(STATUSES)[result.status[rows[keys[0]]]] == "failed").all()
    broken = put_back(cadaster, working, folder, lambda key: shift(key) * (np.nan if key == keys[0] else 1))
    assert (broken.status == result.status).all()


def test_shift_is_east_and_north(tmp_path: Path) -> None:
    working = raster(100, 100, gsd=1.0)
    cadaster = cadaster_of(
        rows_of([shapely.box(10, 10, 20, 20), None, shapely.Point(50, 50), shapely.box(500, 0, 501, 1)])
    )
    index_cadaster(cadaster, working, tmp_path)
    result = put_back(cadaster, working, tmp_path, moved_by(tmp_path, lambda xy: np.full(xy.shape, (3.0, 2.0))))
    assert [STATUSES[s] for s in result.status] == ["moved", "invalid", "moved", "outside"]
    assert result.dx_m.tolist() == [3, 0, 3, 0]
    assert result.dy_m.tolist() == [-2, 0, -2, 0]
    moved = shapely.from_wkb(result.wkb[0].as_py())
    assert moved.bounds == (500013, 2999978, 500023, 2999988)


def test_nothing_moves(city: tuple[Cadaster, WorkingRaster, Path]) -> None:
    cadaster, working, folder = city
    result = put_back(cadaster, working, folder, moved_by(folder, np.zeros_like))
    assert result.wkb.equals(cadaster.wkb)
    assert "moved" not in np.array(STATUSES)[result.status]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32644"])
def test_in_another_crs(tmp_path: Path, crs: str) -> None:
    """The move is added in the input's CRS: what stays keeps its bits, what moves arrives within a micron."""
    project = pyproj.Transformer.from_crs("EPSG:32645", crs, always_xy=True)

    def place(px: np.ndarray) -> np.ndarray:
        return np.column_stack(project.transform(*world(px).T))

    cells = [shapely.box(x, y, x + 10, y + 10) for x in range(20, 80, 10) for y in range(20, 80, 10)]
    cadaster = cadaster_of([shapely.to_wkb(shapely.transform(cell, place)) for cell in cells], crs)
    working = raster(100, 100)
    index_cadaster(cadaster, working, tmp_path)

    def field(xy: np.ndarray) -> np.ndarray:
        return np.where(xy[:, :1] > 49, (4.0, 1.5), (0.0, 0.0))

    result = put_back(cadaster, working, tmp_path, moved_by(tmp_path, field))
    check(cadaster, result)
    old, _ = vertices(cadaster, cadaster.wkb)
    new, _ = vertices(cadaster, result.wkb)
    px = np.concatenate([shapely.get_coordinates(cell) for cell in cells])
    stays = px[:, 0] < 49
    assert (new[stays] == old[stays]).all()
    back = pyproj.Transformer.from_crs(crs, "EPSG:32645", always_xy=True)
    there = np.column_stack(back.transform(*new[~stays].T))
    assert there == pytest.approx(world(px[~stays] + (4.0, 1.5)), abs=1e-5)


GRID = [shapely.box(x, y, x + 10, y + 10) for y in range(10, 90, 10) for x in range(10, 90, 10)]


@given(
    seed=st.integers(0, 10_000),
    how=st.sampled_from(["vertex", "building", "block"]),
    amplitude=st.sampled_from([0.0, 1.0, 4.0, 12.0, 200.0]),
    pinned=st.floats(0, 0.5),
    block=st.sampled_from([16, 64, 2048]),
    together=st.sampled_from([1, 10, 1000]),
)
@settings(max_examples=40, deadline=None)
def test_fabric_of_parcels(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    how: Move,
    amplitude: float,
    pinned: float,
    block: int,
    together: int,
) -> None:
    """Every wall shared, blocks that move the same vertex differently, rows that stay, moves that break."""
    rng = np.random.default_rng(seed)
    odd = [shapely.from_wkt("POLYGON EMPTY"), None, shapely.Polygon([(20, 20), (30, 30), (30, 20), (20, 30)])]
    shapes = [*GRID, *odd, shapely.LineString([(20, 20), (30, 20), (40, 40)]), shapely.MultiPoint([(30, 30), (5, 5)])]
    order = rng.permutation(len(shapes))
    cadaster = cadaster_of(rows_of([shapes[i] for i in order]))
    folder = tmp_path_factory.mktemp("fabric")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(footprints, "BLOCK", block)
        patch.setattr(putback_shared, "TOGETHER", together)
        working = raster(85, 85)
        index_cadaster(cadaster, working, folder)
        nodata = rng.random(len(shapes)) < pinned
        result = put_back(cadaster, working, folder, moved_by(folder, noise(amplitude, seed)), nodata, how)
    check(cadaster, result, apart=how == "building")
    assert STATUSES[result.status[order.tolist().index(len(GRID))]] == "invalid"


def test_no_rows(tmp_path: Path) -> None:
    cadaster, working = cadaster_of([]), raster(10, 10)
    index_cadaster(cadaster, working, tmp_path)
    for how in get_args(Move):
        assert len(put_back(cadaster, working, tmp_path, lambda key: None, how=how).wkb) == 0


def test_rows_of_a_slice(tmp_path: Path) -> None:
    """Arrow arrays may begin inside their buffers."""
    rows = rows_of([None, shapely.box(1, 1, 5, 5), None, shapely.box(20, 20, 30, 30), shapely.box(40, 40, 50, 50)])
    whole = cadaster_of(rows)
    sliced = Cadaster("m", whole.table.slice(1), whole.wkb.slice(1), whole.crs, "geometry", 1, "x")
    index_cadaster(sliced, raster(100, 100), tmp_path)
    result = put_back(sliced, raster(100, 100), tmp_path, moved_by(tmp_path, lambda xy: np.full(xy.shape, 2.0)))
    assert [STATUSES[s] for s in result.status] == ["moved", "invalid", "moved", "moved"]
    assert result.wkb.null_count == 1
    assert shapely.from_wkb(result.wkb[3].as_py()).bounds == (500042, 2999948, 500052, 2999958)
