"""Towns of many bands and the two-step schedule: what shows where, what is frozen when, the card that comes out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from catalogs.cards import ModelCard, load_card, load_weights, save_card, takes
from models.ternausnet import TernausNetV2
from training.chips import stretch
from training.city_bands import TELLS, TOP, BandTown, band_town, write_town
from training.recipes import instances_bands
from training.recipes.instances_bands import batch, colour, epoch_steps, parse, plate, widened

TINY = {"bands": 3, "stem": 8, "encoder": [[1, 8, 8]], "decoder": [[8, 8], [8, 8]], "head": 8}
SIDE, GSD = 256, 0.3


@pytest.fixture(scope="module")
def town() -> BandTown:
    return band_town((SIDE, SIDE), GSD, 3, 8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = TernausNetV2(**TINY)  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("models")
    save_card(
        folder, name="tiny", task="mask", network="ternausnet", settings=TINY, bands=3, gsd=(0.2, 0.6), native_gsd=GSD,
        classes=("building", "touching"), halo=network.halo, stride=network.stride, licence="Apache-2.0",
        trained_on=("nothing",), evaluated_on=(), scores={}, fails=(), weights=network.state_dict(),
    )  # fmt: skip
    return folder


def against_roofs(town: BandTown) -> np.ndarray:
    """Correlation of each stretched band with the true roofs."""
    image = stretch(town.image, np.ones(town.labels.shape, bool))
    return np.array([np.corrcoef(band.ravel(), (town.labels > 0).ravel())[0, 1] for band in image])


def test_a_town_is_11_bits_in_16_and_only_one_band_shows_it(town: BandTown) -> None:
    assert town.image.shape == (8, SIDE, SIDE) and town.image.dtype == np.uint16
    assert town.image.min() >= 1 and town.image.max() == TOP == 2047
    assert town.labels.max() > 5 and 0.02 < (town.labels > 0).mean() < 0.6
    shown = against_roofs(town)
    assert shown[TELLS] > 0.8
    assert np.abs(np.delete(shown, TELLS)).max() < 0.25  # two towns of few houses agree by chance


def test_over_many_towns_rgb_knows_nothing_of_the_roofs() -> None:
    mean = np.mean([against_roofs(band_town((SIDE, SIDE), 0.6, seed, 4))[:3] for seed in range(20, 25)], axis=0)
    assert np.abs(mean).max() < 0.1


def test_more_bands_leave_the_town_and_its_first_bands_as_they_are(town: BandTown) -> None:
    more, fewer = band_town((SIDE, SIDE), GSD, 3, 11), band_town((SIDE, SIDE), GSD, 3, 3)
    np.testing.assert_array_equal(more.image[:8], town.image)
    np.testing.assert_array_equal(fewer.image, town.image[:3])
    np.testing.assert_array_equal(more.labels, town.labels)
    hidden = band_town((SIDE, SIDE), GSD, 3, 8, tells=None)
    assert np.abs(against_roofs(hidden)).max() < 0.25
    assert not np.array_equal(band_town((SIDE, SIDE), GSD, 4, 3).image, fewer.image)


def test_a_written_town_is_its_pixels_and_its_outlines(town: BandTown, tmp_path: Path) -> None:
    import geopandas
    import rasterio
    from rasterio.features import rasterize

    image, truth = write_town(town, tmp_path / "town")
    with rasterio.open(image) as source:
        np.testing.assert_array_equal(source.read(), town.image)
        rows = geopandas.read_parquet(truth)
        drawn = rasterize(list(rows.geometry), out_shape=town.labels.shape, transform=source.transform, dtype="uint8")
    assert ((drawn > 0) == (town.labels > 0)).mean() > 0.995
    assert rows.geometry.is_valid.all() and (rows.area >= 4).all() and rows.crs.to_epsg() == 32645


def test_crops_are_seeded_bounded_and_cut_alike(town: BandTown) -> None:
    plates = [plate(town)]
    assert plates[0].shape == (10, SIDE, SIDE)
    first, again, other = (batch(plates, 6, 96, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(first[0], other[0])
    image, target, weight = first
    assert image.shape == (6, 8, 96, 96) and target.shape == weight.shape == (6, 2, 96, 96)
    assert image.min() >= 0 and image.max() <= 1 and set(target.unique().tolist()) == {0.0, 1.0}
    assert not weight[:, :, :8].any() and not weight[..., -8:].any() and weight[:, :, 8:-8, 8:-8].all()
    for crop, roofs in zip(image[:, TELLS], target[:, 0] > 0, strict=True):
        assert not roofs.any() or crop[roofs].mean() > crop[~roofs].mean() + 0.2


def test_colour_keeps_order_within_a_crop_and_treats_bands_alike() -> None:
    image = torch.linspace(0.3, 0.6, 50).view(1, 1, 5, 10).repeat(2, 4, 1, 1)
    changed = colour(image, np.random.default_rng(0))
    assert torch.equal(changed[:, 0], changed[:, 3]) and not torch.equal(changed[0], changed[1])
    assert (changed[:, 0].flatten(1).diff() >= 0).all()


def test_an_epoch_covers_the_towns_once() -> None:
    plates = [torch.empty(10, 448, 448, device="meta")] * 3
    assert epoch_steps(plates, crop=224, size=4) == 3  # 12 crops
    assert epoch_steps(plates, crop=224, size=5) == 3
    assert epoch_steps(plates, crop=1000, size=5) == 1


def test_the_two_steps_of_the_schedule(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances_bands, "EVALUATION_SEEDS", (900,))
    monkeypatch.setattr(instances_bands, "EVALUATION_SIDE", SIDE)
    out = tmp_path / "out"
    given = ["--out", str(out), "--bands", "8", "--init", "tiny", "--models", str(models), "--towns", "1",
             "--side", str(SIDE), "--crop", "64", "--size", "4", "--steps", "6"]  # fmt: skip
    start = widened(load_card("tiny", models), 8).state_dict()

    instances_bands.main(**parse(given))
    steps = json.loads((out / "frozen" / "checkpoint.json").read_text())["step"]
    assert steps == 4  # 16 crops of 64 px cover 256 × 256 px
    frozen, trained = (loaded(out / part, start) for part in ("frozen", "all"))
    encoder = [name for name in start if name.startswith(("stem.", "encoder."))]
    assert encoder and all(torch.equal(frozen[name], start[name]) for name in encoder)
    assert any(not torch.equal(frozen[name], start[name]) for name in start if name.startswith("decoder."))
    assert not frozen["stem.weight"][:, 3:].any() and trained["stem.weight"][:, 3:].abs().amin((0, 2, 3)).gt(0).all()
    assert not torch.equal(trained["encoder.0.0.norm1.running_mean"], start["encoder.0.0.norm1.running_mean"])

    instances_bands.main(**parse(given))  # finished: nothing more to do
    for part, before in (("frozen", frozen), ("all", trained)):
        assert all(torch.equal(value, before[name]) for name, value in loaded(out / part, start).items())

    figures = instances_bands.main(**parse([*given, "--save", str(tmp_path / "cards")]))
    assert list(figures) == ["start", "frozen", "all", "calibrated"]
    assert figures == json.loads((out / "figures.json").read_text())
    assert all(0 <= scores["f1"] <= 1 and scores["buildings"] > 3 for scores in figures.values())
    card: ModelCard = load_card("instances-drawn-8", tmp_path / "cards")
    assert card.bands == 8 and takes(card, 8) and not takes(card, 3) and card.settings == {**TINY, "bands": 8}
    rebuilt = TernausNetV2(**card.settings)
    rebuilt.load_state_dict(load_weights(card))
    assert torch.equal(rebuilt.stem.weight, trained["stem.weight"])
    shifts = torch.tensor([figures["calibrated"][name] for name in ("mask", "touching")])
    torch.testing.assert_close(rebuilt.final.bias.detach(), trained["final.bias"] + shifts)
    assert 0 <= figures["start"]["mask_iou"] <= 1


def loaded(folder: Path, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    from training.loop import load_network

    network = TernausNetV2(**{**TINY, "bands": like["stem.weight"].shape[1]})  # type: ignore[arg-type]
    load_network(folder, network)
    return network.state_dict()
