from __future__ import annotations

import pytest
import torch

from models.coarse_fcn import CoarseFCN
from models.refiner import Refiner

torch.set_num_threads(1)


def network(agnostic: bool = False) -> Refiner:
    torch.manual_seed(0)
    net = Refiner(agnostic=agnostic).eval()
    with torch.no_grad():  # far from the identity, so that the tests see the iterations
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return net


def test_published_sizes() -> None:
    assert sum(p.numel() for p in Refiner().parameters()) == 9603
    assert sum(p.numel() for p in Refiner(agnostic=True).parameters()) == 9603 - 2 * 2113


@pytest.mark.parametrize("agnostic", [False, True])
@torch.no_grad()
def test_folded_equals_plain(agnostic: bool) -> None:
    net = network(agnostic)
    u, image = torch.randn(2, 3, 40, 48), torch.rand(2, 3, 40, 48)
    plain, folded = net.forward_plain(u, image), net(u, image)
    assert (plain - u).abs().max() > 0.1
    assert torch.allclose(plain, folded, atol=2e-5 * float(plain.abs().max()))


@torch.no_grad()
def test_untrained_is_near_the_identity() -> None:
    torch.manual_seed(0)
    net, u = Refiner(), torch.randn(1, 3, 64, 64)
    assert (net(u, torch.rand(1, 3, 64, 64)) - u).abs().mean() < u.abs().mean()


@torch.no_grad()
def test_exact_beyond_ten_pixels_and_not_before() -> None:
    net = network()
    u, image = torch.randn(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    other_u, other_image = u.clone(), image.clone()
    other_u[..., 20:44, 20:44] += 1
    other_image[..., 20:44, 20:44] = 0
    changed = (net(u, image) != net(other_u, other_image)).any(1)[0].nonzero()
    assert changed.min() == 20 - Refiner.halo and changed.max() == 43 + Refiner.halo


@torch.no_grad()
def test_steps_end_in_forward_and_zero_iterations_are_the_identity() -> None:
    net = network()
    u, image = torch.randn(1, 3, 24, 24), torch.rand(1, 3, 24, 24)
    steps = net.steps(u, image)
    assert len(steps) == 5 and torch.equal(steps[-1], net(u, image))
    assert torch.equal(net(u, image, iterations=0), u)
    assert torch.equal(net(u, image, iterations=2), steps[1])


@torch.no_grad()
def test_both_networks_in_one_window_are_exact_at_its_core() -> None:
    """Core 64 with 48 px around: what lies further out changes nothing."""
    torch.manual_seed(1)
    coarse, refiner, halo = CoarseFCN().eval(), network(), 48
    image = torch.rand(1, 3, 64 + 2 * halo, 64 + 2 * halo)
    larger = torch.rand(1, 3, 64 + 2 * halo + 64, 64 + 2 * halo + 64)
    larger[..., 32:-32, 32:-32] = image

    def core(window: torch.Tensor) -> torch.Tensor:
        scores = refiner(coarse(window), window)
        cut = (scores.shape[-1] - 64) // 2
        return scores[..., cut:-cut, cut:-cut]

    assert torch.allclose(core(image), core(larger), atol=1e-5 * float(core(image).abs().max()))


def test_gradients_reach_every_parameter() -> None:
    net = Refiner()
    net(torch.randn(1, 3, 20, 20), torch.rand(1, 3, 20, 20)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
