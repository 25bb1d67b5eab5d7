"""The successor's samples, losses and recipe, on a small drawn city."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.successor_unet import Level, SuccessorUNet, cropped
from tests.test_recipe_alignment import city
from training import patches, patches_successor
from training.deform import gaussian_field
from training.loop import load_network
from training.patches_successor import Pair, cut_pair, to_batch
from training.recipes import alignment_successor as recipe

FIELD = gaussian_field(np.random.default_rng(0))


@pytest.fixture(scope="module")
def prepared() -> patches.PreparedScene:
    scene = city()
    return patches.prepare(scene, scene.labelled)


def pair_of(prepared: patches.PreparedScene, seed: int, output: int = 64, drop: bool = True) -> Pair:
    return cut_pair(prepared, np.random.default_rng(seed), FIELD, output=output, halo=80, coarsest=1.3, drop=drop)


def landed(drawn: np.ndarray, truth: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Whether interior pixels of the core, moved by the target, come within a pixel of the true polygons."""
    y, x = np.nonzero(drawn[80:-80, 80:-80] == 0.5)
    near = F.max_pool2d(torch.from_numpy(truth > 0)[None].float(), 3, 1, 1)[0].numpy()
    to = np.floor(np.stack([x, y]) + 80.5 + target[:, y, x]).astype(int)
    return near[to[1], to[0]] > 0


@pytest.mark.parametrize("seed", range(6))
def test_both_targets_take_the_drawn_polygons_to_the_truth(prepared: patches.PreparedScene, seed: int) -> None:
    pair = pair_of(prepared, seed, drop=False)
    assert pair.image.shape == pair.counts.shape == (224, 224) and pair.target.shape == (2, 64, 64)
    truth, first, second = pair.drawn
    assert (first[80:-80, 80:-80] == 0.5).sum() > 50
    assert landed(first, truth, pair.target).mean() > 0.98
    assert landed(second, truth, -pair.target).mean() > 0.98
    if np.abs(pair.target).max() > 2:  # the other way round they miss
        assert landed(first, truth, -pair.target).mean() < 0.98


def test_the_truth_lies_on_the_image_and_vertices_on_outlines(prepared: patches.PreparedScene) -> None:
    for seed in range(8):
        pair = pair_of(prepared, seed)
        truth = pair.drawn[0]
        seen = (pair.counts > 0) & (truth != 1)
        bright = pair.image > (pair.image[seen].min() + pair.image[seen].max()) / 2
        assert (bright[seen] == (truth[seen] > 0)).mean() > 0.93
        outlines = F.max_pool2d(torch.from_numpy(pair.drawn == 1).float(), 3, 1, 1).numpy()
        assert pair.vertices[0].sum() > 0 and (outlines[pair.vertices > 0] > 0).all()


def test_few_polygons_are_left_in_some_pairs(prepared: patches.PreparedScene) -> None:
    rng = np.random.default_rng(0)
    polygons = [[np.zeros((5, 2))]] * 200
    left = np.array([len(patches_successor.drop_some(polygons, rng)) for _ in range(300)]) / 200
    sparse = left < 0.2
    assert sparse.mean() == pytest.approx(patches_successor.SPARSE, abs=0.08)
    assert left[sparse].mean() == pytest.approx(patches_successor.KEPT, abs=0.02)
    assert (left == 1).mean() > 0.35 and left[~sparse].min() > 0.4
    drawn = [pair_of(prepared, seed, output=8).drawn > 0 for seed in range(20)]
    assert any(d[1:].sum() < 0.4 * d[0].sum() for d in drawn)  # what must be seen without


def test_a_batch_holds_firsts_then_opposites(prepared: patches.PreparedScene) -> None:
    pairs = [pair_of(prepared, seed, output=16) for seed in (1, 2, 3)]
    batch = to_batch(pairs)
    assert batch["image"].shape == (3, 1, 176, 176) and batch["rasters"].shape == (6, 3, 176, 176)
    torch.testing.assert_close(batch["target"][:3], -batch["target"][3:])
    for i, pair in enumerate(pairs):
        np.testing.assert_array_equal(batch["segments"][i, 0] > 0, pair.drawn[0] > 0)
        np.testing.assert_array_equal(batch["rasters"][i, 0] > 0, pair.drawn[1] > 0)
        np.testing.assert_array_equal(batch["rasters"][3 + i, 0] > 0, pair.drawn[2] > 0)
        assert (batch["rasters"][i, 2].numpy() >= pair.vertices[1]).all()


def test_displacement_loss_weighs_classes_not_pixels() -> None:
    rasters = torch.zeros(1, 3, 8, 8)
    rasters[:, 0], rasters[:, 1, :4], rasters[:, 2, 0, 0] = 1, 1, 1
    target = torch.zeros(1, 2, 8, 8)
    target[:, 0, 0, 0] = 3.0  # error 9 on the one vertex pixel, of 32 edge and 64 fill pixels
    counts = torch.ones(1, 1, 8, 8)
    loss = recipe.displacement_loss(torch.zeros_like(target), target, rasters, counts)
    assert float(loss) == pytest.approx((0.1 * 9 / 64 + 1 * 9 / 32 + 10 * 9) / 11.1, rel=1e-5)
    assert recipe.displacement_loss(torch.zeros_like(target), target, rasters, 0 * counts) == 0
    assert recipe.displacement_loss(torch.zeros_like(target), target, 0 * rasters, counts) == 0  # ground is free


def test_segmentation_loss_is_0_for_the_truth_and_skips_what_does_not_count() -> None:
    segments = (torch.rand(2, 3, 8, 8) > 0.5).float()
    counts = torch.ones(2, 1, 8, 8)
    counts[..., :2] = 0
    logits = torch.cat([1 - segments[:, :1], segments], 1) * 40 - 20
    logits[..., :2] *= -1
    assert float(recipe.segmentation_loss(logits, segments, counts)) < 1e-6
    assert float(recipe.segmentation_loss(logits, segments, 1 - counts)) > 10


def test_coarse_levels_know_what_their_pixels_cover(prepared: patches.PreparedScene) -> None:
    batch = to_batch([pair_of(prepared, 3, output=32)])
    for level in (0, 1, 2):
        known, side = recipe.at_level(batch, level), 32 >> level
        assert known["target"].shape == (2, 2, side, side) and known["segments"].shape == (2, 3, side, side)
        assert known["counts"].shape == (2, 1, side, side)
    fine = cropped(batch["counts"], 32, 32)
    coarse = recipe.at_level(batch, 2)["counts"][:1]
    assert torch.equal(coarse, (F.avg_pool2d(fine, 4) == 1).float())


def test_every_weight_gets_a_gradient_and_coarse_levels_fade(prepared: patches.PreparedScene) -> None:
    torch.manual_seed(0)
    network = SuccessorUNet(0.125)
    batch = to_batch([pair_of(prepared, 1, output=16, drop=False)])
    with_coarse = recipe.losses(network, batch, 0.5, 10.0, 0.5)
    plain = recipe.losses(network, batch, 0.5, 10.0, 0.0)
    assert all(torch.isfinite(value) for value in with_coarse.values())
    assert with_coarse["loss"] > plain["loss"] and with_coarse["error"] == plain["error"]
    torch.testing.assert_close(plain["loss"], plain["error"] + 10 * plain["segmentation"])
    with_coarse["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_scores_of_a_perfect_and_of_a_blind_segmentation(prepared: patches.PreparedScene) -> None:
    batch = to_batch([pair_of(prepared, 1, output=32)])
    segments = cropped(batch["segments"], 32, 32)
    truth = torch.cat([1 - segments[:, :1], segments], 1)
    perfect = recipe.building_scores(Level(batch["target"], truth * 2 - 1), batch)
    assert perfect == {"iou_fill": 1.0, "iou_edge": 1.0, "auc": 1.0}
    assert recipe.auc(torch.tensor([0.1, 0.9, 0.5, 0.3]), torch.tensor([False, True, False, True])) == 0.75
    assert recipe.auc(torch.tensor([0.1, 0.9]), torch.tensor([True, True])) == 0.5


def test_the_recipe_runs_logs_and_resumes(
    tmp_path: Path, prepared: patches.PreparedScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "prepare_all", lambda data: ([prepared], prepared))
    monkeypatch.setattr(recipe, "field_bank", lambda seed: [FIELD])
    out = tmp_path / "out"
    for steps in (1, 2):
        recipe.main(tmp_path, out, steps=steps, width=0.125, batch=1, output=8, curriculum=2, evaluate_every=2)
    (line,) = [json.loads(text) for text in (out / "log.jsonl").read_text().splitlines()]
    assert line["step"] == 2
    assert {"ratio_1", "ratio_8", "iou_fill", "iou_edge", "auc", "auc_alone"} <= set(line["evaluation"])
    assert all(0 <= value < 3 for value in line["evaluation"].values())
    assert load_network(out, SuccessorUNet(0.125)) == 2
