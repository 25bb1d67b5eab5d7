"""One double U-Net a scale: which network answers where, training them one after another, and their card.
And a network's mean over the eight symmetries of its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from catalogs.cards import load_card, load_weights, verify_card
from models.double_unet import DoubleUNet
from models.double_unet_scales import FACTORS, DoubleUNetScales
from models.symmetry import TURNS, symmetric, turn, turn_field, turn_field_back
from pipeline.errors import SettingsError
from tests.test_recipe_alignment import FIELD, case_of, city
from training import patches
from training.align_chain import Case, ChainSettings
from training.align_scores import load_trained, score, write_card
from training.recipes import alignment, alignment_scales
from training.recipes.alignment import AlignmentTrainee, scenes_at, turned

HALO = 32


@pytest.fixture(scope="module")
def network() -> DoubleUNetScales:
    torch.manual_seed(0)
    return DoubleUNetScales().eval()


@pytest.fixture(scope="module")
def prepared() -> patches.PreparedScene:
    scene = city(256)
    return patches.prepare(scene, scene.labelled)


def saying(network: DoubleUNetScales, x: Callable[[int], float]) -> DoubleUNetScales:
    """The networks made to say (x(factor), 0) everywhere."""
    for factor in FACTORS:
        head = network.at(factor).head
        torch.nn.init.zeros_(head.weight)
        head.bias.data = torch.tensor([x(factor), 0.0])
    return network


# ---- one network a scale


def test_each_factor_has_a_network_of_its_own(network: DoubleUNetScales) -> None:
    assert len({id(network.at(factor)) for factor in (8, 4, 2, 1)}) == 4
    assert (network.halo, network.stride) == (DoubleUNet.halo, DoubleUNet.stride) == (32, 4)
    names = set(network.state_dict())
    assert names == {f"scales.{factor}.{name}" for factor in FACTORS for name in DoubleUNet().state_dict()}
    with pytest.raises(ValueError, match="factor 3"):
        network.at(3)


def test_the_chain_asks_the_network_of_its_factor() -> None:
    case: Case = case_of(city(256))
    scales = saying(DoubleUNetScales().eval(), float)  # factor f says f of its own px: f * f at full resolution
    settings = ChainSettings(steps=((4, 0.0), (2, 0.0)))
    rows = score(scales, case, settings, 0.0, [0])
    assert rows[0]["mean"] == 0 and rows[1]["mean"] == pytest.approx(16) and rows[2]["mean"] == pytest.approx(20)


def test_the_card_holds_all_four(network: DoubleUNetScales, tmp_path: Path) -> None:
    rows = [
        {"scene": "banepa_np", "largest": 8.0, "stage": stage, "median": m, "mean": m, "within_2": 0.5, "within_4": 1.0}
        for stage, m in (("before", 3.0), ("factor 2", 2.0), ("factor 1", 1.0))
    ]
    written = write_card(network, tmp_path, rows, "some-scales", ("it fails there",))
    card = load_card("some-scales", tmp_path)
    assert card == written and not verify_card(card) and card.fails == ("it fails there",)
    assert card.network == "double_unet_scales" and (card.halo, card.stride) == (32, 4)
    assert card.scores["banepa_np_8px_before_mean"] == 3 and card.scores["banepa_np_8px_after_mean"] == 1
    other = DoubleUNetScales()
    other.load_state_dict(load_weights(card))
    torch.testing.assert_close(other.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert write_card(network.at(1), tmp_path, rows).network == "double_unet"


# ---- training them


def test_a_training_starts_from_a_card_with_new_readouts(network: DoubleUNetScales, tmp_path: Path) -> None:
    write_card(network.at(2), tmp_path, [], "mine")
    trainee = AlignmentTrainee()
    trainee.start_from(str(tmp_path / "mine"))
    torch.testing.assert_close(trainee.network.state_dict(), network.at(2).state_dict(), rtol=0, atol=0)
    assert all((parameter == 0).all() for parameter in trainee.readouts.parameters())
    trainee.start_from("alignment-zampieri")  # by name: a shipped one
    assert not torch.equal(trainee.network.head.weight, network.at(2).head.weight)
    write_card(network, tmp_path, [], "all")
    for wrong, why in ((str(tmp_path / "all"), "double_unet_scales"), ("no-such-card", "no such card")):
        with pytest.raises(SettingsError, match=why):
            trainee.start_from(wrong)


def test_scenes_too_coarse_at_the_factor_are_left_out(prepared: patches.PreparedScene) -> None:
    scenes = [replace(prepared, name=str(gsd), gsd=gsd) for gsd in (0.1, 0.3, 0.5, 1.0)]
    kept = {factor: [scene.gsd for scene in scenes_at(scenes, factor)] for factor in FACTORS}
    assert kept == {8: [0.1], 4: [0.1, 0.3, 0.5], 2: [0.1, 0.3, 0.5, 1.0], 1: [0.1, 0.3, 0.5, 1.0]}
    with pytest.raises(SettingsError, match="--factor 8"):
        scenes_at(scenes[1:], 8)


@pytest.mark.parametrize("quarters", range(4))
def test_a_turned_patch_still_leads_to_the_truth(prepared: patches.PreparedScene, quarters: int) -> None:
    for seed in range(4):
        pair = patches.cut(
            prepared, np.random.default_rng(seed), FIELD, output=64, halo=HALO, coarsest=0.5, factor=1
        )
        before, patch = pair[0], turned(pair[0], quarters)
        np.testing.assert_array_equal(patch.image, np.rot90(before.image, quarters))
        np.testing.assert_array_equal(patch.weight, np.rot90(before.weight, quarters))
        drawn = patch.cadaster[HALO:-HALO, HALO:-HALO] == 0.5
        y, x = np.nonzero(drawn)
        shares = []
        for each in (patch.target, before.target):  # the second, as a check: not turned, it leads elsewhere
            to = np.floor(np.stack([x, y], 1) + HALO + 0.5 + each[:, y, x].T).astype(int)
            shares.append((patch.truth[to[:, 1], to[:, 0]] > 0).mean())
        assert drawn.any() and shares[0] > 0.95 and (shares[0] > shares[1] or quarters == 0)


def test_all_four_are_trained_resumed_and_written(
    prepared: patches.PreparedScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = replace(prepared, gsd=0.2)
    monkeypatch.setattr(alignment, "prepare_all", lambda data: ([fine], fine))
    monkeypatch.setattr(alignment, "field_bank", lambda seed: [FIELD])
    out = tmp_path / "out"
    with pytest.raises(SettingsError, match="f8, f4, f2, f1"):
        alignment_scales.main_cli(["--data", "-", "--out", str(out), "--card", str(tmp_path)])
    arguments = ["--data", "-", "--out", str(out), "--init", "alignment-zampieri", "--batch", "1", "--output", "8"]
    for steps in ("1", "1", "2"):  # the second has nothing to do
        alignment_scales.main_cli([*arguments, "--tower-only", "1", "--steps", steps])
    loaded = alignment_scales.load_scales(out)
    shipped = load_weights(load_card("alignment-zampieri"))
    for factor in FACTORS:
        weights = loaded.at(factor).state_dict()
        torch.testing.assert_close(weights, load_trained(out / f"f{factor}").state_dict(), rtol=0, atol=0)
        torch.testing.assert_close(weights, shipped, rtol=0, atol=1e-3)  # two steps of at most 3e-4
        assert not torch.equal(weights["head.weight"], shipped["head.weight"])
    rows = [{"scene": "a", "largest": 8.0, "stage": "before", "median": 1.0, "mean": 1.0, "within_2": 1, "within_4": 1}]
    monkeypatch.setattr(alignment_scales, "score_network", lambda network, data, to, device: rows)
    alignment_scales.main_cli(["--data", "-", "--out", str(out), "--card", str(tmp_path), "--name", "four"])
    assert load_card("four", tmp_path).network == "double_unet_scales"


# ---- the mean over the eight symmetries


@dataclass
class Oracle:
    """A field by rule, cut to the centre as the network's."""

    rule: Callable[[Tensor, Tensor], Tensor]
    halo: int = HALO
    stride: int = 4

    def __call__(self, image: Tensor, cadaster: Tensor) -> Tensor:
        return self.rule(image, cadaster)[..., self.halo : -self.halo, self.halo : -self.halo]


def gradients(image: Tensor, cadaster: Tensor) -> Tensor:
    """Central differences of the image, times the cadaster: turned with its input by construction."""
    x, y = torch.roll(image, -1, -1) - torch.roll(image, 1, -1), torch.roll(image, -1, -2) - torch.roll(image, 1, -2)
    return torch.cat([x, y], 1) * cadaster


def constant(image: Tensor, cadaster: Tensor) -> Tensor:
    return torch.tensor([1.5, -0.3]).view(1, 2, 1, 1) * torch.ones_like(image)


def lopsided(image: Tensor, cadaster: Tensor) -> Tensor:
    """A rule without any symmetry."""
    return torch.cat([torch.roll(image, 3, -1) * 2 + cadaster, F.avg_pool2d(image, (5, 1), 1, (2, 0)) ** 2 - 0.1], 1)


def inputs(height: int = 96, width: int = 120, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand((batch, 1, height, width), generator=generator)
    return image, (torch.rand(image.shape, generator=generator) > 0.7).float()


@pytest.mark.parametrize("symmetry", TURNS)
def test_fields_turn_with_the_plane_and_back_exactly(symmetry: tuple[int, bool]) -> None:
    image, cadaster = inputs()
    field = gradients(image, cadaster)
    image_turned, cadaster_turned = turn(image, *symmetry), turn(cadaster, *symmetry)
    assert torch.equal(turn_field(field, *symmetry), gradients(image_turned, cadaster_turned))
    assert torch.equal(turn_field_back(turn_field(field, *symmetry), *symmetry), field)


def test_the_eight_are_different() -> None:
    image = inputs(8, 8)[0]
    assert len({turn(image, *symmetry).numpy().tobytes() for symmetry in TURNS}) == 8


def test_what_turns_with_its_input_stays_as_it_is() -> None:
    both = inputs()
    oracle = Oracle(gradients)
    assert torch.equal(symmetric(oracle, oracle.stride)(*both), oracle(*both))


def test_a_constant_vector_averages_to_nothing() -> None:
    out = symmetric(Oracle(constant), Oracle.stride)(*inputs())
    assert out.shape == (2, 2, 32, 56) and (out == 0).all()


@pytest.mark.parametrize("symmetry", TURNS)
def test_a_turned_input_gives_the_turned_output(symmetry: tuple[int, bool]) -> None:
    image, cadaster = inputs()
    averaged, alone = symmetric(Oracle(lopsided), Oracle.stride), Oracle(lopsided)
    turned_inputs = turn(image, *symmetry), turn(cadaster, *symmetry)
    assert torch.equal(averaged(*turned_inputs), turn_field(averaged(image, cadaster), *symmetry))
    if symmetry != (0, False):  # the rule alone does not
        assert (alone(*turned_inputs) - turn_field(alone(image, cadaster), *symmetry)).abs().mean() > 0.1


def test_a_network_follows_a_turn_once_averaged(network: DoubleUNetScales) -> None:
    image, cadaster = inputs(76, 84, 1)
    averaged = symmetric(network.at(1), network.stride)
    with torch.no_grad():
        straight = turn_field(averaged(image, cadaster), 1, True)
        out = averaged(turn(image, 1, True), turn(cadaster, 1, True))
        alone = network.at(1)(turn(image, 1, True), turn(cadaster, 1, True))
    assert out.dtype == torch.float32 and out.shape == (1, 2, 20, 12)
    torch.testing.assert_close(out, straight, rtol=0, atol=1e-6)
    assert (alone - straight).abs().mean() > 1e-3


def test_sizes_that_break_the_stride_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of the stride, 4"):
        symmetric(Oracle(gradients), Oracle.stride)(*inputs(96, 98))
