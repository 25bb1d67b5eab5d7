"""The double U-Net's sizes, its halo and its phase."""

from __future__ import annotations

import pytest
import torch

from models.double_unet import DoubleUNet


@pytest.fixture(scope="module")
def network() -> DoubleUNet:
    torch.manual_seed(0)
    return DoubleUNet().eval()


def run(network: DoubleUNet, image: torch.Tensor, cadaster: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(image, cadaster)


def inputs(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    drawn = (torch.rand((1, 1, height, width), generator=generator) > 0.7).float()
    return torch.rand((1, 1, height, width), generator=generator), drawn


def test_published_number_of_parameters(network: DoubleUNet) -> None:
    assert sum(p.numel() for p in network.parameters()) == 592_354


@pytest.mark.parametrize("shape", [(72, 72), (96, 120), (128, 76)])
def test_output_is_the_input_without_its_halo(network: DoubleUNet, shape: tuple[int, int]) -> None:
    out = run(network, *inputs(*shape))
    assert out.shape == (1, 2, shape[0] - 2 * network.halo, shape[1] - 2 * network.halo)
    assert network.halo % 8 == 0 and network.halo % network.stride == 0


@pytest.mark.parametrize("shape", [(70, 72), (68, 68)])
def test_wrong_sizes_are_refused(network: DoubleUNet, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        network(*inputs(*shape))


def test_a_window_equals_the_part_of_a_larger_one(network: DoubleUNet) -> None:
    image, drawn = inputs(168, 168)
    large = run(network, image, drawn)
    y, x = 44, 8  # multiples of the stride
    small = run(network, image[..., y : y + 96, x : x + 96], drawn[..., y : y + 96, x : x + 96])
    assert torch.allclose(small, large[..., y : y + 32, x : x + 32], atol=1e-5)


def test_a_window_off_the_phase_differs(network: DoubleUNet) -> None:
    image, drawn = inputs(128, 128)
    large = run(network, image, drawn)
    small = run(network, image[..., 2:98, 2:98], drawn[..., 2:98, 2:98])
    assert (small - large[..., 2:34, 2:34]).abs().mean() > 1e-3


def test_receptive_field_fills_the_halo_and_no_more_than_a_phase_beyond() -> None:
    """Weights all positive, so that no path cancels: the reach of one output pixel, by gradient."""
    network = DoubleUNet()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    reach = []
    for row in range(32, 36):  # one of each phase
        image, drawn = (x.requires_grad_() for x in inputs(136, 136))
        network(image, drawn)[0, 0, row, 36].backward()
        for gradient in (image.grad, drawn.grad):
            assert gradient is not None
            rows = gradient[0, 0].abs().sum(1).nonzero().flatten()
            centre = row + network.halo
            reach.append((centre - int(rows[0]), int(rows[-1]) - centre))
    # Max pooling picks one of its inputs, so the reach by gradient is a lower bound of the architecture's.
    assert max(max(pair) for pair in reach) <= network.halo + network.stride - 1
    assert max(before for before, _ in reach) > network.halo - 8


def test_begins_near_the_zero_field(network: DoubleUNet) -> None:
    assert run(network, *inputs(96, 96)).abs().mean() < 1.0
