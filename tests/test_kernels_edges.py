"""Edge evidence against plain loops, peaks against planted ones, blending against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import convolve

from pipeline.kernels import edges, scatter

CLOSED = np.array([[10.3, 11.2], [25.7, 9.4], [27.1, 22.6], [11.8, 24.9], [10.3, 11.2]])
OPEN = np.array([[2.2, 30.6], [20.9, 33.3], [20.9, 33.3], [43.4, 29.2]])  # a doubled vertex; it leaves the raster
RUNS = np.concatenate([CLOSED, OPEN])
OFFSETS = np.array([0, len(CLOSED), len(RUNS)])
SHAPE = (37, 41)
LENGTH = float(np.hypot(*np.diff(CLOSED, axis=0).T).sum())


def structure(seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A random structure (3, h, w): the sum of two gradients' outer products."""
    gx, gy = np.random.default_rng(seed).standard_normal((2, 2, *shape))
    return np.stack([(gx * gx).sum(0), (gx * gy).sum(0), (gy * gy).sum(0)]).astype(np.float32)


def pieces(xy: np.ndarray, offsets: np.ndarray, longest: float) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """(start, end, samples) of every piece of every segment."""
    found = []
    for run in range(len(offsets) - 1):
        points = xy[offsets[run] : offsets[run + 1]]
        for a, b in zip(points[:-1], points[1:], strict=True):
            side = math.dist(a, b)
            parts = math.ceil(side / longest)
            for part in range(parts):
                ends = a + (b - a) * part / parts, a + (b - a) * (part + 1) / parts
                found.append((*ends, math.ceil(side / parts)))
    return found


def heard_of(tensor: np.ndarray, a: np.ndarray, b: np.ndarray, samples: int, reach: int) -> tuple[float, np.ndarray]:
    """px of one piece inside the raster, and its evidence for each shift (y first), one sample after another."""
    (_, height, width), side = tensor.shape, math.dist(a, b)
    nx, ny = (b[1] - a[1]) / side, -(b[0] - a[0]) / side
    said, heard = np.zeros((2 * reach + 1, 2 * reach + 1)), 0.0
    for k in range(samples):
        x, y = a + (b - a) * (k + 0.5) / samples
        column, row = math.floor(x), math.floor(y)
        if not (0 <= column < width and 0 <= row < height):
            continue
        heard += side / samples
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                if 0 <= column + dx < width and 0 <= row + dy < height:
                    xx, xy, yy = tensor[:, row + dy, column + dx].astype(float)
                    across = np.array([nx, ny]) @ np.array([[xx, xy], [xy, yy]]) @ np.array([nx, ny])
                    said[dy + reach, dx + reach] += math.sqrt(max(across, 0)) * side / samples
    return heard, said


def vote(
    tensor: np.ndarray, nodes: tuple[int, int], origin: tuple[float, float], spacing: float, reach: int, piece: float,
    xy: np.ndarray = RUNS, offsets: np.ndarray = OFFSETS,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The kernel's votes and weight on nodes that were empty."""
    votes = np.zeros((*nodes, 2 * reach + 1, 2 * reach + 1), np.float32)
    weight = np.zeros(nodes, np.float32)
    edges.vote(tensor, xy, offsets, reach, piece, np.array(origin), spacing, votes, weight)
    return votes, weight


@pytest.mark.parametrize("piece", [4.0, 6.5, 100.0])
@pytest.mark.parametrize(("nodes", "origin"), [((7, 8), (-8.0, -8.0)), ((2, 3), (9.0, 12.0))])
def test_votes_are_those_of_a_plain_loop(nodes: tuple[int, int], origin: tuple[float, float], piece: float) -> None:
    tensor, reach, spacing = structure(0), 2, 9.0
    votes, weight = vote(tensor, nodes, origin, spacing, reach, piece)
    wanted, heard_at = np.zeros(votes.shape), np.zeros(nodes)
    for a, b, samples in pieces(RUNS, OFFSETS, piece):
        heard, said = heard_of(tensor, a, b, samples, reach)
        u, v = ((a + b) / 2 - origin) / spacing
        for row in range(nodes[0]):
            for column in range(nodes[1]):
                share = max(1 - abs(v - row), 0) * max(1 - abs(u - column), 0)
                wanted[row, column] += share * said
                heard_at[row, column] += share * heard
    assert heard_at.max() > 5
    np.testing.assert_allclose(weight, heard_at, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(votes, wanted, rtol=1e-4, atol=1e-4)


def test_every_pixel_of_outline_has_one_vote_in_all() -> None:
    whole = vote(structure(1), (9, 9), (-9.0, -9.0), 9.0, 1, 5.0, CLOSED, OFFSETS[:2])[1]
    assert whole.sum() == pytest.approx(LENGTH, rel=1e-5)
    some = vote(structure(1), (2, 2), (9.0, 9.0), 9.0, 1, 5.0, CLOSED, OFFSETS[:2])[1]
    assert 0 < some.sum() < LENGTH
    assert (some == whole[2:4, 2:4]).all()


def test_votes_are_added_to_what_is_there() -> None:
    tensor = structure(2)
    once, weight = vote(tensor, (7, 7), (-9.0, -9.0), 9.0, 2, 5.0)
    more, double = once.copy(), weight.copy()
    edges.vote(tensor, RUNS, OFFSETS, 2, 5.0, np.array([-9.0, -9.0]), 9.0, more, double)
    np.testing.assert_allclose(more, 2 * once, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(double, 2 * weight, rtol=1e-5, atol=1e-5)


def test_outlines_outside_the_raster_or_the_nodes_are_left_out() -> None:
    tensor = np.ones((3, 30, 30), np.float32)
    for away in (100.0, -100.0):
        votes, weight = vote(tensor, (40, 40), (-150.0, -150.0), 9.0, 3, 5.0, CLOSED + away, OFFSETS[:2])
        assert not votes.any() and not weight.any()
    votes, weight = vote(tensor, (2, 2), (200.0, 200.0), 9.0, 3, 5.0, CLOSED, OFFSETS[:2])
    assert not votes.any() and not weight.any()


def test_ratings_are_the_means_of_a_plain_loop_by_row() -> None:
    tensor, reach = structure(3), 3
    runs = np.concatenate([CLOSED, OPEN, CLOSED[:, ::-1] + 3, CLOSED + 500])
    offsets, ring_row = np.array([0, 5, 9, 14, 19]), np.array([0, 2, 0, 3])
    volume, length = edges.rate(tensor, runs, offsets, ring_row, 4, reach)
    wanted, heard_at = np.zeros((4, 7, 7)), np.zeros(4)
    for run in range(4):
        points = runs[offsets[run] : offsets[run + 1]]
        for a, b in zip(points[:-1], points[1:], strict=True):
            if math.dist(a, b):
                heard, said = heard_of(tensor, a, b, math.ceil(math.dist(a, b)), reach)
                wanted[ring_row[run]] += said
                heard_at[ring_row[run]] += heard
    np.testing.assert_allclose(length, heard_at, rtol=1e-9)
    assert heard_at[0] > LENGTH and not heard_at[[1, 3]].any() and not volume[[1, 3]].any()
    np.testing.assert_allclose(volume[[0, 2]], wanted[[0, 2]] / heard_at[[0, 2], None, None], rtol=1e-4)


def bump(dx: float, dy: float, reach: int = 8) -> np.ndarray:
    """A volume (1, s, s) with its top at a shift."""
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / 12)[None].astype(np.float32)


@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (2.3, -1.4), (-4.5, 3.75), (0.2, 5.9)])
def test_a_planted_peak_is_found_to_a_fraction_of_a_pixel(dx: float, dy: float) -> None:
    volume = bump(dx, dy)
    found = edges.peaks(volume)[0]
    assert found[:2] == pytest.approx([dx, dy], abs=0.1)
    taps = np.outer([1.0, 2, 1], [1.0, 2, 1])
    inside = convolve(np.ones(volume[0].shape), taps, mode="constant")
    smooth = convolve(volume[0].astype(float), taps, mode="constant") / inside
    score = (smooth - smooth.mean()) / smooth.std()
    assert found[2:] == pytest.approx([score.max(), score[8, 8], smooth.max()], rel=1e-6)
    assert found[2] >= found[3]


def test_volumes_are_judged_one_by_one_and_nothing_is_no_peak() -> None:
    volumes = np.concatenate([bump(3, 1), np.zeros((1, 17, 17), np.float32), bump(-2, 0), np.ones_like(bump(0, 0))])
    found = edges.peaks(volumes)
    assert not found[[1, 3]].any()
    for i in (0, 2):
        assert (found[i] == edges.peaks(volumes[i : i + 1])[0]).all()


def test_a_peak_at_the_border_stays_inside() -> None:
    assert edges.peaks(bump(8.4, -9.0))[0, :2].tolist() == [8, -8]


def test_blend_equals_numpy_and_does_not_depend_on_what_is_out_of_reach() -> None:
    rng = np.random.default_rng(2)
    at, places = rng.random((50, 2)) * 100, rng.random((80, 2)) * 100
    values, weights = rng.random((80, 2)), rng.random(80)
    found = scatter.blend(at, places, values, weights, 8.0, 20.0)
    gap = ((at[:, None] - places) ** 2).sum(-1)
    share = np.where(gap <= 400, weights * np.exp(-0.5 * gap / 64), 0)
    np.testing.assert_allclose(found[:, 2], share.sum(1), atol=1e-12)
    np.testing.assert_allclose(found[:, :2], share @ values / np.maximum(share.sum(1), 1e-300)[:, None], atol=1e-12)
    near = (gap.min(0) < 1e9) & ((gap[:5] <= 400).any(0))
    alone = scatter.blend(at[:5], places[near], values[near], weights[near], 8.0, 20.0)
    assert (alone == found[:5]).all()


def test_blend_far_from_everything_is_nothing() -> None:
    one = np.zeros((1, 2))
    assert not scatter.blend(one + 1000, one, one + 1, np.ones(1), 1.0, 3.0).any()
    assert scatter.blend(one, np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), 1.0, 3.0).shape == (1, 3)
