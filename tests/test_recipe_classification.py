from __future__ import annotations

import numpy as np
import pytest
import torch

from models.coarse_fcn import CoarseFCN
from models.refiner import Refiner
from tests.test_targets_classes import scene
from training.city import city
from training.class_fields import city_field, cut_pool, draw_batch, kept_fields, resampled
from training.loop import fit
from training.recipes.classification import evaluate, predict, refiner_pool
from training.targets_classes import BUILDING, ROAD, UNKNOWN, partial_loss

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def field():  # type: ignore[no-untyped-def]
    return city_field(city((280, 280), 0.6, 3, density=0.7))


def test_a_city_is_labelled_completely(field) -> None:  # type: ignore[no-untyped-def]
    share = np.bincount(field.codes.ravel(), minlength=6) / field.codes.size
    assert share[BUILDING] > 0.05 and share[ROAD] > 0.05 and share[3:].sum() == 0


def test_resampled_scene_is_cut_to_its_area() -> None:
    made = scene()
    area = np.zeros((60, 80), bool)
    area[20:40, 20:40] = True
    field = resampled(made, area, 1.0, around=4)
    assert field.codes.shape == (18, 18) and field.image.shape == (3, 18, 18)
    assert (field.codes[4:14, 4:14] != UNKNOWN).all() and (field.codes[:4] == UNKNOWN).all()


def test_batches_are_seeded_and_fit_the_networks(field) -> None:  # type: ignore[no-untyped-def]
    a, b = (
        draw_batch([field], np.ones(1), np.random.default_rng(5), chips=3, side=64, around=30) for _ in range(2)
    )
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert a[0].shape == (3, 3, 124, 124) and a[1].shape == (3, 64, 64)
    assert float(a[0].min()) >= 0 and float(a[0].max()) <= 1
    assert CoarseFCN()(a[0]).shape[-2:] == a[1].shape[-2:]


def test_misregistered_labels_are_other_labels(field) -> None:  # type: ignore[no-untyped-def]
    a, b = (
        draw_batch([field], np.ones(1), np.random.default_rng(5), chips=1, side=64, around=30, misregister=m)[1]
        for m in (0.0, 6.0)
    )
    assert 0.02 < (a != b).float().mean() < 0.7


def test_windows_equal_one_pass(field) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    coarse, refiner = CoarseFCN().eval(), Refiner().eval()
    states = predict(coarse, refiner, field.image)
    assert len(states) == 6 and states[0].shape == (3, 280, 280)
    padded = torch.zeros(1, 3, 280 + 96, 280 + 96)
    padded[..., 48:-48, 48:-48] = torch.from_numpy(field.image).float() / 255
    with torch.no_grad():
        whole = refiner(coarse(padded), padded)[0, :, 18:-18, 18:-18]
    assert torch.allclose(states[-1], whole, atol=1e-4)


def test_a_few_steps_learn_a_city(field, tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    coarse, losses = CoarseFCN(), []

    def loss(step: int, rng: np.random.Generator) -> torch.Tensor:
        image, codes = draw_batch([field], np.ones(1), rng, chips=2, side=64, around=30)
        value = partial_loss(coarse(image), codes, torch.tensor([1.5, 2, 1, 1, 1, 0]))
        losses.append(float(value.detach()))
        return value

    fit(coarse, loss, steps=25, lr=2e-3, folder=tmp_path, seed=0)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    scores = evaluate(coarse.eval(), None, [field])
    assert scores["all"][0]["accuracy"] > 0.4


def test_the_refiner_trains_on_chips_whose_scores_are_kept(field, tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    coarse = CoarseFCN().eval()
    pool = refiner_pool(coarse, [field], np.ones(1), seed=0, chips=4)
    assert len(pool) == 4 and pool[0][0].shape == pool[0][1].shape == (3, 148, 148) and pool[0][2].shape == (128, 128)
    u, image, codes = cut_pool(pool, np.random.default_rng(0), chips=2, side=64, around=10)
    assert u.shape == image.shape == (2, 3, 84, 84) and codes.shape == (2, 64, 64)
    marked = [(torch.ones(3, 40, 40), torch.ones(3, 40, 40), torch.ones(20, 20).long())]
    assert all(bool((x == 1).all()) for x in cut_pool(marked, np.random.default_rng(0), chips=1, side=20, around=10))


def test_fields_are_kept_and_read_back(field, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("training.class_fields.training_fields", lambda data: ([field, field], np.array([0.25, 0.75])))
    kept_fields(tmp_path / "fields.npz", tmp_path)
    monkeypatch.delattr("training.class_fields.training_fields")
    fields, weights = kept_fields(tmp_path / "fields.npz", tmp_path)
    assert weights.tolist() == [0.25, 0.75] and fields[1].name == "city" and fields[1].gsd == 0.6
    assert np.array_equal(fields[1].codes, field.codes) and np.array_equal(fields[0].image, field.image)
