"""Where polygons are on their way: as they came, moved by the common shift, then as each step left them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StoreError
from pipeline.footprints import block_keys, index_cadaster, read_block
from pipeline.grid import Window
from pipeline.job import CADASTER, Job
from pipeline.ledger import digest_of
from pipeline.stages import gate as gate_stage
from pipeline.stages.gate import Gate, Verdicts
from pipeline.stages.search import plan_searches
from pipeline.worker import align as worker_align
from pipeline.worker import placed
from tests.cadasters import cadaster_of, raster, rows_of
from tests.test_tasks import job

SHAPES = [
    shapely.box(10, 10, 20, 20),
    shapely.box(60, 10, 90, 40).difference(shapely.box(70, 20, 80, 30)),
    shapely.LineString([(30, 60), (50, 60), (50, 80)]),
    shapely.LineString([(30, 85), (40, 85), (40, 95), (30, 85)]),
    shapely.Point(5, 90),
    shapely.MultiPolygon([shapely.box(60, 60, 70, 70), shapely.box(80, 80, 95, 95)]),
]


@pytest.fixture
def work(tmp_path: Path) -> Job:
    """A job whose cadaster is indexed, with a common shift and nothing moved yet."""
    searches = tuple((each.factor, each.reach, each.sigma, each.turn) for each in plan_searches(0.3))
    found = job(tmp_path, stages=("align",), shape=(100, 100), gsd=0.3, searches=searches, steps=())
    folder = found.work / CADASTER
    folder.mkdir(parents=True)
    index_cadaster(cadaster_of(rows_of(list(SHAPES))), raster(100, 100), folder)
    placed.save_table(placed.common_path(found), np.array([40.0, -30.0]))
    return found


def test_before_the_first_step_polygons_lie_where_the_common_shift_puts_them(work: Job) -> None:
    (key,) = block_keys(work.work / CADASTER)
    came = read_block(work.work / CADASTER, key).xy
    assert placed.read_common(work).tolist() == [40, -30]
    assert (placed.vertices(work, work.align_line[0], key) == came + (40, -30)).all()


def test_each_step_begins_where_the_one_before_ended(work: Job) -> None:
    (key,) = block_keys(work.work / CADASTER)
    count, rng = len(read_block(work.work / CADASTER, key).xy), np.random.default_rng(0)
    for step, after in zip(work.align_line[:-1], work.align_line[1:], strict=True):
        table = rng.random((count, 3))
        digest = placed.save_table(placed.moved_path(work, step, key), table)
        assert digest == digest_of(table.tobytes()) and digest != digest_of(table[::-1].copy().tobytes())
        assert (placed.read_moved(work, step, key) == table).all()
        assert (placed.vertices(work, after, key) == table[:, :2]).all()
    folders = {placed.moved_path(work, step, key).parent for step in work.align_line}
    assert len(folders) == len(work.align_line) == len(work.searches) + 1
    assert placed.verdicts_path(work, key) != placed.moved_path(work, work.align_line[-1], key)


def test_a_table_that_is_not_there_or_broken_is_named_in_one_line(work: Job) -> None:
    step = work.align_line[0]
    path = placed.moved_path(work, step, "r0000c0000")
    with pytest.raises(StoreError, match=r"r0000c0000\.npy: cannot be read.*run again$"):
        placed.vertices(work, work.align_line[1], "r0000c0000")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no table")
    with pytest.raises(StoreError, match="run again") as caught:
        placed.read_moved(work, step, "r0000c0000")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("far", "share"), [(0.0, 0.0), (30.0, 1.0)])
def test_the_gate_moves_a_block_by_its_neighbours_and_is_as_sure_as_row_and_neighbours(
    work: Job, far: float, share: float
) -> None:
    (key,), gate = block_keys(work.work / CADASTER), work.align_line[-1]
    assert isinstance(gate, Gate)
    block = read_block(work.work / CADASTER, key)
    before = np.column_stack([block.xy + (4, -3), np.zeros(len(block.xy))])
    placed.save_table(placed.moved_path(work, work.align_line[-2], key), before)
    rows = len(block.rows)
    weight, confidence = np.where(np.arange(rows) == 4, 0.0, 40.0), np.linspace(0.1, 0.9, rows)  # 4 is the point
    verdicts = Verdicts(block.row_means(block.xy), weight, confidence, np.full(rows, far**2))
    placed.save_table(placed.verdicts_path(work, key), verdicts.table())
    (said,) = worker_align.move(work, f"{gate.name}-move", key, {"blocks": [key]})
    table = placed.read_moved(work, gate, key)
    np.testing.assert_allclose(table[:, :2], block.xy + np.multiply(share, (4, -3)), rtol=0, atol=1e-9)
    assert said["status"] == "ok" and said["extra"]["box"] == placed.box_of(table[:, :2])
    _, near = gate_stage.move(block.xy, before[:, :2], verdicts, gate)
    own, judged = np.repeat(confidence, np.diff(block.row_vertices)), np.repeat(weight, np.diff(block.row_vertices)) > 0
    share = np.where(own > near, 0.25, 0.5)  # surer than its neighbours: believed less
    np.testing.assert_allclose(table[:, 2], np.where(judged, near + (own - near) * share, near))
    assert confidence.min() < near.min() < near.max() < confidence.max()


def test_a_block_whose_own_check_failed_does_not_move(work: Job) -> None:
    (key,), gate = block_keys(work.work / CADASTER), work.align_line[-1]
    xy = read_block(work.work / CADASTER, key).xy
    placed.save_table(placed.moved_path(work, work.align_line[-2], key), np.column_stack([xy, xy[:, 0]]))
    placed.save_table(placed.verdicts_path(work, key), np.ones((6, 5)))  # of an earlier run
    with pytest.raises(StoreError, match="check failed"):
        worker_align.move(work, f"{gate.name}-move", key, {"blocks": []})
    assert not placed.moved_path(work, gate, key).exists()


def test_boxes_are_those_of_the_points() -> None:
    xy = np.array([[3.0, 9.0], [-1.5, 4.0], [2.0, 11.0]])
    assert placed.box_of(xy) == (-1.5, 4.0, 3.0, 11.0)


@given(st.integers(-20, 110), st.integers(-20, 110), st.integers(1, 60), st.integers(1, 60), st.integers(-15, 15))
def test_outlines_within_a_region_are_whole_and_those_whose_box_meets_it(
    tmp_path_factory: pytest.TempPathFactory, y0: int, x0: int, height: int, width: int, off: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "outlines"
    if not folder.exists():
        folder.mkdir()
        index_cadaster(cadaster_of(rows_of(list(SHAPES))), raster(100, 100), folder)
    block = read_block(folder, "r0000c0000")
    coords, offsets = placed.outlines_within(block, block.xy + off, Window(y0, x0, height, width))
    found = {tuple(map(tuple, coords[a:b])) for a, b in zip(offsets[:-1], offsets[1:], strict=True)}
    assert len(found) == len(offsets) - 1
    rings = [SHAPES[0].exterior, SHAPES[1].exterior, SHAPES[1].interiors[0], SHAPES[3]]
    rings += [part.exterior for part in SHAPES[5].geoms]  # the open line and the point are no outlines
    region = shapely.box(x0, y0, x0 + width, y0 + height)
    moved = [shapely.transform(ring, lambda xy: xy + off) for ring in rings]
    wanted = [ring for ring in moved if shapely.box(*ring.bounds).intersects(region)]
    assert found == {tuple(map(tuple, shapely.get_coordinates(ring))) for ring in wanted}
