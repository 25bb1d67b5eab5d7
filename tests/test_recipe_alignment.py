"""The alignment's samples, its trainee and its chain, on a small drawn city."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.double_unet import DoubleUNet
from pipeline.drawing import draw_cadaster
from training import patches
from training.align_chain import Case, ChainSettings, align, make_case, polygons_of, predict, sample, smooth
from training.align_scores import load_trained, score, settings_for
from training.chips import LabelledScene
from training.deform import gaussian_field, misalign
from training.recipes.alignment import AlignmentTrainee, blends, losses, place_weights, to_batch

FIELD = gaussian_field(np.random.default_rng(0))


def city(side: int = 512) -> LabelledScene:
    """Bright squares of 20 px on a dark ground, one with a hole; the last 40 columns are not valid."""
    rings, polygons = [], [0]
    for y in range(30, side - 60, 60):
        for x in range(30, side - 60, 60):
            rings.append(np.array([[x, y], [x, y + 20], [x + 20, y + 20], [x + 20, y], [x, y]], float))
            if len(polygons) == 1:
                rings.append(rings[-1] * 0.5 + np.array([x + 10, y + 10]) * 0.5)
            polygons.append(len(rings))
    ring_offsets = np.cumsum([0, *map(len, rings)])
    coords = np.concatenate(rings)
    drawn = draw_cadaster(coords, ring_offsets, np.array(polygons), (side, side))
    image = np.repeat((40 + 160 * (drawn > 0))[None], 3, 0).astype(np.uint8)
    valid = np.ones((side, side), bool)
    valid[:, -40:] = False
    return LabelledScene("city", 0.5, image, valid, np.ones_like(valid), coords, ring_offsets, np.array(polygons))


@pytest.fixture(scope="module")
def scene() -> LabelledScene:
    return city()


@pytest.fixture(scope="module")
def prepared(scene: LabelledScene) -> patches.PreparedScene:
    return patches.prepare(scene, scene.labelled)


def test_polygons_are_drawn_as_the_pipeline_draws_them(scene: LabelledScene) -> None:
    whole = [0, *np.cumsum(np.diff(scene.polygon_offsets))]
    rings = np.split(scene.coords + 0.3, scene.ring_offsets[1:-1])
    drawn = patches.draw([rings[a:b] for a, b in zip(whole[:-1], whole[1:], strict=True)], (512, 512))
    expected = draw_cadaster(scene.coords + 0.3, scene.ring_offsets, scene.polygon_offsets, (512, 512))
    np.testing.assert_array_equal(drawn, expected)
    assert drawn[40, 40] == 0 and drawn[33, 33] == 0.5  # the hole


def test_seeds_are_valid_vertices_and_levels_are_halved(prepared: patches.PreparedScene) -> None:
    assert len(prepared.seeds) and prepared.seeds[:, 0].max() < 472
    assert prepared.gray[8].shape == (64, 64) and prepared.counts[2].shape == (256, 256)


@pytest.mark.parametrize("seed", range(8))
def test_the_target_takes_the_drawn_cadaster_to_the_truth(prepared: patches.PreparedScene, seed: int) -> None:
    rng = np.random.default_rng(seed)
    patch, _ = patches.cut(prepared, rng, FIELD, output=64, halo=32, coarsest=1.3)
    assert patch.image.shape == patch.cadaster.shape == patch.truth.shape == (128, 128)
    assert patch.target.shape == (2, 64, 64) and patch.weight.shape == (64, 64)
    assert patch.image.min() >= 0 and patch.image.max() <= 1
    # Pixels of the drawn interior, moved by the target, lie inside or on the edge of the true polygons.
    y, x = np.nonzero(patch.cadaster[32:96, 32:96] == 0.5)
    to = np.stack([x, y], 1) + 32.5 + patch.target[:, y, x].T
    cell = np.clip(np.floor(to).astype(int), 0, 127)
    near = np.max([patch.truth[np.clip(cell[:, 1] + j, 0, 127), np.clip(cell[:, 0] + i, 0, 127)]
                   for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)  # fmt: skip
    assert near.size == 0 or (near > 0).mean() > 0.98


def test_the_truth_lies_on_the_image(prepared: patches.PreparedScene) -> None:
    """Rotation, mirroring and zoom move image and polygons alike: drawn truth and bright pixels agree."""
    for seed in range(12):
        patch, _ = patches.cut(prepared, np.random.default_rng(seed), FIELD, output=32, halo=32, coarsest=1.3)
        seen = (patch.counts > 0) & (patch.truth != 1)
        bright = patch.image > (patch.image[seen].min() + patch.image[seen].max()) / 2
        assert (bright[seen] == (patch.truth[seen] > 0)).mean() > 0.93


def test_weights_count_edges_and_corners_and_nothing_unlabelled(prepared: patches.PreparedScene) -> None:
    patch, _ = patches.cut(prepared, np.random.default_rng(1), FIELD, output=64, halo=32, coarsest=0.5, factor=1)
    values = {round(float(v), 2) for v in np.unique(patch.weight)}
    assert values <= {0.0, 0.02, 0.2, 1.0, 2.0} and {0.02, 1.0, 2.0} <= values


def test_a_batch_has_finite_losses_and_gradients_everywhere(prepared: patches.PreparedScene) -> None:
    torch.manual_seed(0)
    trainee = AlignmentTrainee()
    rng = np.random.default_rng(0)
    batch = to_batch([patches.cut(prepared, rng, FIELD, output=16, halo=32, coarsest=1.3) for _ in range(2)])
    figures = losses(trainee, batch, blend=0.5, auxiliary=1.0)
    assert all(torch.isfinite(value) for value in figures.values())
    figures["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trainee.parameters())
    # the head that is thrown away does not change the field, and pairs share their image
    field, _ = trainee(batch["image"], batch["cadaster"])
    torch.testing.assert_close(field, trainee.network(batch["image"].repeat(2, 1, 1, 1), batch["cadaster"]))
    torch.testing.assert_close(batch["target"][:2], -batch["target"][2:])


def test_places_share_the_patches(prepared: patches.PreparedScene) -> None:
    import dataclasses

    scenes = [dataclasses.replace(prepared, name=name) for name in ("banepa_np", "rio_br_a", "rio_br_c", "other")]
    weights = place_weights(scenes)
    assert weights.sum() == pytest.approx(1) and weights[1] == weights[2]
    assert weights[0] / weights[1] == pytest.approx(0.5 / 0.035)


class Oracle:
    """Stands in for a network: says (1, -2) everywhere."""

    halo = 32

    def __call__(self, image: torch.Tensor, cadaster: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[2] - 64, image.shape[3] - 64
        return torch.tensor([1.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, height, width)


def case_of(scene: LabelledScene) -> Case:
    return make_case(scene, scene.labelled)


def test_a_case_keeps_whole_polygons_and_scores_those_inside(scene: LabelledScene) -> None:
    area = np.zeros((512, 512), bool)
    area[100:300, 140:330] = True
    case = make_case(scene, area)
    assert case.gray[1].shape[0] <= 512 and case.gray[8].shape == tuple(-(-n // 8) for n in case.gray[1].shape)
    assert len(case.coords) % 5 == 0 and 0 < case.scored.sum() < len(case.scored)
    assert len(polygons_of(case, case.coords, 2)) == len(case.polygon_offsets) - 1


def test_steps_move_by_the_field_times_the_factor(scene: LabelledScene) -> None:
    case = case_of(scene)
    for sigma in (0.0, 12.0):
        settings = ChainSettings(steps=((4, sigma), (2, sigma)))
        moved = align(Oracle(), case, case.coords, settings)  # type: ignore[arg-type]
        shift = moved[case.scored] - case.coords[case.scored]
        np.testing.assert_allclose(np.median(shift, axis=0), [6, -12], atol=0.02)


def test_prediction_by_windows_equals_one_large_window() -> None:
    torch.manual_seed(1)
    network = DoubleUNet().eval()
    rng = np.random.default_rng(0)
    gray = rng.random((288, 300), np.float32)
    drawn = (rng.random((288, 300)) > 0.5).astype(np.float32)
    field = predict(network, gray, drawn)
    pad = ((32, 32), (32, 36))
    with torch.no_grad():
        whole = network(*(torch.from_numpy(np.pad(a, pad))[None, None] for a in (gray, drawn)))[0, :, :, :300]
    np.testing.assert_allclose(field, whole.numpy()[:, :288], atol=1e-4)


def test_smoothing_spreads_what_has_weight_and_keeps_constants() -> None:
    field = np.zeros((2, 60, 60), np.float32)
    weight = np.zeros((60, 60), np.float32)
    field[0, 30, 30], weight[30, 30] = 3.0, 1.0
    out = smooth(field, weight, 4.0)
    assert out[0, 33, 27] == pytest.approx(3.0, abs=0.02) and abs(out[1]).max() == 0


def test_sampling_is_bilinear_with_centres_at_a_half() -> None:
    field = np.stack([np.tile(np.arange(10, dtype=np.float32), (8, 1))] * 2)
    xy = np.array([[0.5, 0.5], [3.25, 4.0], [-5.0, 2.0], [99.0, 2.0]])
    np.testing.assert_allclose(sample(field, xy)[:, 0], [0, 2.75, 0, 9], atol=0.02)


def test_a_few_steps_of_the_recipe_run_and_resume(
    tmp_path: Path, scene: LabelledScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.recipes import alignment

    prepared = patches.prepare(scene, scene.labelled)
    monkeypatch.setattr(alignment, "prepare_all", lambda data: ([prepared], prepared))
    monkeypatch.setattr(alignment, "field_bank", lambda seed: [FIELD])
    for steps in (2, 3):
        alignment.main(tmp_path, tmp_path / "out", steps=steps, batch=1, output=8, curriculum=2)
    assert (tmp_path / "out" / "checkpoint.safetensors").exists()


def test_misaligning_and_aligning_with_the_truth_gets_back(scene: LabelledScene) -> None:
    coords = misalign(scene.coords, 8, np.random.default_rng(0))
    assert 0.1 < np.hypot(*(coords - scene.coords).T).mean() <= 8 * 2**0.5


def test_factors_stay_within_what_the_network_has_seen() -> None:
    def factors(gsd: float, largest: float) -> list[int]:
        return [factor for factor, _ in settings_for(gsd, largest).steps]

    assert factors(0.15, 32) == [8, 8, 4, 4, 2, 1] and factors(0.15, 8) == [4, 4, 2, 1]
    assert factors(1.0, 32) == [2, 1] and factors(3.0, 32) == [1]


def test_scores_go_down_as_an_oracle_aligns(scene: LabelledScene) -> None:
    case = case_of(scene)
    rows = score(Oracle(), case, ChainSettings(steps=((1, 12.0),)), 8.0, [0, 1])  # type: ignore[arg-type]
    assert [row["stage"] for row in rows] == ["before", "factor 1"]
    assert rows[0]["mean"] != rows[1]["mean"] and 0 <= rows[0]["within_2"] <= 1


def test_a_checkpoint_gives_the_network_without_its_head(tmp_path: Path) -> None:
    from training.loop import fit

    torch.manual_seed(0)
    trainee = AlignmentTrainee()
    fit(trainee, lambda step, rng: trainee.network.head.bias.sum(), steps=1, lr=0.1, folder=tmp_path, seed=0)
    network = load_trained(tmp_path)
    torch.testing.assert_close(network.head.bias, trainee.network.head.bias)
    torch.testing.assert_close(network.merge2[0].weight, trainee.network.merge2[0].weight)


def test_the_true_raster_is_faded_out_and_gone_at_last() -> None:
    rng = np.random.default_rng(0)
    assert (blends(0, 100, rng, 5) == 1).all()
    middle = blends(150, 100, rng, 400).flatten()
    assert middle.min() == 0 and middle.max() > 0.9 and 0.5 < float((middle == 0).float().mean()) < 0.8
    assert (blends(300, 100, rng, 5) == 0).all() and (blends(0, 0, rng, 5) == 0).all()
