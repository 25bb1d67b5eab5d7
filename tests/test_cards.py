"""Model cards: round trip, refusals, and the schemas that other people's tools read them by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from catalogs import cards
from pipeline.errors import SettingsError


def make(folder: Path, name: str = "toy", **changes: Any) -> cards.ModelCard:
    words: dict[str, Any] = {
        "name": name,
        "task": "mask",
        "network": "ternausnet",
        "settings": {"width": 8},
        "bands": 3,
        "gsd": (0.2, 0.5),
        "native_gsd": 0.3,
        "classes": ("mask", "touching"),
        "halo": 64,
        "stride": 32,
        "licence": "Apache-2.0",
        "trained_on": ("vegas_us",),
        "evaluated_on": ("rio_br_b",),
        "scores": {"iou": 0.5},
        "fails": ("snow",),
        "weights": {"b": torch.arange(4.0), "a": torch.ones(2, 3)},
        "extra": {"steps": 10},
    }
    return cards.save_card(folder, **(words | changes))


def test_a_card_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    card = make(tmp_path)
    assert cards.load_card("toy", tmp_path) == card
    assert cards.list_cards(tmp_path) == [card]
    assert cards.verify_card(card) == []
    weights = cards.load_weights(card)
    assert set(weights) == {"a", "b"} and torch.equal(weights["b"], torch.arange(4.0))


def test_same_words_and_weights_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = make(tmp_path / "1"), make(tmp_path / "2")
    for file in ("card.json", "weights.safetensors"):
        assert (one.folder / file).read_bytes() == (two.folder / file).read_bytes()
    assert sorted(path.name for path in one.folder.iterdir()) == ["card.json", "weights.safetensors"]


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    card = make(tmp_path)
    path = card.folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(SettingsError, match="sha256"):
        cards.load_weights(card)
    assert "sha256" in cards.verify_card(card)[0]
    path.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        cards.load_weights(card)


def test_a_damaged_card_names_its_file(tmp_path: Path) -> None:
    card = make(tmp_path)
    (card.folder / "card.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"card\.json: not a model card"):
        cards.load_card("toy", tmp_path)
    with pytest.raises(SettingsError, match="no such card"):
        cards.load_card("other", tmp_path / "empty")


def test_selection_is_by_task_gsd_and_bands(tmp_path: Path) -> None:
    make(tmp_path, "fine")
    make(tmp_path, "coarser", gsd=(0.25, 0.7), native_gsd=0.5)
    make(tmp_path, "gray", task="alignment", bands=1, gsd=(0.1, 1.2), native_gsd=0.3)
    assert cards.select_card("mask", 0.15, 3, tmp_path).name == "fine"  # level 2 is 0.30 m
    # level 4 is exactly 0.50 m, but a model for coarse images is not the one for a fine image
    assert cards.select_card("mask", 0.125, 4, tmp_path).name == "fine"
    assert cards.select_card("mask", 0.45, 4, tmp_path).name == "coarser"
    assert cards.select_card("alignment", 0.5, 11, tmp_path).name == "gray"
    for gsd, bands in ((3.0, 3), (0.3, 8), (0.3, 1)):
        with pytest.raises(SettingsError, match="fine takes 3 band"):
            cards.select_card("mask", gsd, bands, tmp_path)
    with pytest.raises(SettingsError, match="no model of this task"):
        cards.select_card("refiner", 0.3, 3, tmp_path)


def test_between_two_cards_there_is_no_gap_and_bands_go_first(tmp_path: Path) -> None:
    make(tmp_path, "fine", gsd=(0.2, 0.6), native_gsd=0.3)
    coarse = make(tmp_path, "coarse", gsd=(0.6, 1.2), native_gsd=1.0)
    for gsd in (0.61, 0.7, 0.85, 1.0, 1.2):  # level 2 would be nearer to 1 m, but beyond what the card may see
        assert cards.select_card("mask", gsd, 3, tmp_path).name == "coarse"
        assert cards.level_for(coarse, gsd) == 1
    make(tmp_path, "eight", bands=8, gsd=(0.2, 1.2), native_gsd=0.3)
    make(tmp_path, "gray", bands=1, gsd=(0.2, 1.2), native_gsd=0.9)
    assert cards.select_card("mask", 0.9, 8, tmp_path).name == "eight"


def test_bad_numbers_are_named(tmp_path: Path) -> None:
    problems = cards.verify_card(make(tmp_path, halo=10, native_gsd=9.0, scores={}))
    assert len(problems) == 3
    with pytest.raises(SettingsError, match="none of"):
        make(tmp_path, task="magic")


@pytest.mark.parametrize("task", cards.TASKS)
@pytest.mark.parametrize("bands", [1, 3, 8])
def test_cards_are_valid_stac_items_with_the_mlm_fields(tmp_path: Path, task: str, bands: int) -> None:
    import pystac
    from pystac.extensions.mlm import MLMExtension
    from stac_schemas import problems

    card = make(tmp_path, task=task, bands=bands)
    content = json.loads((card.folder / "card.json").read_text())
    assert problems(content) == []
    item = pystac.Item.from_dict(content)
    model = MLMExtension.ext(item)
    assert model.mlm_name == "toy" and model.architecture == "ternausnet" and model.tasks
    assert model.hyperparameters is not None and model.hyperparameters.to_dict()["halo"] == 64
    assert len(model.input[0].bands) == bands == len(item.assets["weights"].extra_fields["raster:bands"])
    assert model.input[0].input.shape == [-1, bands, 384, 384]
    asset = item.assets["weights"]
    assert "mlm:model" in (asset.roles or []) and asset.extra_fields["mlm:artifact_type"]
    assert asset.extra_fields["file:checksum"] == "1220" + card.sha256


@pytest.mark.parametrize("card", cards.list_cards(), ids=lambda card: card.name)
def test_shipped_cards_can_be_used(card: cards.ModelCard) -> None:
    assert cards.verify_card(card) == []
