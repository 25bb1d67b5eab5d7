"""The evidence search: planted fields come back, nothing depends on how a scene is cut, no image is no shift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grid import LEVELS, Window
from pipeline.ragged import offsets_of
from pipeline.scene import BLOCK
from pipeline.stages import search
from pipeline.stages.search import Outlines, Search, plan_searches
from tests.towns import Town, draw_noise, draw_town

SIDE = 768
LINEAR = np.array([[0.004, -0.006], [0.006, 0.003]])
"""A stretch and a turn: 5 px across the town."""


@pytest.fixture(scope="module")
def town() -> Town:
    return draw_town(SIDE, 1)


def search_whole(town: Town, xy: np.ndarray, gsd: float) -> np.ndarray:
    """All passes over the whole town as one block."""
    for step in plan_searches(gsd):
        nodes = step.nodes(Window(0, 0, SIDE, SIDE))
        outlines = [(xy, town.ring_offsets)]
        votes, weight = search.votes_of(step, structure(town, step.factor), (0, 0), outlines, nodes)
        xy, _ = move(step, search.find_shifts(step, votes, weight), nodes, xy)
    return xy


def structure(town: Town, factor: int) -> np.ndarray:
    image = town.level(factor)[None]
    return search.structure(image, np.ones(image.shape[1:], bool))


def move(step: Search, sums: np.ndarray, nodes: Window, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points moved by sums at `nodes`, nothing being known beyond; and the clearness there."""
    margin = step.radius + 2
    wide = np.pad(sums, ((0, 0), (margin, margin), (margin, margin)))
    return search.move(xy, search.field_of(step, wide), nodes.grow(margin), step)


@pytest.mark.parametrize("gsd", [0.15, 0.3, 0.5])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (5.0, -3.0), (-11.3, 7.6), (26.0, -27.0)])
def test_a_constant_shift_is_found(town: Town, gsd: float, shift: tuple[float, float]) -> None:
    found = search_whole(town, town.coords + shift, gsd)
    assert np.hypot(*(found - town.coords).T).max() < 0.3


@pytest.mark.parametrize("gsd", [0.15, 0.3])
def test_a_linear_field_is_found(town: Town, gsd: float) -> None:
    off = (town.coords - SIDE / 2) @ LINEAR.T + (5, -3)
    assert np.ptp(off, axis=0).min() > 4
    error = np.hypot(*(search_whole(town, town.coords + off, gsd) - town.coords).T)
    assert error.max() < 0.5 and error.mean() < 0.2


@given(st.floats(0.05, 3.0))
def test_passes_go_from_wide_to_narrow_on_nodes_that_blocks_hold_whole(gsd: float) -> None:
    plan = plan_searches(gsd)
    assert [each.turn for each in plan] == list(range(1, len(search.REACHES) + 1))
    assert plan[0].factor * plan[0].reach >= search.REACHES[0]
    assert len({each.name for each in plan}) == len(plan)
    for each in plan:
        assert each.factor in LEVELS and (each.factor == 1 or each.factor * gsd <= search.COARSE_M)
        assert BLOCK % each.spacing == 0 and each.spacing.bit_count() == 1
        assert each.spacing % each.factor == 0
    for wide, narrow in zip(plan[:-1], plan[1:], strict=True):
        assert narrow.factor <= wide.factor and narrow.sigma <= wide.sigma
        assert narrow.reach * narrow.factor <= wide.reach * wide.factor


@pytest.mark.parametrize(
    ("gsd", "factors"), [(0.1, [4, 2, 1]), (0.15, [4, 2, 1]), (0.3, [2, 1]), (0.5, [1]), (2.0, [1])]
)
def test_searches_start_where_a_house_still_has_an_outline(gsd: float, factors: list[int]) -> None:
    said = [each.factor for each in plan_searches(gsd)]
    assert said == factors + [1] * (len(said) - len(factors))


def rings(town: Town, which: np.ndarray, off: tuple[float, float] = (3.2, -2.1)) -> Outlines:
    """Some of the town's outlines, a little off."""
    kept = np.repeat(which, np.diff(town.ring_offsets))
    return town.coords[kept] + off, offsets_of(np.diff(town.ring_offsets)[which])


def cut(tensor: np.ndarray, window: Window, factor: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels of a level under a window of level 1, and the first one."""
    y0, x0 = max(window.y0 // factor, 0), max(window.x0 // factor, 0)
    return tensor[:, y0 : -(-window.y1 // factor), x0 : -(-window.x1 // factor)].copy(), (y0, x0)


SMALL = (Search(1, 6, 20.0, 1), Search(2, 6, 40.0, 1), Search(4, 5, 60.0, 1))
"""Passes whose neighbours fit into a small town."""


@pytest.mark.parametrize("step", SMALL, ids=lambda step: step.name)
def test_results_do_not_depend_on_how_outlines_are_divided(town: Town, step: Search) -> None:
    tensor, nodes = structure(town, step.factor), step.nodes(Window(0, 0, SIDE, SIDE))
    count = len(town.ring_offsets) - 1
    owner = np.random.default_rng(0).integers(0, 4, count)
    ways = ([rings(town, np.ones(count, bool))], [rings(town, owner == k) for k in range(4)])
    ends = []
    for blocks in ways:
        votes, weight = search.votes_of(step, tensor, (0, 0), blocks, nodes)
        ends.append(move(step, search.find_shifts(step, votes, weight), nodes, town.coords)[0])
    assert np.abs(ends[0] - town.coords).max() > 1
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("step", SMALL, ids=lambda step: step.name)
def test_what_lies_outside_the_region_has_no_say(town: Town, step: Search) -> None:
    """The image cut at the region, and outlines beyond it left away: the nodes stay the same to the bit."""
    side = max(128, step.spacing)
    nodes = step.nodes(Window(SIDE // 2, SIDE // 2, side, side))
    region = step.region(nodes)
    rng = np.random.default_rng(1)
    count = len(town.ring_offsets) - 1
    coords, offsets = rings(town, np.ones(count, bool))
    low, high = (pick.reduceat(coords, offsets[:-1]) for pick in (np.minimum, np.maximum))
    seen = (low <= (region.x1, region.y1)).all(axis=1) & (high >= (region.x0, region.y0)).all(axis=1)
    assert 20 < seen.sum() < count
    owner = rng.integers(0, 3, count)
    image = town.level(step.factor)
    part, corner = cut(structure(town, step.factor), region, step.factor)
    inside, _ = cut(image[None], region, step.factor)
    alone = search.structure(inside, np.ones(inside.shape[1:], bool))  # its border has no gradients
    assert (alone != part).any()
    sums = []
    for tensor, kept in ((part, np.ones(count, bool)), (alone, seen)):
        blocks = [rings(town, (owner == k) & kept) for k in range(3)]
        votes, weight = search.votes_of(step, tensor, corner, blocks, nodes)
        sums.append(search.find_shifts(step, votes, weight))
    assert sums[0][2].all()
    assert (sums[0] == sums[1]).all()


def test_blocks_of_nodes_are_those_of_the_whole(town: Town) -> None:
    step, whole = SMALL[0], Window(0, 0, SIDE, SIDE)
    tensor, outlines = structure(town, 1), rings(town, np.ones(len(town.ring_offsets) - 1, bool))
    wanted = search.find_shifts(step, *search.votes_of(step, tensor, (0, 0), [outlines], step.nodes(whole)))
    for y0 in (0, 384):
        nodes = step.nodes(Window(y0, 384, 384, 384))
        part, corner = cut(tensor, step.region(nodes).clip((SIDE, SIDE)), 1)
        found = search.find_shifts(step, *search.votes_of(step, part, corner, [outlines], nodes))
        np.testing.assert_allclose(found, wanted[(slice(None), *nodes.slices())], rtol=1e-3, atol=1e-2)


def test_shared_vertices_move_alike_and_points_beyond_all_nodes_stay() -> None:
    rng = np.random.default_rng(0)
    step, nodes = Search(1, 6, 20.0, 1), Window(-4, -4, 40, 40)
    sums = np.zeros((4, 40, 40), np.float32)
    sums[:, 16:28, 16:28] = rng.random((4, 12, 12), np.float32) + 0.5
    field = search.field_of(step, sums)
    xy = np.array([[130.0, 140.0], [122.25, 191.5], [130.0, 140.0], [-90.0, -90.0]])
    found, clear = search.move(xy, field, nodes, step)
    assert (found[0] == found[2]).all() and clear[0] == clear[2] > 0
    assert (found[:2] != xy[:2]).all()
    assert (found[3] == xy[3]).all() and clear[3] == 0
    one_by_one = [search.move(xy[i : i + 1], field, nodes, step)[0][0] for i in range(4)]
    assert (found == one_by_one).all()


def test_nodata_gives_no_votes(town: Town) -> None:
    step, side = SMALL[0], SIDE // 2
    valid = np.ones((SIDE, SIDE), bool)
    valid[:, side:] = False
    tensor = search.structure(town.image[None] * valid, valid)
    assert tensor[:, :, : side - 10].any(axis=0).mean() > 0.9
    assert not tensor[:, :, side - 4 :].any()  # the edge of the data is no edge of a house
    nodes = step.nodes(Window(0, 0, SIDE, SIDE))
    outlines = rings(town, np.ones(len(town.ring_offsets) - 1, bool))
    votes, weight = search.votes_of(step, tensor, (0, 0), [outlines], nodes)
    sums = search.find_shifts(step, votes, weight)
    far = side // step.spacing + 2 * step.radius
    assert sums[2, :, : side // step.spacing].any()
    assert not votes[:, far:].any() and not sums[:, :, far:].any()


def clearness(town: Town, step: Search) -> np.ndarray:
    """Clearness at the vertices after one pass."""
    tensor, nodes = structure(town, step.factor), step.nodes(Window(0, 0, SIDE, SIDE))
    votes, weight = search.votes_of(step, tensor, (0, 0), [(town.coords, town.ring_offsets)], nodes)
    return move(step, search.find_shifts(step, votes, weight), nodes, town.coords)[1]


def test_noise_is_less_clear_than_a_town(town: Town) -> None:
    step = plan_searches(0.3)[0]
    noise = clearness(draw_noise(SIDE, 1), step)
    assert noise.min() >= 0 and noise.max() < 4.5
    assert clearness(town, step).min() > 6
