"""Levels between those of the pyramid: what their pixels hold, and that no window changes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs import cards
from catalogs.cards import ModelCard
from pipeline import resample, tasks
from pipeline.errors import SettingsError
from pipeline.grid import LEVELS, Window, level_shape
from pipeline.ledger import Ledger
from pipeline.prepare import settle
from pipeline.scene import read_image, read_stretched, read_valid
from pipeline.settings import load
from tests.images import ingest
from tests.test_cards import make
from tests.test_tasks import finish, job, run

BETWEEN = st.integers(9, 8 * 16 - 1).map(lambda eighths: eighths / 8).filter(lambda level: level not in LEVELS)


def naive(image: np.ndarray, valid: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel of the finer level cut into cells so small that each lies in one pixel of `level`."""
    cells, finer = 8 * resample.finer(level), resample.finer(level)
    side = round(cells * level / finer)
    height, width = (-(-cells * length // side) for length in valid.shape)
    inside = np.pad(np.ones_like(valid), [(0, -(-side // cells) + 1)] * 2)
    image, valid = (np.pad(a, [(0, 0)] * (a.ndim - 2) + [(0, -(-side // cells) + 1)] * 2) for a in (image, valid))
    fine = [np.repeat(np.repeat(a, cells, -2), cells, -1).astype(float) for a in (image, valid, inside)]
    image, valid, inside = (
        a[..., : height * side, : width * side].reshape(*a.shape[:-2], height, side, width, side).sum((-3, -1))
        for a in fine
    )
    good = (valid > 0) & (2 * valid >= inside)
    return np.where(good, image / np.maximum(valid, 1), 0), good


@settings(max_examples=60, deadline=None)
@given(BETWEEN, st.integers(1, 23), st.integers(1, 23), st.integers(0, 99))
def test_pixels_are_means_of_the_area_they_cover(level: float, height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    valid = (rng.random((height, width)) < 0.7).astype(np.uint8)
    image = rng.integers(1, 255, (2, height, width)) * valid
    window = Window(0, 0, *level_shape((height, width), level / resample.finer(level)))
    source = resample.source_window(window, level)
    padded = [np.pad(a, [(0, 0)] * (a.ndim - 2) + [(0, source.y1), (0, source.x1)])[..., : source.y1, : source.x1]
              for a in (image, valid, np.ones_like(valid))]  # fmt: skip
    found, good = resample.averaged(*padded, window, level)
    expected, wanted = naive(image, valid, level)
    assert (good == wanted).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_pixel_does_not_depend_on_the_window(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(1, 255, (3, 90, data.draw(st.sampled_from((129, 130)))), dtype=np.uint8)
    image[:, 20:44, 31:77] = 0
    folder = tmp_path_factory.mktemp("scene")
    made, _ = ingest(folder, image, nodata=0)
    level = data.draw(BETWEEN)
    height, width = level_shape(made.shape, level)
    whole = Window(-3, -2, height + 6, width + 5)
    y0, x0 = data.draw(st.integers(-5, height)), data.draw(st.integers(-5, width))
    window = Window(y0, x0, data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40)))
    seen, good = read_stretched(made, level, whole), read_valid(made, level, whole)
    part, part_good = read_stretched(made, level, window), read_valid(made, level, window)
    shared = Window(
        max(y0, whole.y0), max(x0, whole.x0), min(window.y1, whole.y1) - max(y0, whole.y0),
        min(window.x1, whole.x1) - max(x0, whole.x0),
    )  # fmt: skip
    if window.intersects(whole):
        here, there = shared.slices(window), shared.slices(whole)
        assert (part[(slice(None), *here)] == seen[(slice(None), *there)]).all()
        assert (part_good[here] == good[there]).all()
    outside = np.ones(good.shape, bool)
    outside[3 : 3 + height, 2 : 2 + width] = False
    assert not good[outside].any() and not seen[:, good == 0].any()


def test_of_flat_colour_nothing_changes(tmp_path: Path) -> None:
    """A level between shows the colours of the pyramid's, right up to the scene's edge."""
    made, _ = ingest(tmp_path, np.full((3, 70, 50), 90, np.uint8))
    window = Window(0, 0, *level_shape(made.shape, 2.375))
    assert read_valid(made, 2.375, window).all()
    image, valid = read_image(made, 2, Window(0, 0, 35, 25)), read_valid(made, 2, Window(0, 0, 35, 25))
    assert (image == 90).all() and valid.all()


def test_buildings_are_looked_for_at_the_cards_own_pixels(tmp_path: Path) -> None:
    card = make(tmp_path, "fine", gsd=(0.27, 0.6), native_gsd=0.3)
    wanted = {0.075: 4, 0.1: 3, 0.12: 2.5, 0.15: 2, 0.16: 2, 0.2: 1.5, 0.25: 1.25, 0.27: 1, 0.4: 1, 0.6: 1}
    assert {gsd: cards.level_for(card, gsd) for gsd in wanted} == wanted
    coarse = make(tmp_path, "coarse", gsd=(0.6, 1.2), native_gsd=1.0)
    assert [cards.level_for(coarse, gsd) for gsd in (0.3, 0.6, 0.8, 1.2)] == [3.375, 1, 1, 1]
    classes = make(tmp_path, "classes", task="coarse", gsd=(0.27, 0.6), native_gsd=0.3)
    assert cards.level_for(classes, 0.1) in LEVELS  # only buildings: what else there is rests on the pyramid


@given(st.floats(0.1, 2), st.floats(1, 4), st.floats(0, 1), st.floats(0.05, 3))
def test_a_card_that_fits_at_a_level_of_the_pyramid_fits(low: float, wide: float, share: float, gsd: float) -> None:
    range_m = low, low * wide
    card = ModelCard(
        "m", "mask", "ternausnet", {}, 3, range_m, low * wide**share, (), 64, 32, "", (), (), {}, (), "", Path(), {}
    )
    if any(low <= gsd * level <= low * wide for level in LEVELS):
        assert cards.fits(card, gsd, 3)


def test_a_folder_at_other_pixels_is_not_gone_on_with(tmp_path: Path) -> None:
    asked = load(image="city.tif", out=tmp_path, stages="split")
    before = job(tmp_path, identity=asked.identity())
    settle(before, asked)
    settle(before, asked)
    with pytest.raises(SettingsError, match=r"mask at 0.3 m a pixel, now 0.45 m.*--force-new"):
        settle(job(tmp_path, identity=asked.identity(), levels={**before.levels, "mask": 3.0}), asked)


def test_a_block_read_again_brings_the_tiles_that_see_it(tmp_path: Path) -> None:
    work = job(tmp_path, stages=("split",), levels={"mask": 1.5})
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        run(work, ledger)
        block = next(task for task in tasks.expected(work, "ingest", ledger) if task.key == "r0001c0001")
        ledger.append(finish(block, "other"))  # px 2048 to 4096 of level 1: 1365 to 2731 of this one, tiles of 1024
        due = {task.key for task in tasks.due(tasks.expected(work, "mask", ledger), ledger)}
    assert due == {f"r{row:04d}c{column:04d}" for row in (1, 2) for column in (1, 2)}
