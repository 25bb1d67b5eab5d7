"""The alignment benchmark: every peer finds a shift that is there, and its rows are written once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.alignment import CONSENSUS, REFERENCE, compare, consensus, mean_iou, methods, rows_of, shapes
from benchmarks.alignment_flow import flattened
from benchmarks.alignment_peers import PEERS, SLOW, outline_samples, peak, surface
from benchmarks.alignment_report import curves, mean_of, table
from benchmarks.alignment_spread import spread
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


def test_rows_are_written_once_and_resumed(case: Case, tmp_path: Path) -> None:
    path, calls = tmp_path / "rows.jsonl", []

    def perfect(case: Case, coords: np.ndarray, largest: float) -> np.ndarray:
        calls.append(largest)
        return case.coords.copy()

    peers = {"none": PEERS["none"], "perfect": perfect}
    rows = compare([case], peers, [8.0], lambda name: 2 if name == "none" else 1, tmp_path, lambda line: None)
    assert [(row["method"], row["largest"], row["seed"]) for row in rows] == [
        ("none", 8, 0), ("none", 8, 1), ("none", 0, 0), ("perfect", 8, 0), ("perfect", 0, 0)
    ]  # fmt: skip
    assert rows[3]["mean"] == 0 and rows[3]["iou"] == 1 and rows[3]["curve"] == [1.0] * 32
    assert rows[3]["iou_before"] == rows[0]["iou"] < 1
    assert rows[0]["within_4"] == rows[0]["curve"][7]
    assert calls == [8.0, REFERENCE]

    path.write_text(path.read_text()[:-30])  # as a kill would leave it: the last row is made again
    assert len(rows_of(path)) == 4
    said: list[str] = []
    again = compare([case], peers, [8.0], lambda name: 2 if name == "none" else 1, tmp_path, said.append)
    assert len(calls) == 3
    assert [row["mean"] for row in again] == [row["mean"] for row in rows]
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 5
    assert "25 polygons scored: fewer than" in said[0]

    text = table(again)
    floor = rows[0]["label_floor"]
    line = "| perfect (1 of 1 scenes, 1 of 2 fields) | 0.00 | 0.00 | 100 % | 100 % | 100 % | 100 % | 1.00 | 0 |"
    assert f"{line} {floor:.2f} |" in text
    assert "| perfect | 0.00 (+0.0, +0.0) |" in text
    curves(again, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().count("<polyline") == 2


def test_labels_that_are_off_are_found_out_by_consensus(case: Case, tmp_path: Path) -> None:
    off = replace(case, coords=case.coords + (2.0, -1.0))

    def right(case_: Case, coords: np.ndarray, largest: float) -> np.ndarray:
        return case.coords.copy()

    (row,) = compare([off], {"right": right}, [], lambda name: 1, tmp_path, lambda line: None)
    assert row["largest"] == 0
    assert (row["dx"], row["dy"]) == (-2, 1)
    assert (row["label_dx"], row["label_dy"]) == pytest.approx((-2, 1), abs=0.3)
    assert row["median"] == pytest.approx(np.hypot(2, 1), abs=1e-3)
    assert row["label_floor"] == pytest.approx(np.hypot(2, 1), abs=0.5)
    assert row["median_consensus"] < 0.5 and row["within_1_consensus"] > 0.9


def test_consensus_is_kept_for_the_same_cadaster_only(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "consensus.npy"
    np.save(path, case.coords + 7)
    assert np.array_equal(consensus(case, path), case.coords + 7)
    np.save(path, case.coords[:-1])
    found = consensus(case, path)
    assert np.median(np.hypot(*(found - case.coords).T)) < 0.5
    assert np.array_equal(np.load(path), found)
    assert [file.name for file in tmp_path.iterdir()] == ["consensus.npy"]


def test_no_method_of_our_own_is_in_the_consensus() -> None:
    assert set(CONSENSUS) <= set(PEERS) - set(SLOW)


def test_scenes_count_alike_however_many_fields() -> None:
    rows = [{"scene": "a", "mean": 1.0}, {"scene": "a", "mean": 3.0}, {"scene": "b", "mean": 6.0}]
    assert mean_of(rows, "mean") == 4.0


def test_methods_are_chosen_by_name() -> None:
    assert list(methods(["edge search, 9 neighbours", "none"])) == ["edge search, 9 neighbours", "none"]


def test_spread_is_of_the_method_not_of_the_labels(case: Case) -> None:
    """0 where a method always finds the same place, right or wrong; where it moves nothing, the shifts themselves."""
    shifts = [(3.0, 0.0), (0.0, 0.0), (-3.0, 0.0)]
    cadasters = [case.coords + shift for shift in shifts]
    assert spread(case, cadasters, 8.0, lambda case, cadaster, largest: case.coords + 5)["median"] == 0
    still = spread(case, cadasters, 8.0, lambda case, cadaster, largest: cadaster)
    assert still["median"] == pytest.approx(3) and still["mean"] == pytest.approx(2)
