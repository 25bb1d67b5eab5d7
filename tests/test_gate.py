"""The gate: small moves are taken back, large ones kept, and confidence says what each piece of evidence does."""

from __future__ import annotations

from inspect import signature

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages import gate
from pipeline.stages.gate import LOUD, QUIET, Gate, Verdicts

GATE = Gate(0.3)


def neighbours(far: float, count: int = 60, seed: int = 0, confidence: float = 0.7) -> Verdicts:
    """Footprints over 600 × 600 px that all went `far` px."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(20, 80, count)
    return Verdicts(rng.random((count, 2)) * 600, weight, np.full(count, confidence), np.full(count, far**2))


def places(seed: int = 1, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Where points were, and where they are."""
    rng = np.random.default_rng(seed)
    start = rng.random((count, 2)) * 600
    return start, start + rng.normal(0, 3, (count, 2))


@given(st.floats(0, QUIET - 1e-6))
@settings(deadline=None)  # the kernel is compiled in one of them
def test_what_is_quiet_stays_to_the_bit(far: float) -> None:
    start, moved = places()
    found, confidence = gate.move(start, moved, neighbours(far), GATE)
    assert (found == start).all()
    np.testing.assert_allclose(confidence, 0.7)


@given(st.floats(LOUD + 1e-6, 200))
@settings(deadline=None)
def test_what_is_loud_moves_all_the_way(far: float) -> None:
    start, moved = places()
    found, _ = gate.move(start, moved, neighbours(far), GATE)
    np.testing.assert_allclose(found, moved, rtol=0, atol=1e-9)


def test_the_share_grows_smoothly_from_none_to_all() -> None:
    start, moved = np.array([[300.0, 300.0]]), np.array([[310.0, 300.0]])
    far = np.linspace(QUIET - 0.1, LOUD + 0.1, 601)
    share = np.array([gate.move(start, moved, neighbours(f), GATE)[0][0, 0] - 300 for f in far]) / 10
    slope = np.diff(share) / np.diff(far)
    assert share[0] == 0 and share[-1] == pytest.approx(1)
    assert (slope >= -1e-9).all() and slope.max() == pytest.approx(1.5 / (LOUD - QUIET), rel=0.01)
    assert np.abs(np.diff(slope)).max() < 0.05  # no kink, at the ends neither
    assert share[300] == pytest.approx(0.5, abs=0.01)


def test_neighbours_count_by_nearness_and_length_and_no_further_than_the_cut() -> None:
    centre = np.array([[300.0, 300.0], [300.0 + GATE.sigma, 300.0]])
    near = Verdicts(centre, np.array([30.0, 50.0]), np.array([0.9, 0.1]), np.array([0.0, 100.0]))
    confidence = gate.move(centre[:1], centre[:1], near, GATE)[1]
    weights = np.array([30.0, 50.0 * np.exp(-0.5)])
    assert confidence[0] == pytest.approx(weights @ (0.9, 0.1) / weights.sum())
    far = np.array([[300.0 - GATE.neighbourhood * 1.1, 300.0]])
    assert gate.move(far, far + 5, near, GATE)[1] == 0


def test_points_without_neighbours_pass_with_no_confidence() -> None:
    start, moved = places()
    for near in (Verdicts.of(np.zeros((0, 5))), Verdicts.of(np.tile([9e5, 9e5, 50.0, 0.9, 0.0], (3, 1)))):
        found, confidence = gate.move(start, moved, near, GATE)
        np.testing.assert_allclose(found, moved, rtol=0, atol=1e-9)
        assert not confidence.any()


def test_shared_vertices_move_alike_whatever_row_they_are_of() -> None:
    rng = np.random.default_rng(3)
    start, moved = places(2)
    near = neighbours(0.0)
    mixed = Verdicts(near.centre, near.weight, rng.random(60), rng.uniform(0, 2.5, 60) ** 2)
    twice, share = np.tile(start, (2, 1)), np.tile(moved, (2, 1))
    order = rng.permutation(len(twice))
    found, confidence = gate.move(twice[order], share[order], mixed, GATE)
    alone = gate.move(start, moved, mixed, GATE)
    assert (found == np.tile(alone[0], (2, 1))[order]).all()
    assert (confidence == np.tile(alone[1], 2)[order]).all()
    went = np.hypot(*(alone[0] - start).T) / np.hypot(*(moved - start).T)
    assert 0 <= went.min() < went.max() <= 1 + 1e-9


MOVES = [name for name in signature(gate.confidence_of).parameters if name not in ("clear", "own")]
"""Lengths of what later searches had to add, px."""
GOOD = {"clear": 5.0, **dict.fromkeys(MOVES, 0.3), "own": 2.0}
BAD = {"clear": 1.0, **dict.fromkeys(MOVES, 9.0), "own": -1.0}


def confidence_of(evidence: dict[str, float]) -> float:
    return float(gate.confidence_of(**{name: np.array([value]) for name, value in evidence.items()})[0])


@given(st.lists(st.floats(0, 12), min_size=len(GOOD), max_size=len(GOOD)), st.sampled_from([*GOOD]), st.floats(0.05, 3))
def test_confidence_is_monotone_in_each_piece_of_evidence(values: list[float], which: str, more: float) -> None:
    evidence = dict(zip(GOOD, values, strict=True))
    evidence["own"] -= 4  # its own fit may be worse than other places'
    few, many = confidence_of(evidence), confidence_of({**evidence, which: evidence[which] + more})
    assert 0 <= few <= 1 and 0 <= many <= 1
    assert many <= few if which in MOVES else many >= few


@pytest.mark.parametrize("which", GOOD)
def test_each_piece_of_evidence_counts(which: str) -> None:
    middle = {name: (GOOD[name] + BAD[name]) / 2 for name in GOOD}
    assert confidence_of({**middle, which: BAD[which]}) < 0.9 * confidence_of({**middle, which: GOOD[which]})


def test_without_a_clear_neighbourhood_there_is_no_confidence() -> None:
    assert confidence_of({**GOOD, "clear": 0.0}) == 0
    assert confidence_of(BAD) < gate.ABSTAIN / 2 and confidence_of(GOOD) > 2 * gate.ABSTAIN


def test_a_row_is_as_sure_as_it_is_itself_and_its_neighbours_are() -> None:
    own, near = np.array([0.9, 0.1, 0.6]), np.array([0.1, 0.9, 0.2])
    said = gate.together(own, np.array([40.0, 40.0, 0.0]), near)
    assert (said[:2] < 0.9).all() and (said[:2] > 0.1).all() and said[2] == 0.2  # without an outline: neighbours'
    assert (gate.together(own + 0.1, np.ones(3), near) > gate.together(own, np.ones(3), near)).all()
    assert (gate.together(own, np.ones(3), near + 0.1) > gate.together(own, np.ones(3), near)).all()
    assert gate.together(own, np.ones(3), own) == pytest.approx(own)


def test_neighbourhoods_are_metres_but_never_fewer_pixels_than_the_first_search_has() -> None:
    assert Gate(0.1).sigma == 200 and Gate(0.3).sigma == Gate(2.0).sigma == 120
    assert Gate(0.1).neighbourhood == 600


def test_verdicts_survive_their_table() -> None:
    near = neighbours(1.0, 5)
    again = Verdicts.of(near.table())
    assert near.table().shape == (5, 5)
    assert all((getattr(again, name) == getattr(near, name)).all() for name in ("centre", "weight", "square"))
    assert (again.confidence == near.confidence).all()


def test_lines_are_judged_by_what_the_map_shows_of_them() -> None:
    def said(clear: float, last: float, own: float) -> float:
        return float(gate.road_confidence_of(np.array([clear]), np.array([last]), np.array([own]))[0])

    assert said(2, 0.05, 0.3) > gate.ABSTAIN_ROADS > said(2, 0.05, 0.0)  # where the map shows no road a line stays
    assert said(2, 1.0, 0.2) < gate.ABSTAIN_ROADS  # as it does where the last search still had much to add
    assert said(4, 0.05, 0.3) > said(3, 0.05, 0.3) > said(3, 0.1, 0.3) > said(3, 0.1, 0.25)
    assert said(0, 0.05, 0.3) == 0
