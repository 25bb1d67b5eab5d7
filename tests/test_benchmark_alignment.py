"""The alignment benchmark: every peer finds a shift that is there, and its rows are written once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import placed
from benchmarks.alignment import REFERENCE, compare, mean_iou, methods, shapes, spread
from benchmarks.alignment_flow import flattened
from benchmarks.alignment_peers import PEERS, SLOW, outline_samples, peak, surface
from benchmarks.alignment_report import curves, mean_of, table
from benchmarks.placed import placed_in, rings_of
from training.align_chain import Case
from training.chips import halve

SHIFT = np.array([5.0, -3.0])


@pytest.fixture(scope="module")
def case() -> Case:
    """Bright and dark rectangles with 23 to 40 px sides, at angles, on noise; one has a courtyard."""
    rng = np.random.default_rng(1)
    side = 416
    image = np.full((side, side), 0.4, np.float32)
    rings, polygons = [], []
    for y in range(55, side - 55, 75):
        for x in range(55, side - 55, 75):
            turn = rng.uniform(0, np.pi / 2)
            across = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
            square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * rng.uniform(12, 20, 2)
            mine = [square @ across + (x, y) + rng.uniform(-8, 8, 2)]
            if not rings:
                mine.append((mine[0] - mine[0][:4].mean(0)) * -0.4 + mine[0][:4].mean(0))
            drawn = [np.round((ring - 0.5) * 16).astype(np.int32) for ring in mine]
            cv2.fillPoly(image, drawn, float(rng.choice((0.1, 0.8))), shift=4)
            rings += mine
            polygons.append(len(mine))
    image = np.clip(image + rng.normal(0, 0.03, image.shape), 0, 1).astype(np.float32)
    levels, known = np.repeat(image[None], 3, axis=0), np.ones((side, side), bool)
    bands, valid = {}, {}
    for level in (1, 2, 4, 8):
        bands[level], valid[level] = levels, known
        levels, known = halve(levels, known)
    coords = np.concatenate(rings)
    scored = ((coords > 12) & (coords < side - 12)).all(1)
    assert scored.all()
    counts = [len(ring) for ring in rings]
    return Case(
        "squares", 0.5, bands, valid, coords, np.cumsum([0, *counts]), np.cumsum([0, *polygons]), scored
    )  # fmt: skip


def errors(case: Case, name: str, largest: float = 10.0) -> np.ndarray:
    if name == "TV-L1":
        pytest.importorskip("skimage", reason="scikit-image is of the test extra only")
    if name in ("demons", "B-spline MI"):
        pytest.importorskip("SimpleITK", reason="SimpleITK is of the bench extra only")
    displaced = case.coords - SHIFT
    placed = PEERS[name](case, displaced, largest)
    assert placed.shape == case.coords.shape
    assert np.abs(placed - displaced).max() <= largest + 1e-9
    return np.hypot(*(placed - case.coords).T)


@pytest.mark.parametrize(
    "name", [name for name in PEERS if "correlation" in name or "edge search" in name or "flow" in name]
)
def test_cheap_peers_find_a_shift_to_a_pixel(case: Case, name: str) -> None:
    assert np.median(errors(case, name)) < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_slow_peers_get_nearer(case: Case, name: str) -> None:
    assert errors(case, name).mean() < 0.7 * np.hypot(*SHIFT)


@pytest.mark.parametrize("name", ["global correlation", "block-wise correlation", "edge search, 9 neighbours"])
def test_no_peer_moves_further_than_the_largest(case: Case, name: str) -> None:
    assert errors(case, name, 2.0).min() > 2.0


def test_none_stays(case: Case) -> None:
    assert errors(case, "none") == pytest.approx(np.hypot(*SHIFT))


@pytest.mark.parametrize("whitening", [0.0, 1.0])
def test_correlation_surface_has_its_peak_at_the_shift(whitening: float) -> None:
    raster = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(64, 80)).astype(np.float32), (0, 0), 2.0)
    dx, dy = peak(surface(np.roll(raster, (3, -4), (0, 1)), raster, 6, whitening))
    assert (dx, dy) == pytest.approx((-4, 3), abs=0.2)


def test_flattened_rasters_have_no_ground_level_and_no_gain() -> None:
    raster = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(64, 80)).astype(np.float32), (0, 0), 2.0)
    flat = flattened(raster, 8.0)
    assert flattened(3 * raster + 5, 8.0) == pytest.approx(flat, abs=1e-4)
    assert flat.std() == pytest.approx(1.0, abs=1e-4)
    assert np.abs(flattened(np.full((8, 8), 2.0, np.float32), 8.0)).max() < 1e-2


def test_outline_samples_lie_on_outlines_with_normals_across(case: Case) -> None:
    at, normals, building = outline_samples(case, case.coords, 1.0)
    assert np.hypot(*normals.T) == pytest.approx(1.0)
    assert sorted(set(building)) == list(range(len(case.polygon_offsets) - 1))
    first, second = case.coords[:2]
    on = at[: round(np.hypot(*(second - first)))]
    assert np.abs((on - first) @ normals[0]).max() < 1e-9
    assert np.diff(on, axis=0) @ normals[0] == pytest.approx(0.0, abs=1e-9)


def test_iou_is_of_scored_polygons(case: Case) -> None:
    true = shapes(case, case.coords)
    assert len(true) == len(case.polygon_offsets) - 1
    assert mean_iou(case, case.coords, true) == pytest.approx(1.0)
    assert mean_iou(case, case.coords + 1000, true) == 0.0
    assert 0.5 < mean_iou(case, case.coords + 3, true) < 0.9


def test_places_are_kept_and_not_found_again(case: Case, tmp_path: Path) -> None:
    calls = []

    def perfect(case: Case, coords: np.ndarray, largest: float) -> np.ndarray:
        calls.append(largest)
        return case.coords.copy()

    def fields(name: str) -> int:
        return 2 if name == "none" else 1

    peers, said = {"none": PEERS["none"], "perfect": perfect}, []
    rows = compare(case, peers, [8.0], fields, tmp_path, said.append)
    assert [(row["method"], row["largest"], row["seed"]) for row in rows] == [
        ("none", 8, 0), ("none", 8, 1), ("none", 0, 0), ("perfect", 8, 0), ("perfect", 0, 0)
    ]  # fmt: skip
    assert rows[3]["mean"] == 0 and rows[3]["iou"] == 1 and rows[3]["curve"] == [1.0] * 32
    assert rows[3]["iou_before"] == rows[0]["iou"] < 1
    assert rows[0]["within_4"] == rows[0]["curve"][7]
    assert calls == [8.0, REFERENCE]
    assert "25 polygons scored: fewer than" in said[0]

    assert compare(case, peers, [8.0], fields, tmp_path, said.append) == rows and len(calls) == 2
    (tmp_path / "places" / "squares" / "perfect, 8 px, 0.npz").unlink()
    assert compare(case, peers, [8.0], fields, tmp_path, said.append)[0] == rows[0] and len(calls) == 3

    text = table(rows)
    assert "| perfect (1 of 1 scenes, 1 of 2 fields) | 0.00 | 0.00 | 100 % | 100 % | 100 % | 100 % | 1.00 |" in text
    assert "| perfect | 0.00 (+0.0, +0.0) |" in text
    curves(rows, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().count("<polyline") == 2


def test_labels_that_are_off_are_found_out_by_eye(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What puts vertices where readers saw them has no error there, and the labels' own against the labels."""
    readings(case, tmp_path / "placed.json", [[[2, -1], [2.5, -1]]] * 3 + [[[2, -1], None], [[0, 0], [3, 0]]])
    monkeypatch.setattr(placed, "FILE", tmp_path / "placed.json")

    def right(case_: Case, coords: np.ndarray, largest: float) -> np.ndarray:
        return case.coords + (2.25, -1.0)

    (row,) = compare(case, {"right": right}, [], lambda name: 1, tmp_path, lambda line: None)
    assert (row["dx"], row["dy"]) == (2.25, -1)
    assert row["median_placed"] == 0 and row["within_1_placed"] == 1 and row["curve_placed"] == [1.0] * 32
    text = table([row, row | {"largest": 8.0}])
    assert "| right | 0.00 | 0.00 | 100 % | 100 % | 100 % | 100 % |" in text
    curves([row | {"largest": 8.0}], tmp_path / "curves.svg", "curve_placed")
    assert (tmp_path / "curves.svg").read_text().count("<polyline") == 1


def readings(case: Case, path: Path, shifts: list) -> None:
    """A file of readings of the first polygons of a case."""
    rows = []
    for polygon, both in enumerate(shifts):
        rings = rings_of(case, polygon)
        corner = rings[0].min(0).round(2).tolist()
        rows.append({"polygon": polygon, "vertices": sum(map(len, rings)), "corner": corner, "shifts": both})
    path.write_text(json.dumps({case.name: rows}))


def test_placed_are_those_on_which_readers_agree(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "placed.json"
    monkeypatch.setattr(placed, "FILE", path)
    readings(case, path, [[[1, 0], [1, 0.5]], [[1, 0], None], [[0, 0], [3, 0]], [[-1, 0], [-1, 1]]])
    found = placed_in(case)
    assert found is not None and found.polygons.tolist() == [0, 3] and found.unread == 2
    assert found.apart.tolist() == [0.5, 1.0] and found.shifts.tolist() == [[1, 0.25], [-1, 0.5]]
    truth, known = found.truth(case)
    assert known.sum() == sum(map(len, rings_of(case, 0))) + sum(map(len, rings_of(case, 3)))
    assert np.array_equal(truth[~known], case.coords[~known])
    right = found.only(case)
    assert np.array_equal(right.coords, truth[known]) and right.polygon_offsets.tolist() == [0, 2, 3]
    assert np.array_equal(rings_of(right, 1)[0], rings_of(case, 3)[0] + (-1, 0.5))
    assert len(right.scored) == right.ring_offsets[-1] == len(right.coords)


def test_readings_of_other_polygons_are_refused(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed, "FILE", tmp_path / "placed.json")
    readings(case, tmp_path / "placed.json", [[[1, 0], [1, 0.5]]])
    other = replace(case, coords=case.coords + 1)
    with pytest.raises(ValueError, match="another than was read"):
        placed_in(other)
    assert placed_in(replace(case, name="elsewhere")) is None


def test_scenes_count_alike_however_many_fields() -> None:
    rows = [{"scene": "a", "mean": 1.0}, {"scene": "a", "mean": 3.0}, {"scene": "b", "mean": 6.0}]
    assert mean_of(rows, "mean") == 4.0


def test_methods_are_chosen_by_name() -> None:
    assert list(methods(["edge search, 9 neighbours", "none"])) == ["edge search, 9 neighbours", "none"]


def test_spread_is_of_the_method_not_of_the_labels(case: Case) -> None:
    """0 where a method always finds the same place, right or wrong; where it moves nothing, the shifts themselves."""
    assert spread(np.stack([case.coords + 5] * 3))["spread_median"] == 0
    still = spread(np.stack([case.coords + shift for shift in ((3.0, 0.0), (0.0, 0.0), (-3.0, 0.0))]))
    assert still["spread_median"] == pytest.approx(3) and still["spread_mean"] == pytest.approx(2)
