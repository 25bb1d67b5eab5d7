"""Drawn scenes of roads, patches of classes and chips of roads, and what is learned from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.line_reader import LineReader
from training import chips_roads
from training.chips_roads import Scenes, batch_of, cut_chip, cut_some, drawn_field, road_field
from training.city_roads import KINDS, road_scene
from training.deform import gaussian_field
from training.patches_classes import cut_classes, prepare_classes, to_batch, with_vertices
from training.recipes.alignment_classes import ALONG, ClassesTrainee, across_loss, losses
from training.recipes.alignment_roads import columns, fold, near_loss, overlap, perceptron, read
from training.roads_by_hand import drawn_lines


@pytest.mark.parametrize("kind", sorted(set(KINDS)))
def test_a_scene_is_what_its_seed_says(kind: str) -> None:
    one, again, other = (road_scene(160, 0.6, seed, kind) for seed in (3, 3, 4))
    assert np.array_equal(one.image, again.image) and not np.array_equal(one.image, other.image)
    assert one.image.shape == (3, 160, 160) and one.image.min() > 0
    assert len(one.roads) > 0 and all(len(line) > 1 for line in one.roads)
    for line in one.roads:
        assert np.hypot(*np.diff(line, axis=0).T).max() <= 15 / 0.6 + 30  # a vertex each 12 m, before the bend


def test_roads_are_drawn_where_they_are_said_to_run() -> None:
    scene = road_scene(400, 0.4, 5, "country")
    near = road_field(scene, scene.labelled, 0.4, 1.0).near
    gray = scene.image.mean(0)
    for line in scene.roads:
        at = np.floor(line).astype(int)
        at = at[((at >= 5) & (at < 395)).all(1)]
        assert (near[at[:, 1], at[:, 0]] > 150).all()
    assert 0.005 < (near > 128).mean() < 0.2 and gray.std() > 2


def test_vertices_are_added_on_the_line() -> None:
    line = np.array([[0.0, 0], [10, 0], [10, 3]])
    found = with_vertices(line, 4.0)
    assert found.tolist() == [[0, 0], [10 / 3, 0], [20 / 3, 0], [10, 0], [10, 3]]


def test_a_pair_is_moved_off_by_a_field_and_its_opposite() -> None:
    scene = road_scene(400, 0.5, 6, "streets")
    prepared = prepare_classes(scene, scene.labelled)
    rng = np.random.default_rng(0)
    pair = cut_classes(prepared, rng, gaussian_field(rng), output=32, halo=32, coarsest=1.0, show=(True, True))
    assert pair.drawn.shape == (2, 2, 96, 96) and pair.target.shape == (2, 32, 32)
    assert pair.drawn[:, 1].max() == 1 and pair.truth[1].max() == 1
    # a road's pixels as drawn, moved by the target there, lie on the true road
    y, x = np.nonzero(pair.drawn[0, 1, 32:64, 32:64] == 1)
    assert len(y) > 20
    place = np.column_stack([x, y]) + 32 + pair.target[:, y, x].T
    cell = np.round(place).astype(int).clip(0, 95)
    true = np.pad(pair.truth[1], 1)
    around = np.stack([true[cell[:, 1] + 1 + dy, cell[:, 0] + 1 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    assert (around.max(0) == 1).mean() > 0.95


def test_along_a_line_errors_hardly_count() -> None:
    across = torch.zeros(1, 3, 4, 4)
    across[:, 2] = 1  # normals up: the line runs from left to right
    wrong = torch.zeros(1, 2, 4, 4)
    wrong[:, 0] = 3.0
    assert float(across_loss(wrong, torch.zeros_like(wrong), across)) == pytest.approx(9 * ALONG)
    assert float(across_loss(wrong.flip(1), torch.zeros_like(wrong), across)) == pytest.approx(9 * (1 + ALONG))


def test_a_step_of_the_classes_lowers_what_it_is_trained_on() -> None:
    torch.manual_seed(0)
    scene = road_scene(300, 0.6, 7, "streets")
    prepared, rng = prepare_classes(scene, scene.labelled), np.random.default_rng(1)
    pairs = [cut_classes(prepared, rng, gaussian_field(rng), output=16, halo=32, coarsest=1.2) for _ in range(2)]
    batch, trainee = to_batch(pairs), ClassesTrainee()
    optimiser = torch.optim.Adam(trainee.parameters(), 1e-3)
    first = losses(trainee, batch, 1.0, 5.0)
    assert float(first["lines_zero"]) > 0
    for _ in range(12):
        optimiser.zero_grad()
        figures = losses(trainee, batch, 1.0, 5.0)
        figures["loss"].backward()
        optimiser.step()
    assert float(figures["loss"].detach()) < 0.95 * float(first["loss"].detach())


def test_pixels_are_read_as_the_network_reads_them() -> None:
    torch.manual_seed(0)
    scene, rng = road_scene(300, 0.6, 8, "streets"), np.random.default_rng(2)
    field = road_field(scene, scene.labelled, 0.6, 1.0)
    image, near, known = batch_of([cut_chip(field, rng, 16, 80) for _ in range(2)])
    assert image.shape == (2, 3, 176, 176) and near.shape == known.shape == (2, 1, 16, 16)
    assert float(image.min()) >= 0 and float(image.max()) <= 1
    network = LineReader(6).eval()
    with torch.no_grad():
        column = columns(network, image, 16)
        seen = network(image)[:, 0]
        torch.testing.assert_close(read(network, column.flatten(0, 2)).view_as(seen), seen, rtol=1e-4, atol=1e-5)
        mean, spread = column.flatten(0, 2).mean(0), column.flatten(0, 2).std(0).clamp_min(1e-3)
        before = read(network, (column.flatten(0, 2) - mean) / spread).view_as(seen)
        fold(network, mean, spread)
        torch.testing.assert_close(network(image)[:, 0], before, rtol=1e-3, atol=1e-4)
    assert float(near_loss(8 * near - 4, near, known)) < float(near_loss(4 - 8 * near, near, known))
    assert float(overlap(torch.full_like(near, -20), near, known)) < 1e-3


def test_drawn_scenes_are_new_as_training_goes_and_the_same_when_it_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chips_roads, "real_fields", lambda data: [])
    monkeypatch.setattr(chips_roads, "POOL", 3)
    monkeypatch.setattr(chips_roads, "FRESH", 2)
    scenes, resumed = (Scenes(Path("none"), 200) for _ in range(2))
    first, same, later = scenes.at(0), scenes.at(1), scenes.at(2)
    assert [a.image is b.image for a, b in zip(first, same, strict=True)] == [True] * 3
    assert later[0].image is first[1].image and later[1].image is first[2].image
    assert np.array_equal(later[2].image, drawn_field(3, 200).image)
    again = resumed.at(2)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(later, again, strict=True))
    assert sum(field.share for field in again) == pytest.approx(1)
    chips = cut_some(again, np.random.default_rng(0), 3, 16, 80)
    assert [chip[0].shape for chip in chips] == [(3, 176, 176)] * 3


def test_lines_by_hand_lie_in_their_boxes() -> None:
    for name in chips_roads.BY_HAND:
        (x0, y0, x1, y1), lines = drawn_lines(name)
        assert len(lines) >= 4 and all(line.ndim == 2 and len(line) > 1 for line in lines)
        inside = [((line >= (x0, y0)) & (line <= (x1, y1))).all(1).any() for line in lines]
        assert all(inside)


def test_the_perceptron_learns_what_the_maps_show() -> None:
    torch.manual_seed(0)
    network = LineReader(12, 2)
    channels = sum(layer.weight.shape[1] for layer in network.read)
    column = torch.randn(2048, channels) * 3 + 1
    near = (column[:, :60].sum(1) > 60).float()
    before = network.decoder.ups[0][0].weight.clone()
    perceptron(network, column, near, 60, 1e-2)
    assert torch.equal(before, network.decoder.ups[0][0].weight)
    found = torch.sigmoid(read(network, column)) > 0.5
    assert (found == near.bool()).float().mean() > 0.9
