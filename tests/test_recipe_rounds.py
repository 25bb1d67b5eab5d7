"""Training in rounds on a small drawn city: its samples, the re-aligning of labels, the recipe and its verb."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from flows.cli import app
from models.successor_unet import SuccessorUNet
from pipeline.errors import SettingsError
from tests.test_recipe_alignment import city
from training import align_successor as chain
from training.deform import gaussian_field
from training.patches import PreparedScene, prepare
from training.patches_rounds import cut_own, to_own_batch
from training.recipes import alignment_rounds as recipe

FIELD = gaussian_field(np.random.default_rng(0))


@pytest.fixture(scope="module")
def prepared() -> PreparedScene:
    scene = city()
    return chain.within(prepare(scene, scene.labelled))


def polygon_means(scene: PreparedScene, values: np.ndarray) -> np.ndarray:
    owner = chain.owners(scene)
    return np.stack([np.bincount(owner, values[:, i]) for i in (0, 1)], 1) / np.bincount(owner)[:, None]


@pytest.mark.parametrize("seed", range(8))
def test_each_building_is_taken_home_by_its_own_target(prepared: PreparedScene, seed: int) -> None:
    pair, second = cut_own(prepared, np.random.default_rng(seed), FIELD, output=64, halo=80, coarsest=1.3)
    near = F.max_pool2d(torch.from_numpy(pair.drawn[0] > 0)[None].float(), 3, 1, 1)[0].numpy()
    for drawn, target in zip(pair.drawn[1:], (pair.target, second), strict=True):
        y, x = np.nonzero(drawn[80:-80, 80:-80] == 0.5)
        to = np.clip(np.floor(np.stack([x, y]) + 80.5 + target[:, y, x]).astype(int), 0, 223)
        assert len(y) == 0 or (near[to[1], to[0]] > 0).mean() > 0.9  # but where two are drawn over each other


def test_buildings_are_off_by_themselves_in_most_pairs_and_factors_have_a_finest(prepared: PreparedScene) -> None:
    rng, uneven, areas = np.random.default_rng(0), [], []
    for _ in range(40):
        pair, _ = cut_own(prepared, rng, FIELD, output=64, halo=80, coarsest=4.0, finest=4)
        target = pair.target[:, pair.drawn[1][80:-80, 80:-80] > 0]
        areas.append((pair.drawn[0][80:-80, 80:-80] > 0).mean())
        if target.size:
            uneven.append(np.ptp(target, axis=1).max())
    assert 0.4 < np.mean(np.array(uneven) > 1.5) < 1.0  # a smooth field differs by less over 64 px
    batch = to_own_batch([cut_own(prepared, rng, FIELD, output=16, halo=80, coarsest=1.0) for _ in range(3)])
    assert batch["target"].shape == (6, 2, 16, 16) and batch["rasters"].shape == (6, 3, 176, 176)


def test_labels_are_put_off_as_asked(prepared: PreparedScene) -> None:
    many = replace(prepared, coords=np.tile(prepared.coords, (20, 1)))
    many = replace(
        many,
        ring_offsets=np.concatenate([[0], np.cumsum(np.tile(np.diff(prepared.ring_offsets), 20))]),
        polygon_offsets=np.concatenate([[0], np.cumsum(np.tile(np.diff(prepared.polygon_offsets), 20))]),
    )
    off = recipe.put_off(many, 4.0, 0.0, np.random.default_rng(1)) - many.coords
    own = polygon_means(many, off)
    np.testing.assert_allclose(off, own[chain.owners(many)], atol=1e-9)  # rigid: every vertex as its polygon
    np.testing.assert_allclose(own.std(0), 4.0, rtol=0.1)
    np.testing.assert_allclose(own.mean(0), 0.0, atol=0.5)
    assert abs(np.corrcoef(own[:-1, 0], own[1:, 0])[0, 1]) < 0.1  # independent of the neighbour's
    smooth = recipe.put_off(prepared, 0.0, 8.0, np.random.default_rng(1)) - prepared.coords
    assert 0.5 < np.abs(smooth).max() <= 8.0
    np.testing.assert_array_equal(recipe.put_off(prepared, 0, 0, np.random.default_rng(1)), prepared.coords)


def test_only_polygons_of_the_area_are_kept(prepared: PreparedScene) -> None:
    scene = city()
    area = np.zeros_like(scene.labelled)
    area[:200, :200] = True
    kept = chain.within(prepare(scene, area))
    assert len(kept.bounds) == len(kept.polygon_offsets) - 1 == 9 and kept.ring_offsets[-1] == len(kept.coords) == 50
    assert kept.coords.max() <= 200 and len(np.diff(kept.polygon_offsets)) == 9
    assert kept.polygon_offsets[1] == 2  # the hole of the first
    np.testing.assert_array_equal(np.unique(chain.owners(kept)), np.arange(9))


def test_points_along_outlines_are_even_and_stay_within_rings() -> None:
    ring = np.array([[0, 0], [8, 0], [8, 3], [0, 3], [0, 0]], float)
    coords, offsets = np.concatenate([ring, ring + 50]), np.array([0, 5, 10])
    points, of = chain.along_outlines(coords, offsets, np.repeat([0, 1], 5))
    assert len(points) == 44 and (of == np.repeat([0, 1], 22)).all()
    np.testing.assert_allclose(points[:22].mean(0), (4, 1.5))
    np.testing.assert_allclose(points[22:], points[:22] + 50)


class Homing(SuccessorUNet):
    """Answers with the field that takes each building of 20 px home, found from where its fill is."""

    def displace(self, image: torch.Tensor, rasters: torch.Tensor) -> torch.Tensor:
        bright = (image > 0.5).float()
        axis = torch.arange(image.shape[-1], dtype=torch.float32)
        places = [axis.view(1, 1, 1, -1).expand_as(image), axis.view(1, 1, -1, 1).expand_as(image)]

        def near(x: torch.Tensor) -> torch.Tensor:
            return F.avg_pool2d(F.avg_pool2d(x, (41, 1), 1, (20, 0)), (1, 41), 1, (0, 20))

        def centre(mask: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
            return near(mask * place) / near(mask).clamp_min(1e-6)

        moves = [centre(bright, p) - centre(rasters[:, :1], p) for p in places]
        return torch.cat(moves, 1)[..., 80:-80, 80:-80]


def test_buildings_move_by_themselves_and_smoothed_ones_do_not(prepared: PreparedScene) -> None:
    plain = replace(prepared, gray={level: gray.copy() for level, gray in prepared.gray.items()})
    off = recipe.put_off(plain, 3.0, 0.0, np.random.default_rng(2))
    network = Homing(0.05)
    before = np.abs(polygon_means(plain, off - plain.coords))
    alone = chain.align(network, plain, off, ((1, 0.0),) * 2, 1.0)
    left = np.abs(polygon_means(plain, alone - plain.coords))[:, 0]
    inner = np.flatnonzero((plain.bounds[:, 2] < 420) & (plain.bounds[:, 0] > 40))  # beyond, the image has no data
    assert before[inner, 0].mean() > 2 and left[inner].mean() < 0.6
    np.testing.assert_allclose(alone - off, polygon_means(plain, alone - off)[chain.owners(plain)], atol=1e-6)
    together = chain.align(network, plain, off, ((1, 60.0),), 1.0)
    assert np.abs(polygon_means(plain, together - plain.coords))[inner, 0].mean() > 1.5
    assert chain.align(network, plain, off, ((8, 0.0),), 1.0).shape == off.shape  # too coarse: factor 1 in its place


@pytest.fixture
def small(prepared: PreparedScene, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of a training of two steps a round."""
    monkeypatch.setattr(recipe, "prepare_all", lambda data: ([prepared], prepared))
    monkeypatch.setattr(recipe, "field_bank", lambda seed: [FIELD])
    monkeypatch.setattr(recipe, "ALONE", ((2, 0.0),))
    monkeypatch.setattr(recipe, "TOGETHER", ((2, 24.0),))
    return {"steps": 2, "later": 1.0, "width": 0.0625, "batch": 1, "output": 8, "curriculum": 1, "misalign_px": 4.0}


def test_each_round_aligns_the_originals_and_trains_on_what_that_gave(
    tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    aligned: list[np.ndarray] = []
    trained: list[np.ndarray] = []

    def spy(network: Any, scene: Any, coords: np.ndarray, steps: Any, *more: Any) -> np.ndarray:
        if steps == ((2, 0.0),):
            aligned.append(coords)
            return coords + len(aligned)
        return coords

    def sample(scene: PreparedScene, *arguments: Any, **options: Any) -> Any:
        trained.append(scene.coords)
        return cut_own(scene, *arguments, **options)

    monkeypatch.setattr(recipe, "align", spy)
    monkeypatch.setattr(recipe, "cut_own", sample)
    recipe.main(tmp_path, tmp_path / "out", rounds=3, **small)
    first = np.load(tmp_path / "out/labels_0/city.npy")
    assert len(aligned) == 3 and len(trained) == 6
    for coords in aligned:
        np.testing.assert_array_equal(coords, first)
    for step, coords in enumerate(trained):
        np.testing.assert_array_equal(coords, first + step // 2)  # rounds 2 and 3: what rounds 1 and 2 gave
    for number in (1, 2, 3):
        np.testing.assert_array_equal(np.load(tmp_path / f"out/labels_{number}/city.npy"), first + number)
    trained.clear()
    recipe.main(tmp_path, tmp_path / "control", rounds=2, keep_labels=True, **small)
    assert all((coords == trained[0]).all() for coords in trained)


def test_rounds_log_stop_and_resume(tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    recipe.main(tmp_path, out, rounds=1, **small)
    kept = {path: path.stat().st_mtime_ns for path in [*out.glob("labels_*/*"), *out.glob("round_1/*")]}
    whole = recipe.align

    def stop(*arguments: Any) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "align", stop)
    with pytest.raises(KeyboardInterrupt):
        recipe.main(tmp_path, out, rounds=2, **small)
    assert (out / "round_2/checkpoint.safetensors").exists() and not (out / "labels_2").exists()
    monkeypatch.setattr(recipe, "align", whole)
    recipe.main(tmp_path, out, rounds=2, **small)
    recipe.main(tmp_path, out, rounds=2, **small)  # nothing to do
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    lines = [json.loads(text) for text in (out / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert lines[0]["trained_on"]["mean"] == pytest.approx(4 * np.sqrt(np.pi / 2), rel=0.25)  # a Rayleigh mean
    assert lines[1]["trained_on"] == lines[0]["aligned"] != lines[0]["trained_on"]
    assert lines[0]["held_out"]["before"] == lines[1]["held_out"]["before"]
    with pytest.raises(SettingsError, match=r"was begun with misalign_px 4\.0; name another folder"):
        recipe.main(tmp_path, out, rounds=2, **{**small, "misalign_px": 2.0})
    with pytest.raises(SettingsError, match="--scenes nowhere: trains on nothing; there are city"):
        recipe.main(tmp_path, out, scenes=["nowhere"], **small)


@pytest.mark.parametrize(
    ("options", "module"),
    [([], "alignment"), (["--rounds", "1"], "alignment"), (["--rounds", "3"], "alignment_rounds")],
)
def test_the_verb_chooses_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], module: str
) -> None:
    called: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(sys, "argv", ["resurvey"])
    monkeypatch.setattr(runpy, "run_module", lambda name, **_: called.append((name, sys.argv[1:])))
    base = ["train", "alignment", "--data", str(tmp_path), "--out", "o"]
    assert CliRunner().invoke(app, [*base, *options, "--minutes", "6"]).exit_code == 0
    more = options if module == "alignment_rounds" else []
    assert called == [(f"training.recipes.{module}", ["--data", str(tmp_path), "--out", "o", *more, "--minutes", "6"])]


@pytest.mark.parametrize(("model", "rounds"), [("alignment", "0"), ("instances", "2")])
def test_rounds_that_make_no_sense_are_refused(tmp_path: Path, model: str, rounds: str) -> None:
    result = CliRunner().invoke(app, ["train", model, "--data", str(tmp_path), "--out", "o", "--rounds", rounds])
    assert isinstance(result.exception, SettingsError) and f"--rounds {rounds}" in str(result.exception)
