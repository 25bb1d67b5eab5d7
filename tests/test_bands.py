"""Images of one to eleven bands: which card sees them, what of them it sees, and a run over eight bands of 11 bits."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
import torch

from catalogs import cards
from models.ternausnet import TernausNetV2
from pipeline.errors import SettingsError
from pipeline.networks import bands_of, seen
from pipeline.prepare import choose_cards
from pipeline.run import Outcome, survey
from pipeline.settings import Settings, load
from tests.images import north_up, write

GSD, SIDE, TELLS = 0.3, 320, 6
TINY = {"stem": 2, "encoder": [[1, 2, 2]], "decoder": [[2, 2], [2, 2]], "head": 2}
HOUSES = [(20 + 60 * i, 15 + 75 * j, 24 + 4 * i, 30) for i in range(5) for j in range(4)]  # y, x, height, width


def reading_one_band(bands: int, tells: int) -> TernausNetV2:
    """A network made by hand: building where the stretched band `tells` is over one half, whatever the others say."""
    network = TernausNetV2(bands, **TINY).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for part in (network.stem.weight, *network.head.parameters(), *network.final.parameters()):
            part.zero_()
        network.stem.weight[0, tells, 1, 1] = 1
        network.head.conv.weight[0, -2, 1, 1] = 1  # the skip connection from the stem comes last
        network.final.weight[0, 0] = 40
        assert network.final.bias is not None
        network.final.bias += torch.tensor([-20.0, -20.0])
    return network


def save(folder: Path, name: str, bands: int, tells: int = 0, **more: object) -> cards.ModelCard:
    network = reading_one_band(bands, tells)
    given: dict[str, object] = {
        "task": "mask", "network": "ternausnet", "settings": {"bands": bands, **TINY}, "bands": bands,
        "gsd": (0.2, 0.6), "native_gsd": GSD, "classes": ("building", "touching"), "halo": network.halo,
        "stride": network.stride, "licence": "Apache-2.0", "trained_on": (), "evaluated_on": (),
        "scores": {"made": 1.0}, "fails": ("made by hand",), "weights": network.state_dict(), **more,
    }  # fmt: skip
    return cards.save_card(folder, name=name, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save(folder, "rgb", 3)
    save(folder, "eight", 8, TELLS)
    save(folder, "eleven", 11, TELLS)
    return folder


def eight_bands() -> np.ndarray:
    """(8, SIDE, SIDE) uint16 of 11 bits: houses in one band, noise in all others."""
    rng = np.random.default_rng(0)
    image = rng.integers(200, 1800, (8, SIDE, SIDE))
    ground = rng.integers(250, 420, (SIDE, SIDE))
    for y, x, h, w in HOUSES:
        ground[y : y + h, x : x + w] = rng.integers(1200, 1500, (h, w))
    image[TELLS] = ground
    image[:, 0, 0] = 2047  # a glint: it would be the maximum that every other pixel is measured against
    return image.astype(np.uint16)


def run(folder: Path, data: np.ndarray, models: Path, **more: object) -> Outcome:
    path = write(folder / "image.tif", data, transform=north_up(353000, 3058000, GSD, GSD), photometric="MINISBLACK")
    return survey(load(image=str(path), out=folder / "out", models=models, workers=1, stages="split", **more))


@pytest.mark.slow
def test_a_run_over_eight_bands_of_11_bits_takes_the_card_of_eight_bands(tmp_path: Path, models: Path) -> None:
    outcome = run(tmp_path, eight_bands(), models)
    assert outcome.exit_status == 0 and outcome.figures["failed"] == []
    said = json.loads((outcome.folder / "run.json").read_text())
    assert said["models"]["mask"]["name"] == "eight"
    found = geopandas.read_parquet(outcome.folder / "buildings.parquet").geometry
    true = [
        shapely.box(353000 + x * GSD, 3058000 - (y + h) * GSD, 353000 + (x + w) * GSD, 3058000 - y * GSD)
        for y, x, h, w in HOUSES
    ]
    assert len(found) == len(true)
    for house in true:
        assert max(house.intersection(one).area / house.union(one).area for one in found) > 0.95


@pytest.mark.slow
def test_rgb_with_a_fourth_band_is_seen_by_the_rgb_card(tmp_path: Path, models: Path) -> None:
    three = eight_bands()[[TELLS, 0, 1]]
    for data, name in ((three, "three"), (np.concatenate((three, eight_bands()[2:3])), "four")):
        (tmp_path / name).mkdir()
        outcome = run(tmp_path / name, data, models)
        assert outcome.exit_status == 0 and outcome.figures["failed"] == []
    a, b = (geopandas.read_parquet(tmp_path / name / "out" / "buildings.parquet") for name in ("three", "four"))
    assert len(a) > 0 and a.geometry.to_wkb().tolist() == b.geometry.to_wkb().tolist()


def settings(models: Path, **more: object) -> Settings:
    return load(image="a.tif", out=Path("out"), models=models, **{"stages": "split", **more})


def test_bands_choose_the_card(models: Path) -> None:
    for bands, name in ((3, "rgb"), (4, "rgb"), (8, "eight"), (11, "eleven")):
        chosen, levels = choose_cards(settings(models), GSD, bands)
        assert chosen["mask"].name == name and levels["mask"] == 1


def test_a_card_of_other_bands_does_not_set_the_level(models: Path, tmp_path: Path) -> None:
    save(tmp_path, "rgb", 3)
    save(tmp_path, "coarse-eight", 8, gsd=(0.5, 1.3), native_gsd=1.0)
    chosen, levels = choose_cards(settings(tmp_path), GSD, 8)
    assert chosen["mask"].name == "coarse-eight" and levels["mask"] == 3.375  # 1 m, not the RGB card's 0.3
    save(tmp_path, "four", 4)
    assert choose_cards(settings(tmp_path), GSD, 4)[0]["mask"].name == "four"  # rather than three of the four


def test_what_no_card_takes_is_refused_by_name(models: Path) -> None:
    with pytest.raises(SettingsError, match=r"image of 5 band.*eight takes 8 band.*eleven takes 11 band.*rgb takes 3"):
        choose_cards(settings(models), GSD, 5)
    with pytest.raises(SettingsError, match=r"--card mask=rgb: takes 3 band\(s\), the image has 8"):
        choose_cards(settings(models, cards={"mask": "rgb"}), GSD, 8)
    assert choose_cards(settings(models, cards={"mask": "eight"}), GSD, 8)[0]["mask"].name == "eight"
    with pytest.raises(SettingsError, match="no such card"):
        choose_cards(settings(models, cards={"mask": "nine"}), GSD, 8)
    with pytest.raises(SettingsError, match="--card coarse=rgb: is a model for mask"):
        choose_cards(settings(models, stages="classify", cards={"coarse": "rgb"}), GSD, 3)
    with pytest.raises(SettingsError, match=r"--card mask=rgb: is for images of 0.2 to 0.6 m a pixel.* has 2 m"):
        choose_cards(settings(models, cards={"mask": "rgb"}), 2.0, 3)


def test_a_stage_without_a_card_can_be_left_out(models: Path) -> None:
    with pytest.raises(SettingsError, match=r"no coarse model fits.*leave classify out: --stages split$"):
        choose_cards(settings(models, stages="classify,refine,split"), GSD, 8)
    with pytest.raises(SettingsError, match=r"takes 3 band\(s\) at 0.2-0.6 m$"):
        choose_cards(settings(models), GSD, 8 + 1)


def test_a_network_sees_the_first_bands_or_their_mean(models: Path) -> None:
    image = np.random.default_rng(0).random((4, 5, 6), dtype=np.float32)
    assert seen(image, 4) is not None and np.array_equal(seen(image, 4), image)
    assert np.array_equal(seen(image, 3), image[:3])
    np.testing.assert_allclose(seen(image, 1), image[:3].mean(0, keepdims=True), rtol=1e-6)
    assert np.array_equal(seen(image[:2], 1), image[:1])
    assert (bands_of("eight", str(models)), bands_of("rgb", str(models))) == (8, 3)
