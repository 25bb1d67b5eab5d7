"""The published network, layer by layer: channels, counts, receptive field, gradients, precision (paper, section 3)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from models.blocks import LEAK, Residual
from models.ternausnet import PUBLISHED_DECODER, PUBLISHED_ENCODER, TernausNetV2, freeze_encoder, widen

MODULES = ((64, 128, 3), (128, 256, 3), (256, 512, 6), (512, 1024, 3))  # in, out, blocks: WideResNet-38's B2-B5
DECODER = ((1024, 256, 256), (1280, 256, 256), (768, 256, 256), (512, 64, 64), (192, 64, 32))  # in, middle, out


def published() -> TernausNetV2:
    with torch.device("meta"):
        return TernausNetV2()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def thin(bands: int = 3) -> TernausNetV2:
    """Every layer of the published network with four channels: the same reach, little work."""
    torch.manual_seed(0)
    return TernausNetV2(
        bands, 4, [(n, 4, 4) for n, *_ in PUBLISHED_ENCODER], [(4, 4) for _ in PUBLISHED_DECODER], 4
    ).eval()


def test_every_layer_has_the_published_shape() -> None:
    network = published()
    assert network.stem.weight.shape == (64, 11, 3, 3) and network.stem.bias is None
    assert (network.pool.kernel_size, network.pool.stride) == (2, 2)
    for module, (c_in, c_out, blocks) in zip(network.encoder, MODULES, strict=True):
        assert isinstance(module, nn.Sequential) and len(module) == blocks
        for i, block in enumerate(module):
            assert isinstance(block, Residual)
            first = c_in if i == 0 else c_out
            middle = 512 if c_out == 1024 else c_out  # the last module widens in its second convolution
            assert block.norm1.num_features == first and block.norm2.num_features == middle
            assert block.conv1.weight.shape == (middle, first, 3, 3)
            assert block.conv2.weight.shape == (c_out, middle, 3, 3)
            assert block.conv1.bias is None and block.conv2.bias is None
            assert (block.project is not None) == (first != c_out)
    for up, (c_in, middle, c_out) in zip(network.decoder, DECODER, strict=True):
        assert up.conv1.conv.weight.shape == (middle, c_in, 3, 3)
        assert up.conv2.conv.weight.shape == (c_out, middle, 3, 3)
        assert up.conv1.norm is None and up.conv2.norm is None
        assert up.conv1.conv.bias is not None and up.conv2.conv.bias is not None
    assert network.head.conv.weight.shape == (32, 96, 3, 3)
    assert network.final.weight.shape == (2, 32, 1, 1)
    assert pytest.approx(0.01) == LEAK


def test_the_count_is_that_of_the_published_layers_to_the_last_parameter() -> None:
    """Counted from the tables above by hand, not from the network."""
    encoder = 0
    for c_in, c_out, blocks in MODULES:
        middle = 512 if c_out == 1024 else c_out
        for i in range(blocks):
            first = c_in if i == 0 else c_out
            encoder += 9 * first * middle + 9 * middle * c_out + 2 * (first + middle)  # weights, two batch norms
            encoder += first * c_out if first != c_out else 0  # the 1×1 shortcut
    decoder = sum(9 * (c_in * middle + middle * c_out) + middle + c_out for c_in, middle, c_out in DECODER)
    ends = 9 * 11 * 64 + (9 * 96 * 32 + 32) + (32 * 2 + 2)
    network = published()
    assert count(network.encoder) == encoder == 57_859_712
    assert count(network.decoder) == decoder == 9_309_920
    assert count(network) == encoder + decoder + ends == 67_203_714
    assert abs(count(network) / 67.2e6 - 1) < 1e-4


def test_reach_and_halo_are_exactly_the_receptive_field() -> None:
    """A row of NaN spoils whatever depends on it: as near as `reach` some of the core, one row farther nothing.

    This sees every path; gradients through max pooling see only the paths that won.
    """
    network = thin()
    assert (network.stride, network.reach, network.halo) == (32, 293, 320)
    top = network.halo  # first row of the core, on the stride

    def spoilt(row: int) -> bool:
        image = torch.rand(1, 3, network.stride + 2 * network.halo, network.stride)
        image[:, :, row] = math.nan
        with torch.inference_mode():
            return bool(network(image)[:, :, top : top + network.stride].isnan().any())

    last = top + network.stride - 1
    assert spoilt(top - network.reach) and not spoilt(top - network.reach - 1)
    assert not spoilt(last + network.reach + 1)
    assert spoilt(last + network.reach - network.stride)


def test_an_origin_off_the_stride_gives_another_answer() -> None:
    network = thin()
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = network(image)[..., 32:96, 32:96]
        shifted = network(image.roll((-8, -8), (2, 3)))[..., 24:88, 24:88]
    assert (whole != shifted).float().mean() > 0.9


def test_gradients_reach_every_parameter() -> None:
    network = thin(bands=11).train()
    image = torch.rand(2, 11, 64, 64)
    (network(image) * torch.rand(2, 2, 64, 64)).sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.fixture(scope="module")
def whole() -> TernausNetV2:
    torch.manual_seed(0)
    return TernausNetV2()


def test_the_whole_network_runs_forward_and_backward_on_a_cpu(whole: TernausNetV2) -> None:
    whole.train().zero_grad()
    logits = whole(torch.rand(2, 11, 64, 64))
    assert logits.shape == (2, 2, 64, 64) and logits.isfinite().all()
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in whole.parameters())
    assert all(p.grad is not None and p.grad.any() for p in (whole.stem.weight, whole.final.weight))


def test_bfloat16_and_channels_last_give_the_same_picture(whole: TernausNetV2) -> None:
    image = torch.rand(1, 11, 64, 64, generator=torch.Generator().manual_seed(2))
    network = whole.eval()
    with torch.inference_mode():
        plain = network(image)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = network(image.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(image.contiguous(memory_format=torch.channels_last))
    assert half.dtype == torch.bfloat16 and last.is_contiguous(memory_format=torch.channels_last)
    spread = float(plain.std())
    assert spread > 0
    assert float((last - plain).abs().max()) < 1e-3 * spread
    assert float((half.float() - plain).abs().mean()) < 0.1 * spread


@pytest.mark.parametrize(("known", "bands"), [(3, 8), (3, 11), (8, 11)])
def test_widening_does_not_change_the_answer_whatever_the_extra_bands_hold(known: int, bands: int) -> None:
    torch.manual_seed(3)
    rgb, wide = thin(known), thin(bands)
    widen(wide, rgb.state_dict())
    image = torch.rand(1, known, 64, 64)
    for extra in (torch.zeros, torch.rand, lambda *shape: 1e4 * torch.randn(*shape)):
        with torch.inference_mode():
            answer = wide(torch.cat((image, extra(1, bands - known, 64, 64)), dim=1))  # type: ignore[operator]
            torch.testing.assert_close(answer, rgb(image), rtol=1e-5, atol=1e-6)


def test_a_widened_network_learns_from_the_extra_bands_at_the_first_step() -> None:
    wide = thin(8).train()
    widen(wide, thin(3).state_dict())
    (wide(torch.rand(2, 8, 64, 64)) * torch.rand(2, 2, 64, 64)).sum().backward()
    assert wide.stem.weight.grad is not None and wide.stem.weight.grad[:, 3:].abs().amin((0, 2, 3)).gt(0).all()


def test_weights_of_more_bands_or_of_another_shape_are_refused() -> None:
    with pytest.raises(RuntimeError, match="8 bands do not go into a network of 3"):
        widen(thin(3), thin(8).state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        widen(thin(8), {**thin(3).state_dict(), "final.bias": torch.zeros(3)})


def test_a_frozen_encoder_keeps_weights_and_statistics_and_the_decoder_learns() -> None:
    network = thin(5)
    freeze_encoder(network)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(torch.rand(2, 5, 64, 64)).square().sum().backward()
    optimiser.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and not [name for name in changed if name.startswith(("stem.", "encoder."))]

    freeze_encoder(network, False)
    assert all(p.requires_grad for p in network.parameters())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.rand(2, 5, 64, 64)).square().sum().backward()
    torch.optim.Adam(network.parameters(), lr=0.1).step()
    same = {name for name, value in network.state_dict().items() if torch.equal(value, before[name])}
    assert not [name for name in same if "num_batches" not in name and name.startswith(("stem.", "encoder."))]


def test_the_decoders_norms_learn_while_the_encoder_is_frozen() -> None:
    network = TernausNetV2(3, 4, [(1, 4, 4)], [(4, 4), (4, 4)], 4, decoder_norm=True)
    freeze_encoder(network)
    network.train()
    assert not any(part.training for part in network.encoder.modules())
    assert all(part.training for part in network.decoder.modules())
    assert not any(part.training for part in network.eval().modules())
