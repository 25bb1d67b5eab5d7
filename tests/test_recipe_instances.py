"""The instance recipe on a scene made here: sampling, a few steps, prediction, splitting, scoring, the card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.ternausnet import TernausNetV2
from training import plates
from training.areas import set_aside, split
from training.chips import LabelledScene
from training.recipes import instances, instances_score
from training.targets import label_image, mask_and_touching

TINY = {"stem": 4, "encoder": [[1, 4, 4]], "decoder": [[4, 4], [4, 4]], "head": 4}


def made_up_scene(name: str = "vegas_us", gsd: float = 0.3, side: int = 160) -> LabelledScene:
    """Pairs of attached bright houses on dark ground."""
    rings, image = [], np.full((3, side, side), 40, np.uint8)
    noise = np.random.default_rng(0).integers(0, 20, image.shape, dtype=np.uint8)
    for y in range(10, side - 24, 30):
        for x in range(10, side - 34, 40):
            for k in range(2):
                x0 = x + 12 * k
                rings.append([(x0, y), (x0 + 12, y), (x0 + 12, y + 16), (x0, y + 16), (x0, y)])
                image[:, y : y + 16, x0 : x0 + 12] = 150 + 60 * k
    count = len(rings)
    everywhere = np.ones((side, side), bool)
    return LabelledScene(
        name=name,
        gsd=gsd,
        image=image + noise,
        valid=everywhere,
        labelled=everywhere.copy(),
        coords=np.array(rings, float).reshape(-1, 2),
        ring_offsets=np.arange(0, 5 * count + 1, 5),
        polygon_offsets=np.arange(count + 1),
    )


def test_a_plate_holds_only_the_training_area() -> None:
    scene = made_up_scene()
    area, held_out = split(scene)
    plate = plates.plate(scene, area, 0.3)
    assert plate.planes.shape == (7, 160, 160)
    np.testing.assert_array_equal(plate.planes[5].numpy() > 0, area)
    assert not (plate.planes[6].numpy() * held_out).any()
    y, x = plate.centres.T
    assert area[y, x].all() and len(y) == area.sum()
    np.testing.assert_array_equal(
        plate.planes[3:5].numpy(),
        mask_and_touching(label_image(scene.coords, scene.ring_offsets, scene.polygon_offsets, area.shape)),
    )


def test_merged_labels_teach_the_mask_only() -> None:
    scene = made_up_scene("rio_br_a", gsd=0.5)
    plate = plates.plate(scene, split(scene)[0], 0.5)
    assert plate.planes[5].all() and not plate.planes[6].any()


def test_fine_scenes_are_averaged_down_and_coarse_ones_stay() -> None:
    image, labels, scale, shape = plates.resample(made_up_scene(gsd=0.15), 0.3)
    assert (scale, shape) == (0.5, (80, 80)) and image.shape == (3, 80, 80) and labels.shape == shape
    assert (labels == 1).sum() == 6 * 8
    assert plates.resample(made_up_scene(gsd=0.5), 0.3)[2:] == (1.0, (160, 160))


def test_batches_are_seeded_bounded_and_blind_at_their_edge() -> None:
    scene = made_up_scene()
    sources = [plates.plates_of(scene, split(scene)[0], (0.2, 0.3, 0.6))]
    assert [round(one.gsd, 2) for one in sources[0]] == [0.3, 0.6]
    shares, gsds = np.ones(1), (0.2, 0.3, 0.6)
    first, again, other = (plates.batch(sources, shares, 3, 64, gsds, np.random.default_rng(s)) for s in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(first[0], other[0])
    image, target, weight = first
    assert image.shape == (3, 3, 64, 64) and target.shape == weight.shape == (3, 2, 64, 64)
    assert image.min() >= 0 and image.max() <= 1 and image.isfinite().all()
    assert set(target.unique().tolist()) <= {0, 1} and set(weight.unique().tolist()) <= {0, 1}
    edge = plates.BORDER
    assert not weight[..., :edge].any() and not weight[..., -edge:, :].any() and weight.any()
    # houses are brighter than the ground in every crop: image and target are cut alike
    for crop, houses in zip(image.mean(1), target[:, 0] > 0, strict=True):
        if houses.any() and not houses.all():
            assert crop[houses].mean() > crop[~houses].mean()


def test_training_runs_learns_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "load_scenes", lambda data, names: [made_up_scene(n) for n in names])
    (tmp_path / "vegas_us").mkdir()
    monkeypatch.setattr(instances, "procedural_scene", lambda: made_up_scene(instances.PROCEDURAL))
    options = {"crop": 64, "size": 2, "lr": 5e-3, "seed": 0, "device": "cpu", "budget_s": None}

    def run(folder: str, steps: int) -> TernausNetV2:
        return instances.train(tmp_path, tmp_path / folder, steps=steps, checkpoint_every=10, settings=TINY, **options)  # type: ignore[arg-type]

    network = run("a", 26)
    run("a", 26)  # finished: nothing more to do
    lines = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in lines)
    again = run("b", 26)
    for a, b in zip(network.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_windows_join_without_a_seam() -> None:
    torch.manual_seed(0)
    network = TernausNetV2(**{"bands": 3, **TINY}).eval()  # type: ignore[arg-type]
    image = np.random.default_rng(0).random((3, 300, 520), dtype=np.float32)
    tiled = instances_score.predict(network, image)
    halo = network.halo
    padded = torch.from_numpy(np.pad(image, ((0, 0), (halo, halo + 4), (halo, halo))))[None]
    with torch.inference_mode():
        whole = torch.sigmoid(network(padded))[0, :, halo : halo + 300, halo:-halo] * 255
    assert tiled.shape == (2, 300, 520)
    assert np.abs(tiled - whole.numpy()).max() < 0.501


def perfect_scores(labels: np.ndarray) -> np.ndarray:
    return mask_and_touching(labels) * np.uint8(255)


def test_the_touching_channel_parts_attached_houses() -> None:
    scene = made_up_scene()
    truth = label_image(scene.coords, scene.ring_offsets, scene.polygon_offsets, (160, 160))
    inside = np.ones(truth.shape, bool)
    area = instances_score.Area("made up", 0.3, perfect_scores(truth), truth, inside)
    split_well = instances_score.score_area(area)
    assert (split_well.f1, split_well.true_positives) == (1, scene.polygons)
    scores = perfect_scores(truth)
    np.testing.assert_array_equal(instances_score.split_reference(scores), instances_score.split_fast(scores))
    merged = instances_score.score_area(area, touching=False, iou=0.6)
    assert merged.true_positives == 0 and merged.false_positives == scene.polygons // 2


def test_calibration_moves_a_timid_border_over_the_cut() -> None:
    scene = made_up_scene()
    truth = label_image(scene.coords, scene.ring_offsets, scene.polygon_offsets, (160, 160))
    timid = mask_and_touching(truth) * np.array([230, 90], np.uint8)[:, None, None]
    area = instances_score.Area("made up", 0.3, timid, truth, np.ones(truth.shape, bool))
    assert instances_score.score_area(area).f1 < 0.7  # each pair is one, at IoU 1/2
    mask, touching = instances_score.calibrate(area)
    assert touching > 0
    assert instances_score.score_area(instances_score._shifted(area, mask, touching)).f1 == 1
    same = instances_score._shifted(area, 0.0, 0.0).scores
    np.testing.assert_array_equal(same, timid)


def test_a_piece_without_a_seed_is_kept_and_small_ones_are_dropped() -> None:
    scores = np.zeros((2, 40, 40), np.uint8)
    scores[:, 5:15, 5:15] = 255  # all of it called touching: no seed
    scores[0, 20:24, 20:24] = 255  # 16 px
    labels = instances_score.split_reference(scores)
    assert labels.max() == 1 and (labels > 0).sum() == 100
    assert instances_score.split_reference(scores, min_px=1).max() == 2


def test_only_instances_mostly_inside_count() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[2:8, 2:8], labels[2:8, 12:18] = 1, 2
    inside = np.zeros((20, 20), bool)
    inside[:, :14] = True
    area = instances_score.Area("half", 0.3, perfect_scores(labels), labels, inside)
    assert instances_score.score_area(area, min_px=20).true_positives == 1


def test_the_card_names_what_it_was_trained_on(tmp_path: Path) -> None:
    from catalogs.cards import load_card, load_weights
    from models.ternausnet import NARROW

    network = TernausNetV2(**NARROW, decoder_norm=True).eval().fold()  # type: ignore[arg-type]
    figures = {"banepa_np.f1": 0.5, "banepa_np.mask_iou": 0.6}
    instances_score.write_card(network, 7, figures, tmp_path, instances.VARIANTS["fine"])
    card = load_card("instances-narrow", tmp_path)
    assert (card.task, card.network, card.halo, card.stride, card.native_gsd) == ("mask", "ternausnet", 96, 16, 0.3)
    assert card.evaluated_on == ("banepa_np (northern block)",) and not set(card.trained_on) & set(card.evaluated_on)
    rebuilt = TernausNetV2(**card.settings)
    rebuilt.load_state_dict(load_weights(card))


def test_areas_are_cut_to_their_part() -> None:
    scene = made_up_scene()
    whole = plates.resample(scene, 0.3)
    trained, held_out = (instances_score.prepare(scene, area, 4, whole) for area in split(scene))
    for ground, area in zip((trained, held_out), split(scene), strict=True):
        assert ground.inside.sum() == area.sum() and ground.image.shape[1:] == ground.inside.shape
    assert set(np.unique(held_out.truth)) < set(range(scene.polygons + 1))


def test_what_calibrates_is_not_trained_on() -> None:
    scene = made_up_scene("banepa_np", side=400)
    trains, calibrates = set_aside(scene, scene.labelled)
    assert not (trains & calibrates).any() and trains.any()
    assert calibrates.sum() == pytest.approx(0.12 * scene.labelled.sum(), rel=0.05)
    gap = int(np.nonzero(calibrates)[0].min()) - int(np.nonzero(trains)[0].max())
    assert gap * scene.gsd >= 10.0
    other = made_up_scene("vegas_us")
    assert set_aside(other, other.labelled)[0].all() and not set_aside(other, other.labelled)[1].any()


def test_the_mask_alone_scores_merged_labels() -> None:
    scene = made_up_scene()
    truth = label_image(scene.coords, scene.ring_offsets, scene.polygon_offsets, (160, 160))
    inside = np.ones(truth.shape, bool)
    half = perfect_scores(truth)
    half[0, :80] = 0
    area = instances_score.Area("rio_br_b", 0.5, half, truth, inside)
    figures = instances_score.figures_of(area)
    assert figures == {"rio_br_b.mask_iou": pytest.approx((truth[80:] > 0).sum() / (truth > 0).sum(), abs=1e-4)}
    assert instances_score.figures_of(instances_score.Area("vegas_us", 0.3, perfect_scores(truth), truth, inside)) == {
        "vegas_us.mask_iou": 1, "vegas_us.f1": 1, "vegas_us.precision": 1, "vegas_us.recall": 1,
        "vegas_us.f1_without_touching": 0.6667,  # a pair as one overlaps one of its two by a half
        "vegas_us.buildings": scene.polygons,
    }  # fmt: skip
