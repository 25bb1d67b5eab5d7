"""The instance network: published size, exact halo, folding, widening."""

from __future__ import annotations

import pytest
import torch

from models.ternausnet import MEAN, NARROW, STD, TernausNetV2, encoder_parameters, widen

TINY = {
    "bands": 3,
    "stem": 4,
    "encoder": [[1, 4, 4], [1, 6, 6]],
    "decoder": [[6, 6], [6, 4], [4, 4]],
    "head": 4,
}


def make(settings: dict[str, object], seed: int = 0, **more: object) -> TernausNetV2:
    torch.manual_seed(seed)
    return TernausNetV2(**{**settings, **more}).eval()  # type: ignore[arg-type]


def test_published_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = TernausNetV2()
    count = sum(p.numel() for p in network.parameters())
    assert abs(count / 67.2e6 - 1) < 0.01
    assert network.stride == 32
    widths = [(u.conv1.conv.in_channels, u.conv1.conv.out_channels, u.conv2.conv.out_channels) for u in network.decoder]
    assert widths == [(1024, 256, 256), (1280, 256, 256), (768, 256, 256), (512, 64, 64), (192, 64, 32)]
    assert (network.head.conv.in_channels, network.head.conv.out_channels) == (96, 32)
    assert network.stem.weight.shape == (64, 11, 3, 3) and network.stem.bias is None


def test_published_network_gives_two_channels_of_logits() -> None:
    with torch.device("meta"):
        assert TernausNetV2()(torch.empty(1, 11, 64, 96)).shape == (1, 2, 64, 96)


def test_narrow_network_is_small_enough_for_a_cpu() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network = make(NARROW)
    assert (network.halo, network.stride) == (96, 16)
    with torch.inference_mode(), FlopCounterMode(display=False) as flops:
        out = network(torch.rand(1, 3, 128, 128))
    assert out.shape == (1, 2, 128, 128)
    assert flops.get_total_flops() / 2 / 128**2 < 70_000  # multiply-accumulates a pixel
    assert sum(p.numel() for p in network.parameters()) < 2_000_000  # under 8 MB


def trained_looking(network: TernausNetV2) -> TernausNetV2:
    """Statistics far from their start, so that a leak at a border cannot hide behind small numbers."""
    for i, part in enumerate(network.modules()):
        if isinstance(part, torch.nn.BatchNorm2d):
            generator = torch.Generator().manual_seed(i)
            part.running_mean.uniform_(-0.3, 0.3, generator=generator)
            part.running_var.uniform_(0.2, 0.6, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return network


@pytest.mark.parametrize("settings", [NARROW, TINY])
def test_a_window_with_its_halo_is_exact_at_the_core(settings: dict[str, object]) -> None:
    network = trained_looking(make(settings))
    halo, core = network.halo, 64
    side = core + 6 * halo
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    y = x = 3 * halo
    with torch.inference_mode():
        whole = network(image)[..., y : y + core, x : x + core]
        window = network(image[..., y - halo : y + core + halo, x - halo : x + core + halo])
    part = window[..., halo:-halo, halo:-halo]
    assert (whole - part).abs().max() <= 1e-5 * max(1.0, float(whole.abs().max()))


def test_reach_is_the_true_receptive_field() -> None:
    network = make(TINY)
    core, reach = network.stride, network.reach
    side = core + 2 * network.halo
    image = torch.rand(1, 3, side, side).double().requires_grad_()
    network.double()(image)[..., network.halo : -network.halo, network.halo : -network.halo].abs().sum().backward()
    assert image.grad is not None
    rows = torch.nonzero(image.grad.abs().sum((0, 1, 3))).flatten()
    assert network.halo - int(rows[0]) <= reach and int(rows[-1]) - (network.halo + core - 1) <= reach
    assert reach <= network.halo < reach + network.stride


def test_folding_the_decoder_changes_nothing() -> None:
    network = trained_looking(make(TINY, decoder_norm=True))
    image = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        before = network(image)
        after = network.fold()(image)
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)
    make(TINY).load_state_dict(network.state_dict())  # the folded one is the published decoder


def test_extra_bands_start_at_zero_and_rgb_is_normalised() -> None:
    rgb, wide = make(TINY), make(TINY, seed=1, bands=5)
    widen(wide, rgb.state_dict())
    image = torch.rand(1, 5, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(wide(image), rgb(image[:, :3]))
    assert wide.mean.flatten().tolist() == pytest.approx([*MEAN, 0, 0])
    assert wide.std.flatten().tolist() == pytest.approx([*STD, 1, 1])
    assert make(TINY, bands=1).mean.flatten().tolist() == [0]


def test_the_encoder_can_be_frozen_alone() -> None:
    network = make(TINY)
    frozen = encoder_parameters(network)
    names = {n for n, p in network.named_parameters() if any(p is q for q in frozen)}
    assert names and all(n.startswith(("stem.", "encoder.")) for n in names)


def test_encoder_and_decoder_must_fit_together() -> None:
    with pytest.raises(ValueError, match="need 3 decoder blocks"):
        TernausNetV2(encoder=[[1, 4, 4], [1, 4, 4]], decoder=[[4, 4]])
