"""The kernel benchmarks: inputs are what they say, equality is checked for real, bounds are judged, pages filled."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bounds, kernels, peers, planted, scaling, seams, tail, timing
from benchmarks.cities import HARD, INPUTS
from pipeline.grid import Window
from pipeline.kernels import components, split
from pipeline.stages.split import split_components

SIDE = 520


@pytest.mark.parametrize("name", HARD)
def test_scenes_are_seeded_and_what_they_say(name: str) -> None:
    scene = HARD[name](SIDE, 3)
    again, other = HARD[name](SIDE, 3), HARD[name](SIDE, 4)
    assert scene.name == name and scene.mask.dtype == scene.touching.dtype == np.uint8
    np.testing.assert_array_equal(scene.mask, again.mask)
    np.testing.assert_array_equal(scene.touching, again.touching)
    assert not np.array_equal(scene.mask, other.mask)
    labels, count = split.split(scene.mask, scene.touching)
    _, parts = components.label(scene.mask > 127)
    cover = np.mean(labels > 0)
    low, high = {"city": (0.1, 0.25), "dense": (0.35, 0.7), "speckle": (0.3, 0.36)}.get(name, (1.0, 1.0))
    assert low <= cover <= high
    assert (count == 1) if name == "roof" else (count > 1.3 * parts)


@pytest.mark.parametrize("name", INPUTS)
def test_equality_is_asserted_before_timing(name: str) -> None:
    scene = INPUTS[name](SIDE, 1)
    labels, count = split.split(scene.mask, scene.touching)
    kernels.check_split(scene, labels)
    kernels.check_properties(labels, count)
    kernels.check_trace(labels)
    wrong = labels.copy()
    y, x = np.argwhere((labels[:, 1:] > 0) & (labels[:, :-1] > 0) & (labels[:, 1:] != labels[:, :-1]))[0]
    wrong[y, x] = labels[y, x + 1]
    with pytest.raises(AssertionError):
        kernels.check_split(scene, wrong)


@pytest.mark.parametrize("name", INPUTS)
def test_the_usual_stack_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    scene = INPUTS[name](SIDE, 2)
    count = tail.check(scene, tmp_path)
    assert count > 20
    assert tail.usual(scene, tmp_path / "again.parquet", tolerance=0.75) == pytest.approx(count, rel=0.1)


def test_evidence_is_that_of_the_stage() -> None:
    scene = INPUTS["dense"](SIDE, 2)
    shape, valid = scene.mask.shape, np.ones(scene.mask.shape, np.bool_)
    part = split_components(scene.mask, scene.touching, valid, Window(0, 0, *shape), shape[1], 0.0, 0)
    said = tail.evidence(split.split(scene.mask, scene.touching)[0], scene)
    np.testing.assert_allclose(said["boundary_score"][1:], part.edge_sum / (255.0 * part.edge_count))
    np.testing.assert_array_equal(said["touches_nodata"][1:], part.touches_nodata)


@pytest.mark.parametrize("core", [64, 130, SIDE])
def test_tiles_and_seams_give_the_labels_of_the_whole(core: int) -> None:
    mask = INPUTS["city"](SIDE, 5).mask > 127
    labels, count = seams.label_tiled(mask, core)
    truth, expected = components.label(mask)
    assert count == expected
    assert seams.same_partition(labels, truth, count)
    truth[truth == 2] = 1
    assert not seams.same_partition(labels, truth, count)


def test_partition_numbers_by_first_pixel() -> None:
    labels = np.array([[0, 7, 7], [3, 0, 7], [3, 3, 9]], np.int32)
    assert peers.partition(labels).tolist() == [[0, 1, 1], [2, 0, 1], [2, 2, 3]]


def test_a_contest_is_written_with_targets_and_what_is_not_won(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    contest = timing.Contest("city", rounds=3, patience=0.5)
    calls: list[str] = []
    fast, slow = timing.Peer(lambda: calls.append("fast")), timing.Peer(lambda: sum(range(200_000)), target=1e9)
    contest.row("step", lambda: sum(range(50_000)), {"fast": fast, "slow": slow}, "truth")
    assert calls == ["fast"] * 3
    line = capsys.readouterr().out
    assert line.startswith("| step |") and "fast 0.0× **not won**" in line
    assert "(**short of 1e+09**)" in line and line.rstrip().endswith("| truth |")
    ratio = {peer["name"]: peer["ratio"] for peer in contest.rows[0]["peers"]}
    assert ratio["slow"] > 1 > ratio["fast"]

    page, said = tmp_path / "page.md", tmp_path / "said.json"
    page.write_text("before\n<!-- here -->\nold\n<!-- /here -->\nafter\n")
    options = Namespace(json=said, docs=page, clock="wall")
    timing.finish(contest.rows, options, "here", {"city": "a city"})
    text = page.read_text()
    assert text.startswith("before\n<!-- here -->\n") and text.endswith("<!-- /here -->\nafter\n")
    assert "**a city**" in text and "old" not in text
    assert json.loads(said.read_text())["rows"] == contest.rows
    with pytest.raises(SystemExit, match="no place marked <!-- elsewhere -->"):
        timing.put(page, "elsewhere", "text")


def row(kind: str, side: int, seconds: float, megabytes: float) -> dict:
    """A run as `planted.measured` reports it."""
    shares = {"split": 0.9 * seconds, "export": 0.1 * seconds, "all": seconds}
    spent = {name: {"wall": share, "cpu": share} for name, share in shares.items()}
    size = int(megabytes * 1e6)
    return {
        "input": kind, "side": side, "pixels": side**2, "buildings": 5, "seconds": spent, "peak_bytes": size,
        "grown_bytes": size,
    }  # fmt: skip


def test_slopes_and_bounds_are_judged() -> None:
    rows = [row("city", side, 2e-8 * side**2, 100 + 0.2 * side**2 / 1e6) for side in (5000, 10_000, 20_000)]
    found = scaling.slopes(rows, "cpu")
    assert found["time"] == pytest.approx(1.0) and found["bytes"] == pytest.approx(0.2)
    assert found["time_of_read"] < 1.0
    assert "| 400 | 5 | 8.00 |" in scaling.table(rows, found, "cpu")
    assert scaling.pixels_read(1024) == 1024**2 and scaling.pixels_read(2048) == (2 * 1280) ** 2
    middle = scaling.best([row("city", 9, s, m) for s, m in ((3, 1), (1, 9), (2, 5))], "wall")
    assert middle["seconds"]["all"]["wall"] == 2 and middle["grown_bytes"] == 9e6
    hard = [row("roof", 5000, 1.0, 900), row("speckle", 5000, 12.0, 100), row("roof", 10_000, 5.0, 2500)]
    assert bounds.missed([*rows[:2], *hard], "cpu") == [
        "speckle 5000² takes 24.0 times the city's time",
        "roof 10000² holds 2500 MB",
    ]
    assert bounds.missed([*rows[:2], row("walls", 5000, 1.0, 1), row("walls", 10_000, 8.0, 1)], "cpu") == [
        "walls: a pixel costs 2.00 times as much in the largest scene"
    ]
    assert "| roof | 25 | 5 | 1.00 | 2.0 | 900 MB | 8.6 |" in bounds.table([*rows[:2], *hard], "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["city", "walls"])
def test_a_planted_scene_goes_through_the_line_as_it_would_whole(kind: str, tmp_path: Path) -> None:
    side = 1500
    planted.plant(tmp_path / "scene", side, kind)
    said = planted.run(tmp_path / "scene")
    drawn = HARD[kind](planted.BLOCK, 0)
    mask, touching = (np.ascontiguousarray(layer[:side, :side]) for layer in (drawn.mask, drawn.touching))
    part = split_components(mask, touching, np.ones((side, side), np.bool_), Window(0, 0, side, side), side)
    assert said["pixels"] == side**2 and 0 < said["grown_bytes"] < said["peak_bytes"]
    assert said["large"] == (kind == "walls")
    # The export leaves out what is smaller than a building; nothing else is lost, nothing doubled.
    assert 0.9 * len(part) < said["buildings"] <= len(part)
