"""The successor network's sizes, its halo, its phase and its rasters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.successor_unet import REACH, READ, SuccessorUNet, mark_vertices, polygon_rasters


@pytest.fixture(scope="module")
def network() -> SuccessorUNet:
    torch.manual_seed(0)
    made = SuccessorUNet(0.25).eval()
    with torch.no_grad():  # heads begin near 0: make what they say visible
        for decoder in (made.displacement, made.segmentation):
            for head in decoder.heads:
                head.get_parameter("weight").mul_(10)
    return made


def inputs(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    rasters = (torch.rand((1, 3, height, width), generator=generator) > 0.7).float()
    return torch.rand((1, 1, height, width), generator=generator), rasters


def run(network: SuccessorUNet, image: torch.Tensor, rasters: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(network(image, rasters), 1)


def parameters(network: SuccessorUNet) -> int:
    return sum(p.numel() for p in network.parameters())


def test_published_number_of_parameters() -> None:
    assert parameters(SuccessorUNet()) == 9_350_370  # published: 9.35 million, with an image of three bands too
    assert parameters(SuccessorUNet(image_channels=3)) == pytest.approx(9.35e6, rel=1e-3)
    assert parameters(SuccessorUNet(0.5)) == pytest.approx(9.35e6 / 4, rel=0.01)


@pytest.mark.parametrize("shape", [(168, 168), (176, 200)])
def test_output_is_the_input_without_its_halo(network: SuccessorUNet, shape: tuple[int, int]) -> None:
    image, rasters = inputs(*shape)
    core = shape[0] - 160, shape[1] - 160
    for level, outputs in enumerate(network.levels(image, rasters)):
        assert outputs.field.shape == (1, 2, core[0] >> level, core[1] >> level)
        assert outputs.logits.shape == (1, 4, core[0] >> level, core[1] >> level)


@pytest.mark.parametrize("shape", [(160, 168), (168, 172)])
def test_wrong_sizes_are_refused(network: SuccessorUNet, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        network(*inputs(*shape))


def test_inputs_that_do_not_fit_are_refused(network: SuccessorUNet) -> None:
    image, rasters = inputs(168, 168)
    for wrong in (rasters[:, :1], rasters[..., 8:]):
        with pytest.raises(ValueError, match="one size"):
            network(image, wrong)


def test_nothing_beyond_what_is_read_reaches_the_core(network: SuccessorUNet) -> None:
    image, rasters = inputs(184, 176)
    margin = network.halo - READ
    other = [torch.rand_like(x) for x in (image, rasters)]
    for changed, x in zip(other, (image, rasters), strict=True):
        changed[..., margin:-margin, margin:-margin] = x[..., margin:-margin, margin:-margin]
    assert torch.equal(run(network, image, rasters), run(network, *other))


def test_a_larger_window_changes_nothing_in_the_core(network: SuccessorUNet) -> None:
    image, rasters = inputs(240, 232)
    large = run(network, image, rasters)
    y, x = 40, 16  # multiples of the stride
    small = run(network, image[..., y : y + 184, x : x + 176], rasters[..., y : y + 184, x : x + 176])
    assert torch.allclose(small, large[..., y : y + 24, x : x + 16], atol=1e-5)


def test_tiled_equals_whole_bit_by_bit(network: SuccessorUNet) -> None:
    """Windows of one shape on the scene's grid, cut from the scene or from a tile's own copy of it."""
    image, rasters = inputs(208, 224)

    def stitched(tile: tuple[int, int]) -> torch.Tensor:
        out = torch.zeros(6, 48, 64)
        for top in range(0, 48, tile[0]):
            for left in range(0, 64, tile[1]):
                rows, columns = slice(top, top + tile[0] + 160), slice(left, left + tile[1] + 160)
                seen, drawn = image[..., rows, columns].clone(), rasters[..., rows, columns].clone()
                for y in range(0, tile[0], 16):
                    for x in range(0, tile[1], 16):
                        window = np.s_[..., y : y + 176, x : x + 176]
                        core = run(network, seen[window].contiguous(), drawn[window].contiguous())[0]
                        out[:, top + y : top + y + 16, left + x : left + x + 16] = core
        return out

    whole = stitched((48, 64))
    for tile in ((16, 16), (48, 32)):
        assert torch.equal(stitched(tile), whole)
    assert torch.allclose(whole, run(network, image, rasters)[0], atol=1e-5)  # and no window leaves a trace


def test_a_window_off_the_phase_differs(network: SuccessorUNet) -> None:
    image, rasters = inputs(192, 192)
    large = run(network, image, rasters)
    small = run(network, image[..., 4:180, 4:180], rasters[..., 4:180, 4:180])
    assert (small - large[..., 4:20, 4:20]).abs().mean() > 1e-3


def test_what_is_read_is_needed() -> None:
    """Weights all positive, so that no path cancels: the reach of the core's first row, by gradient."""
    network = SuccessorUNet(0.125)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.02)
    image, rasters = (x.double().requires_grad_() for x in inputs(168, 168))
    field = network.double().displacement(network.merged(image, rasters)[0], (8, 8))[0]
    field[0, 0, 0].sum().backward()
    for gradient in (image.grad, rasters.grad):
        assert gradient is not None
        # Pooling picks one of its inputs, so the reach by gradient may fall short of the architecture's.
        first = int(gradient[0].abs().sum((0, 2)).nonzero()[0])
        assert network.halo - READ <= first <= network.halo - READ + 8


def test_displacement_is_bounded_and_begins_near_zero(network: SuccessorUNet) -> None:
    torch.manual_seed(0)
    field, logits = SuccessorUNet(0.25).predict(*inputs(176, 176))
    assert field.abs().mean() < 0.5 and float(logits.min()) > 0.3 and float(logits.max()) < 0.7
    with torch.no_grad():
        wild = network.displace(inputs(176, 176)[0] * 1000, inputs(176, 176)[1])
    assert wild.abs().max() <= REACH


def test_displacement_alone_and_shared_images_give_the_same(network: SuccessorUNet) -> None:
    image, rasters = inputs(176, 176)
    pair = torch.cat([rasters, 1 - rasters])
    both = run(network, image, pair)
    apart = torch.cat([run(network, image, pair[:1]), run(network, image, pair[1:])])
    torch.testing.assert_close(both, apart, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(network.displace(image, pair), both[:, :2])


def test_rasters_of_a_square() -> None:
    cadaster = torch.zeros(1, 1, 12, 12)
    cadaster[..., 3:9, 3:9] = 1.0
    cadaster[..., 4:8, 4:8] = 0.5
    vertices = mark_vertices(torch.tensor([[3.5, 3.2], [8.9, 8.1], [-0.1, 5.0], [12.0, 5.0]]), 12, 12)
    assert vertices.sum() == 2 and vertices[0, 3, 3] == 1 and vertices[0, 8, 8] == 1
    fill, edge, vertex = polygon_rasters(cadaster, vertices[None])[0]
    assert fill.sum() == 36 and vertex.sum() == 18 and vertex[9, 9] == 1
    assert edge.sum() == 8 * 8 - 2 * 2 and edge[5, 5] == 0 and edge[2, 2] == 1 and edge[6, 4] == 1
