"""The common shift: found where a whole cadaster is off by much, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.stages import common, search
from pipeline.stages.common import Common
from tests.towns import Town, draw_noise, draw_town

SIDE, MARGIN = 1024, 160
"""Every shift that is looked for leaves the outlines inside the image: its edge must not tell."""


def find(town: Town, gsd: float, off: np.ndarray | tuple[float, float] = (0.0, 0.0), blocks: int = 3) -> Common:
    """What the task makes of a cadaster `off` px from the truth, its outlines in a few blocks."""
    factor = common.factor_of(gsd)
    image = town.level(factor)[None]
    tensor = search.structure(image, np.ones(image.shape[1:], bool))
    xy, rated, heard = (town.coords + off) / factor, np.zeros(()), np.zeros(2)
    rings = np.array_split(np.arange(len(town.ring_offsets) - 1), blocks)
    for some in rings:
        offsets = town.ring_offsets[some[0] : some[-1] + 2]
        outlines = xy[offsets[0] : offsets[-1]], offsets - offsets[0]
        said, length = common.ratings(tensor, outlines, some % 2, factor)
        rated, heard = rated + said, heard + length
    return common.decide(rated / heard.sum(), len(town.ring_offsets) - 1, factor)


def local(town: Town, seed: int) -> np.ndarray:
    """Each house a few px off by itself."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.normal(0, 3, (len(town.ring_offsets) - 1, 2)), np.diff(town.ring_offsets), axis=0)


@pytest.mark.parametrize("gsd", [0.15, 0.3, 1.0])
@pytest.mark.parametrize("shift", [(60.0, -45.0), (-88.0, 10.0)])
def test_a_large_shift_is_found_through_local_noise(gsd: float, shift: tuple[float, float]) -> None:
    town = draw_town(SIDE, 0, MARGIN)
    found = find(town, gsd, local(town, 0) - shift)
    assert (found.dx, found.dy) == pytest.approx(shift, abs=12)
    assert found.clear > found.near + common.CLEARER


@pytest.mark.parametrize("off", [(0.0, 0.0), (3.0, -2.0), (-18.0, 12.0), (20.0, 20.0)])
def test_a_true_cadaster_or_one_that_is_near_starts_where_it_lies(off: tuple[float, float]) -> None:
    town = draw_town(SIDE, 1, MARGIN)
    for shift in (np.array(off), local(town, 1) + off):
        found = find(town, 0.3, shift)
        assert (found.dx, found.dy) == (0, 0)
        assert found.clear == found.near > 5


@pytest.mark.parametrize("seed", range(12))
def test_noise_has_no_common_shift(seed: int) -> None:
    found = find(draw_noise(SIDE, seed, MARGIN), 0.3)
    assert (found.dx, found.dy) == (0, 0)


def test_a_few_rows_have_nothing_in_common_and_halves_must_agree() -> None:
    town = draw_town(SIDE, 0, MARGIN)
    few = Town(town.image, town.coords[: town.ring_offsets[10]], town.ring_offsets[:11])
    assert find(few, 0.3, (60.0, -45.0)) == Common(0.0, 0.0, 0.0, 0.0)
    apart = np.where((np.arange(len(town.ring_offsets) - 1) % 2)[:, None], (60.0, -45.0), (-50.0, 70.0))
    off = np.repeat(apart, np.diff(town.ring_offsets), axis=0)
    assert (lambda found: (found.dx, found.dy))(find(town, 0.3, off)) == (0, 0)


def test_an_image_of_nothing_has_no_common_shift() -> None:
    town = draw_town(SIDE, 0, MARGIN)
    blank = Town(np.full_like(town.image, 0.4), town.coords, town.ring_offsets)
    assert find(blank, 0.3) == Common(0.0, 0.0, 0.0, 0.0)


def test_the_blocks_of_a_cadaster_only_add_up() -> None:
    town = draw_town(SIDE, 2, MARGIN)
    one, many = (find(town, 0.3, (50.0, 50.0), blocks) for blocks in (1, 9))
    assert (one.dx, one.dy) == (many.dx, many.dy) != (0, 0)
    assert one.clear == pytest.approx(many.clear, rel=1e-5)


@pytest.mark.parametrize(("gsd", "factor"), [(0.1, 8), (0.25, 4), (0.3, 2), (0.5, 2), (1.0, 1), (5.0, 1)])
def test_the_level_is_the_coarsest_at_which_outlines_tell(gsd: float, factor: int) -> None:
    assert common.factor_of(gsd) == factor
