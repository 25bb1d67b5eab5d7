"""Seats: every building onto its own roof, with what touches it, and none on top of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline import putback_seat
from pipeline.footprints import index_cadaster
from pipeline.kernels.wkb import LINE, POINT, SHELL
from pipeline.putback import STATUSES, PutBack, put_back
from pipeline.putback_seat import Rings, Seat, apart, near_boxes, touching
from pipeline.putback_shared import share
from pipeline.ragged import Ints
from pipeline.settings import Move
from pipeline.stages import seat
from pipeline.stages.gate import ABSTAIN
from pipeline.stages.seat import KNOWN, REACH, Seating, confidence_of, extra, find, kept
from tests.cadasters import cadaster_of, check, moved_by, raster, rows_of

SIDE = 2 * REACH + 1


def peaked(dx: float, dy: float, length: float = 100.0) -> np.ndarray:
    """Ratings (1, s, s) of an outline that fits best at a shift, and elsewhere by half."""
    axis = np.arange(-REACH, REACH + 1.0)
    far = (axis[:, None] - dy) ** 2 + (axis - dx) ** 2
    return (length * (0.5 + np.exp(-far / 2)))[None].astype(np.float32)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, -1), (-3, 3), (1.5, 0)])
def test_the_shift_is_the_best_rated_a_little_shortened(dx: float, dy: float) -> None:
    found = find(peaked(dx, dy))[0][0]
    assert found == pytest.approx((dx, dy), abs=0.35)
    assert np.hypot(*found) <= np.hypot(dx, dy) + 1e-6


def test_without_evidence_or_without_a_peak_nothing_shifts() -> None:
    shift, clear = find(np.zeros((3, SIDE, SIDE), np.float32))
    assert not shift.any() and not clear.any()
    assert find(np.ones((1, SIDE, SIDE), np.float32))[0] == pytest.approx(0.0, abs=1e-6)
    assert find(np.zeros((0, SIDE, SIDE), np.float32))[0].shape == (0, 2)


def test_of_two_like_places_the_nearer_is_taken() -> None:
    assert find(peaked(1, 0) + peaked(-4, 0))[0][0] == pytest.approx((1, 0), abs=0.3)


def test_confidence_is_the_seats_where_the_neighbourhood_was_seen() -> None:
    """Clear seats near the field are surer; below what abstains the gate alone speaks, as it does without a seat."""
    clear, far = np.array([2.5, 1.2, 2.5]), np.array([0.2, 0.2, 4.0])
    sure, unclear, away = confidence_of(clear, far, np.full(3, KNOWN))
    assert sure > away > unclear > 0
    assert confidence_of(clear, far, np.full(3, 0.9)) == pytest.approx((sure, unclear, away))
    gate = np.array([0.0, 0.1, ABSTAIN])
    assert confidence_of(clear, far, gate) == pytest.approx(gate)
    assert confidence_of(np.full(3, np.nan), far, np.array([0.3, 0.6, 0.9])) == pytest.approx([0.3, 0.6, 0.9])
    between = confidence_of(clear[:1], far[:1], np.array([(ABSTAIN + KNOWN) / 2]))[0]
    assert (ABSTAIN + KNOWN) / 2 < between < sure


def test_ratings_are_cut_to_the_reach_and_weigh_by_length() -> None:
    wide = np.zeros((2, 17, 17), np.float32)
    wide[0, 8 + 2, 8 - 3] = 0.5
    cut = kept(wide, np.array([40.0, 0.0]))
    assert cut.shape == (2, SIDE, SIDE) and cut[0, REACH + 2, REACH - 3] == 20 and cut.sum() == 20


def test_what_lies_right_stays_and_what_is_off_goes_all_the_way() -> None:
    seated, gated = np.array([[0.6, 0.7], [0.0, 2.5], [1.5, 0.0]]), np.array([[0.0, 0.0], [0.5, 1.0], [0.0, 0.0]])
    more = extra(seated, gated, np.full(3, 2.5))
    assert not more[0].any()
    assert more[1] == pytest.approx((-0.5, 1.5))
    assert 0 < more[2, 0] < 1.5
    assert not extra(seated, gated, np.full(3, 1.2)).any()
    assert 0 < extra(seated, gated, np.full(3, 1.75))[1, 1] < 1.5


@given(seed=st.integers(0, 10_000), cuts=st.integers(1, 6))
@examples(max_examples=40, deadline=None)
def test_seats_do_not_depend_on_how_rows_are_cut_into_blocks(seed: int, cuts: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 30))
    groups = np.unique(rng.integers(0, 8, rows), return_inverse=True)[1]
    ratings = np.concatenate([peaked(*rng.integers(-3, 4, 2), rng.integers(10, 90)) for _ in range(rows)])
    counts = rng.integers(4, 20, rows)
    moves = np.column_stack([counts, rng.integers(-4, 5, (rows, 4)) * counts[:, None]]).astype(float)
    whole = Seating(groups)
    whole.add(np.arange(rows), ratings, moves)
    parts = Seating(groups)
    for some in np.array_split(rng.permutation(rows), cuts):
        parts.add(some, ratings[some], moves[some])
    assert parts.extra == pytest.approx(whole.extra, abs=1e-5)
    for group in range(groups.max() + 1):
        mine = groups == group
        said = ratings[mine].sum(axis=0, keepdims=True, dtype=np.float64)
        means = moves[mine, 1:].sum(axis=0) / moves[mine, 0].sum()
        shift, clear = find(said)
        one = extra(means[None, :2] + shift, means[None, 2:], clear)
        assert whole.extra[[group]] == pytest.approx(one, abs=1e-5)


def test_a_group_that_has_not_spoken_whole_is_not_seated() -> None:
    seating = Seating(np.array([0, 0, 1]))
    seating.add(np.array([0, 2]), np.concatenate([peaked(3, 0)] * 2), np.array([[4.0, 0, 0, 0, 0]] * 2))
    assert not seating.extra[0].any() and seating.extra[1, 0] > 2
    assert np.isnan(seating.clear[0]) and seating.clear[1] > 2 and seating.far[1] == pytest.approx(3, abs=0.4)


def rings_of(shapes: list[shapely.Geometry]) -> tuple[np.ndarray, tuple[Ints, Ints, np.ndarray]]:
    """Vertices, and ring_offsets, ring_row, ring_kind, of polygons without holes, lines and points."""
    kinds = {"Polygon": SHELL, "LineString": LINE, "Point": POINT}
    coords = [shapely.get_coordinates(shape) for shape in shapes]
    offsets = np.cumsum([0, *map(len, coords)])
    kind = np.array([kinds[shape.geom_type] for shape in shapes], np.uint8)
    return np.concatenate(coords), (offsets, np.arange(len(shapes)), kind)


def grouped(shapes: list[shapely.Geometry], known: list[int] | None = None) -> Ints:
    px, (offsets, row, kind) = rings_of(shapes)
    vertex_row = np.repeat(row, np.diff(offsets))
    here = np.ones(len(shapes), bool) if known is None else np.array(known, bool)
    shared = share(px, vertex_row, np.ones(len(shapes), bool), within=False)
    return touching(Rings.of(offsets, row, kind, here), px, shared)


def test_what_touches_anywhere_hangs_together_and_lines_bind_nothing() -> None:
    shapes = [
        shapely.box(0, 0, 10, 10),
        shapely.box(10, 3, 18, 7),  # against the first one's side, no corner in common
        shapely.box(18.05, 0, 20, 9),
        shapely.box(21, 0, 30, 9),
        shapely.Point(25, 5),  # an address in the last
        shapely.Point(40, 5),
        shapely.LineString([(10, 10), (21, 9), (50, 5)]),  # from corner to corner
    ]
    groups = grouped(shapes)
    assert len(set(groups[:3])) == 1 and groups[3] == groups[4]
    assert len({groups[0], groups[3], groups[5], groups[6]}) == 4
    assert grouped(shapes, [1, 0, 1, 1, 1, 1, 1])[0] != grouped(shapes, [1, 0, 1, 1, 1, 1, 1])[2]
    assert grouped([shapely.Point(1, 1), shapely.Point(1, 1)]).tolist() == [0, 1]


def test_what_lies_inside_is_not_bound_and_a_point_goes_with_the_smallest() -> None:
    park, house = shapely.box(0, 0, 60, 60), shapely.box(20, 20, 30, 30)
    court = shapely.box(5, 5, 15, 15).difference(shapely.box(7, 7, 13, 13)).exterior
    groups = grouped([park, house, shapely.Point(25, 25), shapely.Polygon(court), shapely.box(8, 8, 12, 12)])
    assert groups[1] == groups[2]
    assert len({groups[0], groups[1], groups[3], groups[4]}) == 4


@given(seed=st.integers(0, 10_000), piece=st.integers(1, 12))
@examples(max_examples=60, deadline=None)
def test_near_boxes_are_all_pairs_once(seed: int, piece: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 30, (int(rng.integers(0, 25)), 2)).astype(float)
    boxes = np.concatenate([low, low + rng.integers(0, 12, low.shape)], axis=1)
    reach = float(rng.choice([0.1, 3.0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(putback_seat, "PIECE", piece)
        parts = [np.sort(np.stack(part), axis=0).T.tolist() for part in near_boxes(boxes, reach)]
    found = [tuple(pair) for part in parts for pair in part]
    wanted = [
        (i, j)
        for i in range(len(boxes))
        for j in range(i + 1, len(boxes))
        if (boxes[i, :2] <= boxes[j, 2:] + reach).all() and (boxes[j, :2] <= boxes[i, 2:] + reach).all()
    ]
    assert sorted(found) == wanted


def kept_apart(shapes: list[shapely.Geometry], wanted: np.ndarray) -> np.ndarray:
    px, (offsets, row, kind) = rings_of(shapes)
    return apart(Rings.of(offsets, row, kind, np.ones(len(shapes), bool)), px, np.arange(len(shapes)), wanted)


def test_none_is_seated_on_top_of_another() -> None:
    """Two that would meet both stay with the field; one that follows another that goes away may."""
    boxes = [shapely.box(x, 0, x + 10, 10) for x in (0, 12, 30, 42, 60)]
    wanted = np.array([[1.5, 0], [-1.5, 0], [3.0, 0], [3.0, 0], [0, 4.0]])
    found = kept_apart(boxes, wanted)
    assert not found[:2].any() and np.array_equal(found[2:], wanted[2:])
    # the third stops when the fourth has to, because that meets the fifth
    wanted = np.array([[0, 0], [0, 0], [3.0, 0], [3.0, 0], [-6.0, 0]])
    assert not kept_apart(boxes, wanted)[2:].any()
    inside = [shapely.box(0, 0, 60, 60), shapely.box(20, 20, 30, 30), shapely.box(50, 50, 58, 58)]
    found = kept_apart(inside, np.array([[0, 0], [4.0, 0], [4.0, 0]]))  # in a park, one across its edge
    assert found.tolist() == [[0, 0], [4, 0], [0, 0]]


def put(folder: Path, shapes: list[shapely.Geometry], say: Seat, how: Move = "vertex",
        nodata: np.ndarray | None = None) -> PutBack:  # fmt: skip
    cadaster, working = cadaster_of(rows_of(shapes)), raster(100, 100)
    index_cadaster(cadaster, working, folder)
    sure = np.ones(len(shapes))
    field = moved_by(folder, lambda xy: np.full(xy.shape, (3.0, 2.0)))
    result = put_back(cadaster, working, folder, field, nodata, how, sure, 0.5, say)
    check(cadaster, result, apart=how == "building")
    return result


ROWS = [shapely.box(*box) for box in ((10, 10, 18, 20), (18, 10, 26, 20), (40, 10, 48, 20), (70, 70, 80, 80))]


@pytest.mark.parametrize("how", ["vertex", "building", "block"])
def test_rows_that_touch_go_beyond_the_field_together(tmp_path: Path, how: Move) -> None:
    def say(groups: Ints) -> np.ndarray:
        assert groups[0] == groups[1] and len(set(groups)) == 3
        return np.array([[1.0, -1.0], [1.0, -1.0], [0.0, 2.0], [0.0, 0.0]])

    result = put(tmp_path, ROWS, say, how)
    assert result.dx_m == pytest.approx([4, 4, 3, 3]) and result.dy_m == pytest.approx([-1, -1, -4, -2])
    assert result.seated.tolist() == [True, True, True, False]


def test_rows_that_must_stay_hold_what_touches_them(tmp_path: Path) -> None:
    nodata = np.array([True, False, False, False])
    result = put(tmp_path, ROWS, lambda groups: np.full((4, 2), 1.0), nodata=nodata)
    assert np.array(STATUSES)[result.status[0]] == "nodata"
    assert result.seated.tolist() == [False, False, True, True]
    assert result.dx_m[2:] == pytest.approx([4, 4])


def test_a_line_on_a_corner_goes_with_that_corner_alone(tmp_path: Path) -> None:
    rows = [*ROWS, shapely.LineString([(26, 20), (60, 60), (90, 90)])]
    result = put(tmp_path, rows, lambda groups: np.array([[2.0, 0]] * 2 + [[0, 0]] * 3))
    assert result.dx_m == pytest.approx([5, 5, 3, 3, 3 + 2 / 3])
    assert result.seated.tolist() == [True, True, False, False, False]


def test_a_seat_that_cannot_be_had_is_not_settled(tmp_path: Path) -> None:
    """The third would run into the second, and the fourth is where it should be."""
    result = put(tmp_path, ROWS, lambda groups: np.array([[0, 0], [0, 0], [-15.0, 0], [0, 0]]))
    assert result.settled.tolist() == [True, True, False, True] and not result.seated.any()
    assert result.dx_m == pytest.approx([3, 3, 3, 3])


def test_a_fabric_is_not_seated_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.putback_seat.TOGETHER", 1)
    result = put(tmp_path, ROWS, lambda groups: np.full((4, 2), 1.0))
    assert result.seated.tolist() == [False, False, True, True]


def test_the_reach_is_inside_what_the_gate_looks_at() -> None:
    from pipeline.stages import gate

    assert seat.REACH <= gate.REACH
