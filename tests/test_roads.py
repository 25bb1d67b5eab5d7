"""Roads: lines as strips, the network's halo, its evidence in the search. Runs: test_roads_run.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.double_unet import DoubleUNet
from models.double_unet_classes import DoubleUNetClasses
from models.line_reader import LineReader
from pipeline.grid import Window
from pipeline.kernels import edges
from pipeline.kernels.lines import strips
from pipeline.stages import roads
from pipeline.stages.search import Search, find_shifts, votes_of
from tests.test_search import move

SIDE = 512
GSD = 0.6
WHOLE = Window(0, 0, SIDE, SIDE)


def run(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, float)


def cross() -> tuple[np.ndarray, np.ndarray]:
    """Four roads that cross, two each way, with a vertex each 16 px; coords, offsets."""
    at = np.arange(16.0, SIDE - 15, 16)
    lines = [np.column_stack([at, np.full_like(at, y)]) for y in (150.0, 340.0)]
    lines += [np.column_stack([np.full_like(at, x), at]) for x in (170.0, 330.0)]
    return np.concatenate(lines), np.arange(5) * len(at)


def nearness(coords: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(strips(coords, offsets, (SIDE, SIDE), 3.0)[0], (0, 0), 1.5)


def test_a_strip_is_as_wide_as_it_is_said_and_knows_its_normals() -> None:
    drawn = strips(run((-50, 10.5), (80, 10.5), (20.5, 10.5), (20.5, 60)), np.array([0, 2, 4]), (40, 40), 3.0)
    assert drawn[0, :, 5].nonzero()[0].tolist() == [9, 10, 11]
    assert drawn[0, 30].nonzero()[0].tolist() == [19, 20, 21]
    assert drawn[1:, 10, 5].tolist() == [0, 0, 1] and drawn[1:, 30, 20].tolist() == [1, 0, 0]
    assert drawn[1:, 10, 20].tolist() == [0.5, 0, 0.5]
    lean = strips(run((0, 0), (40, 40)), np.array([0, 2]), (40, 40), 3.0)
    assert lean[1:, 20, 20] == pytest.approx([0.5, -0.5, 0.5])
    assert not strips(run((3, 3), (3, 3)), np.array([0, 2]), (8, 8), 3.0).any()


def test_a_pixel_of_a_strip_does_not_know_the_window() -> None:
    rng = np.random.default_rng(0)
    coords = rng.uniform(-300, 400, (40, 2)).round(3)
    whole = strips(coords, np.array([0, 15, 40]), (96, 96), 3.0)
    part = strips(coords - (32, 16), np.array([0, 15, 40]), (40, 50), 3.0)
    assert whole[0].any() and np.array_equal(whole[:, 16:56, 32:82], part)


@pytest.mark.parametrize("decoder", [0, 2])
def test_a_pixel_of_the_reader_sees_no_farther_than_its_halo(decoder: int) -> None:
    torch.manual_seed(0)
    network = LineReader(8, decoder).eval()
    for head in network.decoder.heads if network.decoder is not None else []:
        torch.nn.init.normal_(head.weight)
    image = torch.rand(1, 3, 240, 256)
    with torch.no_grad():
        whole, part = network(image), network(image[..., 24:216, 16:208])
    assert whole.shape == (1, 1, 80, 96)
    torch.testing.assert_close(whole[..., 24:56, 16:48], part, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="multiples of 8"):
        network(image[..., :236])


def test_the_reader_takes_the_branch_of_the_successor() -> None:
    from catalogs.cards import load_card, load_weights

    weights = load_weights(load_card("alignment-successor"))
    gray, coloured = LineReader(8).eval(), LineReader(8, 2).eval()
    gray.start_from(weights)
    coloured.start_from(weights)
    assert torch.equal(gray.branch.blocks[2][2].weight, weights["image_branch.blocks.2.2.weight"].float())
    # what the decoder adds is nothing yet: the perceptron's answer is the same
    for name in ("read", "middle", "head"):
        getattr(coloured, name).load_state_dict(getattr(gray, name).state_dict())
    image = torch.rand(1, 3, 176, 168)
    with torch.no_grad():
        torch.testing.assert_close(coloured(image), gray(image), rtol=0, atol=1e-4)


def test_without_roads_two_classes_answer_as_one() -> None:
    torch.manual_seed(1)
    one, two = DoubleUNet().eval(), DoubleUNetClasses().eval()
    two.start_from(one.state_dict())
    image, drawn = torch.rand(1, 1, 96, 96), (torch.rand(1, 1, 96, 96) > 0.8).float()
    both = torch.cat([drawn, torch.zeros_like(drawn)], 1)
    with torch.no_grad():
        torch.testing.assert_close(two(image, both), one(image, drawn), rtol=0, atol=1e-6)
        both[:, 1, 40:50] = 1
        torch.testing.assert_close(two(image, both), one(image, drawn), rtol=0, atol=1e-6)  # says nothing yet
    with pytest.raises(ValueError, match="2 channels"):
        two(image, drawn)


@pytest.mark.parametrize(("factor", "level"), [(1, 4), (1, 1), (2, 4), (4, 2)])
def test_evidence_is_the_same_whatever_the_region(factor: int, level: int) -> None:
    rng = np.random.default_rng(2)
    near = rng.random((120, 120), dtype=np.float32)
    whole = Window(0, 0, 96 * level // factor // 4 * 4, 96 * level // factor // 4 * 4)
    source = roads.source_window(whole, factor, level)
    wide = np.zeros((source.height, source.width), np.float32)
    wide[2:, 2:] = near[: source.height - 2, : source.width - 2]
    all_of_it = roads.tensor_at(wide, source, whole, factor, level)
    part = Window(7, 13, 21, 17)
    less = roads.source_window(part, factor, level)
    cut = wide[less.y0 + 2 : less.y1 + 2, less.x0 + 2 : less.x1 + 2]
    cut = np.pad(wide, 8)[less.y0 + 10 : less.y1 + 10, less.x0 + 10 : less.x1 + 10]
    assert np.array_equal(roads.tensor_at(cut, less, part, factor, level), all_of_it[:, 7:28, 13:30])


def test_evidence_lies_where_it_was_at_every_level() -> None:
    ramp = np.tile(np.arange(64, dtype=np.float32) / 64, (64, 1))
    for factor, level in ((1, 4), (2, 2), (4, 2)):
        region = Window(8, 8, 4, 4)
        source = roads.source_window(region, factor, level)
        tensor = roads.tensor_at(ramp[source.slices(Window(0, 0, 64, 64))], source, region, factor, level)
        middle = (np.arange(8, 12) + 0.5) * factor / level - 0.5
        np.testing.assert_allclose(np.sqrt(tensor[0, 0]) / roads.GAIN, middle / 64, atol=1e-6)


def test_a_line_contrasts_with_what_is_beside_it_as_much_as_the_map_is_sure() -> None:
    coords, offsets = cross()
    rows = np.arange(4)
    for sure, off, wanted in ((1.0, 0.0, 0.5), (0.1, 0.0, 0.05), (1.0, 6.0, -0.05), (0.0, 0.0, 0.0)):
        near = np.float32(sure) * nearness(coords, offsets)
        tensor = roads.tensor_at(np.pad(near, 2), roads.source_window(WHOLE, 1, 1), WHOLE, 1, 1)
        fit, _ = edges.rate(tensor, coords + (off, off), offsets, rows, 4, 8)
        found = roads.contrasts(fit)
        assert found == pytest.approx([wanted] * 4, abs=0.15 * max(sure, 1e-9))


def found_by(coords: np.ndarray, offsets: np.ndarray, near: np.ndarray, start: np.ndarray) -> np.ndarray:
    xy = start
    for step in (Search(1, 36, 120.0, 1), Search(1, 6, 80.0, 2)):
        nodes = step.nodes(Window(0, 0, SIDE, SIDE))
        at = Window(0, 0, SIDE, SIDE)
        source = roads.source_window(at, 1, 1)
        tensor = roads.tensor_at(np.pad(near, 2), source, at, 1, 1)
        none = votes_of(step, tensor, (0, 0), [], nodes)
        votes, weight, share = roads.votes_with(step, tensor, (0, 0), [(xy, offsets)], nodes, *none)
        assert share[weight > 0].min() == 1
        xy, _ = move(step, find_shifts(step, votes, weight, share * np.float32(roads.PRIOR)), nodes, xy)
    return xy


@pytest.mark.parametrize("shift", [(0.0, 0.0), (9.0, -6.0), (-14.0, 17.0)])
def test_roads_of_two_directions_say_the_whole_shift(shift: tuple[float, float]) -> None:
    coords, offsets = cross()
    found = found_by(coords, offsets, nearness(coords, offsets), coords + shift)
    assert np.hypot(*(found - coords).T).max() < 0.6


def test_along_a_road_alone_nothing_moves() -> None:
    at = np.arange(16.0, SIDE - 15, 16)
    coords, offsets = np.column_stack([at, np.full_like(at, 200.0)]), np.array([0, len(at)])
    near = nearness(run((-99, 200), (SIDE + 99, 200)), np.array([0, 2]))
    found = found_by(coords, offsets, near, coords + (0.0, 11.0))
    middle = slice(8, -8)  # ends of the raster show no road beyond
    assert np.abs(found[middle, 1] - 200).max() < 0.5
    assert np.abs(found[middle, 0] - coords[middle, 0]).max() < 1.5
