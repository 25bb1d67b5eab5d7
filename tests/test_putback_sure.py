"""Rows that are not sure stay to the byte, with those they share points with; large fabrics decide row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import putback_shared
from pipeline.footprints import index_cadaster
from pipeline.putback import STATUSES, PutBack, put_back
from pipeline.settings import Move
from tests.cadasters import cadaster_of, check, moved_by, noise, raster, rows_of

ALONE = [shapely.box(x, 10, x + 8, 20) for x in range(10, 90, 20)]
PAIRS = [shapely.box(x + k * 8, 40, x + k * 8 + 8, 50) for x in (10, 40, 70) for k in (0, 1)]
TERRACE = [shapely.box(x, 70, x + 8, 80) for x in range(10, 58, 8)]
SHAPES = [*ALONE, *PAIRS, *TERRACE]
GROUP = np.array([*range(len(ALONE)), *(len(ALONE) + i // 2 for i in range(len(PAIRS))), *[99] * len(TERRACE)])
LEAST = 0.5


def put(
    folder: Path, shapes: list[shapely.Geometry | None], sure: np.ndarray | None, how: Move = "vertex",
    amplitude: float | None = None, nodata: np.ndarray | None = None,
) -> tuple[np.ndarray, PutBack]:  # fmt: skip
    """Everything moved by (3, 2) px, or by noise: which rows differ from what they were, and the result."""
    cadaster, working = cadaster_of(rows_of(shapes)), raster(100, 100)
    index_cadaster(cadaster, working, folder)
    field = noise(amplitude) if amplitude is not None else lambda xy: np.full(xy.shape, (3.0, 2.0))
    result = put_back(cadaster, working, folder, moved_by(folder, field), nodata, how, sure, LEAST)
    check(cadaster, result, apart=how == "building")
    changed = np.array([a != b for a, b in zip(cadaster.wkb.to_pylist(), result.wkb.to_pylist(), strict=True)])
    assert (changed == (np.array(STATUSES)[result.status] == "moved")).all()
    return changed, result


@given(seed=st.integers(0, 10_000), how=st.sampled_from(["vertex", "block"]), spread=st.floats(0.01, 1))
@settings(max_examples=25, deadline=None)
def test_rows_that_share_points_decide_together_by_their_mean(
    tmp_path_factory: pytest.TempPathFactory, seed: int, how: Move, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(SHAPES))
    sure = LEAST + rng.uniform(-0.5, 0.5, len(SHAPES)) * spread
    changed, result = put(tmp_path_factory.mktemp("city"), [SHAPES[i] for i in order], sure, how)
    group = GROUP[order]
    stays = np.array([sure[group == g].mean() < LEAST for g in group])
    assert (result.abstained == stays).all()
    assert (changed == ~stays).all()
    assert not result.dx_m[stays].any() and not result.dy_m[stays].any()
    assert result.dx_m[~stays] == pytest.approx(3) and result.dy_m[~stays] == pytest.approx(-2)
    assert set(np.array(STATUSES)[result.status[stays]]) <= {"unmoved"}


def test_buildings_that_move_each_for_itself_abstain_each_for_itself(tmp_path: Path) -> None:
    sure = np.where(np.arange(len(SHAPES)) % 2, 0.9, 0.1)
    changed, result = put(tmp_path, list(SHAPES), sure, "building")
    assert (result.abstained == (sure < LEAST)).all() and (changed == (sure >= LEAST)).all()


def test_in_a_fabric_larger_than_a_group_each_row_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sure = np.full(len(SHAPES), 0.9)
    first = len(ALONE) + len(PAIRS)
    sure[first : first + 2] = 0.1
    changed, result = put(tmp_path / "small", list(SHAPES), sure)
    assert changed.all() and not result.abstained.any()  # six houses in a row: sure enough on the mean
    monkeypatch.setattr(putback_shared, "TOGETHER", 5)
    changed, result = put(tmp_path / "large", list(SHAPES), sure)
    assert np.flatnonzero(result.abstained).tolist() == [first, first + 1]
    assert np.flatnonzero(~changed).tolist() == [first, first + 1]
    # the wall to the one that stays, stays; the far wall goes
    beside = shapely.from_wkb(result.wkb[first + 2].as_py())
    x0, _, x1, _ = beside.bounds
    assert (x0 - 500_000, x1 - 500_000) == (26, 37)


@given(
    seed=st.integers(0, 10_000),
    how=st.sampled_from(["vertex", "building", "block"]),
    amplitude=st.sampled_from([1.0, 5.0]),
    together=st.sampled_from([1, 10, 1000]),
)
@settings(max_examples=25, deadline=None)
def test_what_abstains_stays_whatever_else_moves(
    tmp_path_factory: pytest.TempPathFactory, seed: int, how: Move, amplitude: float, together: int
) -> None:
    """All that `check` promises of a parcel fabric with rows that must stay, torn by noise, half of it unsure."""
    rng = np.random.default_rng(seed)
    shapes = [shapely.box(x, y, x + 10, y + 10) for y in range(10, 60, 10) for x in range(10, 60, 10)]
    shapes += [None, shapely.Point(20, 20), shapely.LineString([(20, 20), (70, 70)])]
    sure = rng.random(len(shapes))
    sure[rng.random(len(shapes)) < 0.1] = np.nan
    nodata = rng.random(len(shapes)) < 0.1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(putback_shared, "TOGETHER", together)
        changed, result = put(tmp_path_factory.mktemp("fabric"), shapes, sure, how, amplitude, nodata)
    assert not (changed & result.abstained).any()
    assert not (result.abstained & (nodata | np.isnan(sure))).any()
    if together == 1 and how != "building":
        judged = ~nodata & ~np.isnan(sure) & np.array([shape is not None for shape in shapes])
        assert (result.abstained == (judged & (sure < LEAST))).all()


@pytest.mark.parametrize("sure", [None, np.full(len(SHAPES), np.nan), np.full(len(SHAPES), LEAST)])
def test_nobody_abstains_who_was_not_judged_or_is_just_sure(tmp_path: Path, sure: np.ndarray | None) -> None:
    changed, result = put(tmp_path, list(SHAPES), sure)
    assert changed.all() and not result.abstained.any()


def test_no_rows_abstain(tmp_path: Path) -> None:
    changed, result = put(tmp_path, [], np.empty(0))
    assert len(changed) == len(result.abstained) == 0
