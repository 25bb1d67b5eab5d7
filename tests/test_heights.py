"""Heights from two views: the geometry, its uncertainty, a building's own line, and a drawn town end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flows.cli_heights import _view
from pipeline.errors import InputError, SettingsError
from pipeline.heights import View, check_views, sigma_of, solve, spread_of
from pipeline.heights_line import read_profile
from pipeline.heights_survey import survey_heights
from training.city_views import draw_view, town, write_views

A, B = View(150, 68), View(330, 72)


def test_a_roof_leans_away_from_the_satellite() -> None:
    assert View(180, 45).parallax == pytest.approx([0, 1])  # seen from the south, it leans north
    assert View(90, 45).parallax == pytest.approx([-1, 0])
    assert View(0, 90).parallax == pytest.approx([0, 0])


@pytest.mark.parametrize("azimuth", [0.0, 37.0, 250.0])
def test_one_azimuth_gives_the_published_geometry(azimuth: float) -> None:
    a, b = View(azimuth, 50), View(azimuth, 75)
    away = -np.array([np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))])
    d = np.array([3.0, 10.0])
    shift = d[:, None] * away
    alpha, beta = np.tan(np.radians([50, 75]))
    found = solve(shift, np.zeros_like(shift), np.ones(2), np.ones(2), a, b)
    assert found.height == pytest.approx(d * alpha * beta / (beta - alpha))


def test_exact_shifts_give_height_and_error_back() -> None:
    rng = np.random.default_rng(0)
    height, error = rng.uniform(-2, 40, 50), rng.normal(0, 2, (50, 2))
    shifts = [error + height[:, None] * view.parallax for view in (A, B)]
    found = solve(*shifts, rng.uniform(0.5, 2, 50), rng.uniform(0.5, 2, 50), A, B)
    assert found.height == pytest.approx(height)
    assert found.error == pytest.approx(error)
    assert np.abs(found.residual).max() < 1e-9


@pytest.mark.parametrize("views", [(A, B), (View(120, 66), View(220, 66)), (View(150, 80), View(150, 58))])
def test_sigma_covers_what_noise_does(views: tuple[View, View]) -> None:
    rng = np.random.default_rng(1)
    height, n = rng.uniform(3, 40, 4000), 4000
    sigma = [rng.uniform(0.3, 2, n) for _ in views]
    pairs = zip(views, sigma, strict=True)
    shifts = [height[:, None] * view.parallax + rng.normal(0, 1, (n, 2)) * s[:, None] for view, s in pairs]
    found = solve(*shifts, *sigma, *views)
    off = np.abs(found.height - height) / found.sigma
    assert (off < 1).mean() == pytest.approx(0.683, abs=0.03)
    assert (off < 2).mean() == pytest.approx(0.954, abs=0.015)
    assert spread_of(found.residual, *sigma) == pytest.approx(1, abs=0.05)
    assert spread_of(3 * found.residual, *sigma) == pytest.approx(3, abs=0.15)


def test_confidence_is_a_sigma_and_the_gate_adds_a_pixel() -> None:
    chance = np.array([0.3, 0.9])
    sigma = sigma_of(chance, np.array([True, True]), 0.5)
    assert sigma[0] > sigma[1]
    assert 1 - np.exp(-((2 * 0.5) ** 2) / (2 * sigma**2)) == pytest.approx(chance)
    left = sigma_of(chance, np.array([False, False]), 0.5)
    assert left == pytest.approx(np.hypot(sigma, 0.5))


@pytest.mark.parametrize("views", [(A, View(150, 67)), (View(20, 60), View(21, 60)), (View(0, 90), View(180, 90))])
def test_a_small_base_is_refused(views: tuple[View, View]) -> None:
    with pytest.raises(SettingsError, match="base is too small"):
        check_views(*views)


def test_a_view_is_two_numbers_above_the_horizon() -> None:
    assert _view("--view-a", "150, 68") == A
    for text in ("150", "a,b", "1,2,3"):
        with pytest.raises(SettingsError, match="--view-a"):
            _view("--view-a", text)
    with pytest.raises(SettingsError, match="--view-b"):
        check_views(A, View(10, 5))


def test_a_profile_says_where_its_peak_is_and_how_sure() -> None:
    heights = np.arange(-5.0, 40.0, 0.5)
    peak = np.exp(-((heights - 12.3) ** 2) / 2)
    rival = 0.6 * np.exp(-((heights - 30) ** 2) / 2)
    found, sigma = read_profile(np.stack([0.5 * peak, 0.05 * (peak + rival), 0 * peak]), heights)
    assert found[:2] == pytest.approx([12.3, 12.3], abs=0.1)
    assert sigma[0] < 0.5 < 5 < sigma[1]
    assert np.isnan(found[2]) and np.isnan(sigma[2])


def test_what_is_high_leans_and_the_ground_stays() -> None:
    place = town(256, 0.5, 3, "houses")
    above, aside = draw_view(place, np.zeros(2), 0), draw_view(place, np.array([0.0, 0.5]), 0)
    changed = np.abs(above.astype(int) - aside).sum(0) > 0
    assert 0.05 < changed.mean() < 0.6


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json"):
        survey_heights((tmp_path, tmp_path), (A, B), tmp_path / "h.parquet")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_drawn_town_end_to_end(tmp_path: Path) -> None:
    import geopandas

    from pipeline.run import survey
    from pipeline.settings import load

    place = town(640, 0.5, 5, "houses")
    image_a, image_b, cadaster = write_views(place, (A.parallax, B.parallax), tmp_path)
    for name, image in (("A", image_a), ("B", image_b)):
        survey(load(image=str(image), cadaster=str(cadaster), out=tmp_path / name, stages=("align",),
                    aligner="search", workers=1))  # fmt: skip
    out = tmp_path / "h.parquet"
    said = survey_heights((tmp_path / "A", tmp_path / "B"), (A, B), out, tallest=25)
    assert json.loads(json.dumps(said))["rows"] == len(place.heights)
    rows, before = geopandas.read_parquet(out), geopandas.read_parquet(cadaster)
    assert rows["id"].tolist() == before["id"].tolist() and rows.crs == before.crs
    have = rows["status"].isin(["ok", "unmoved"]).to_numpy()
    assert have.sum() > 60 and rows["height_m"].isna().to_numpy()[~have].all()
    assert rows["reason"].notna().to_numpy()[~have].all()
    assert (rows.geometry.to_wkb()[~have] == before.geometry.to_wkb()[~have]).all()
    off = np.abs(rows["height_m"] - place.heights)[have]
    assert np.median(off) < 0.5
    assert (off < 2 * rows["height_sigma_m"][have]).mean() > 0.85
    error = np.hypot(*(rows[["dx_m", "dy_m"]].to_numpy() - place.error)[have].T)
    assert np.median(error) < 0.5
