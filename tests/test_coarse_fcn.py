from __future__ import annotations

import pytest
import torch

from models.coarse_fcn import MARGIN, CoarseFCN

torch.set_num_threads(1)


def network() -> CoarseFCN:
    torch.manual_seed(0)
    return CoarseFCN().eval()


def test_published_sizes() -> None:
    parameters = sum(p.numel() for p in network().parameters())
    assert 0.275e6 < parameters < 0.285e6


@pytest.mark.parametrize("side", [64, 100, 352])
def test_scores_are_centred_and_30_px_short(side: int) -> None:
    with torch.no_grad():
        scores = network()(torch.rand(1, 3, side, side))
    assert scores.shape == (1, 3, side - 2 * MARGIN, side - 2 * MARGIN)


def test_refuses_sides_that_break_the_cells() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        network()(torch.rand(1, 3, 98, 100))


@torch.no_grad()
def test_core_is_exact_whatever_lies_beyond_the_halo() -> None:
    net, halo, core = network(), CoarseFCN.halo, 64
    image = torch.rand(1, 3, core + 2 * halo, core + 2 * halo)
    larger = torch.rand(1, 3, core + 2 * halo + 80, core + 2 * halo + 80)
    larger[..., 40:-40, 40:-40] = image
    cut = halo - MARGIN
    small = net(image)[..., cut:-cut, cut:-cut]
    assert small.shape[-1] == core
    assert torch.allclose(small, net(larger)[..., cut + 40 : -cut - 40, cut + 40 : -cut - 40], atol=1e-5)


@torch.no_grad()
def test_a_shift_by_the_stride_shifts_the_scores() -> None:
    net = network()
    image = torch.rand(1, 3, 128, 128)
    assert torch.allclose(net(image[..., 4:-4, 4:-4]), net(image)[..., 4:-4, 4:-4], atol=1e-5)


def test_receptive_field_is_60_px_a_cell() -> None:
    net = network()
    image = torch.rand(1, 3, 160, 160, requires_grad=True)
    net(image)[0, 0, 50, 50].backward()
    seen = image.grad.abs().sum((0, 1)).sum(0).nonzero()  # type: ignore[union-attr]
    assert int(seen.max() - seen.min()) + 1 == 64  # two cells of 60 px, 4 px apart
    assert int(seen.min()) <= 50 + MARGIN <= int(seen.max())


@torch.no_grad()
def test_upsampling_is_bilinear_at_birth() -> None:
    net = network()
    cells = torch.ones(1, 3, 5, 5)
    assert torch.allclose(net.upsample(cells), torch.ones(1, 3, 16, 16), atol=1e-6)
