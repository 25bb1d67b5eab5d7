"""A network's field averaged over the eight turns and mirrorings of its input.

A town turned by a quarter is a town, so the field of a turned input, turned back, is one more opinion about
the same pixels: eight for eight times the work. The mean follows every turn exactly, which a network alone
learns only roughly, and what drags a network towards one direction cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

TURNS = tuple((quarters, mirrored) for mirrored in (False, True) for quarters in range(4))
"""The eight symmetries of a square: quarter turns anticlockwise, then whether left and right change places."""


class FieldNetwork(Protocol):
    """Image and cadaster (B, 1, H, W) -> displacement (B, 2, H - 2 halo, W - 2 halo), px, (dx, dy), y down."""

    halo: int
    stride: int

    def __call__(self, image: Tensor, cadaster: Tensor) -> Tensor: ...


def turn(x: Tensor, quarters: int, mirrored: bool) -> Tensor:
    """Values (..., H, W) turned by `quarters` anticlockwise as seen (y down), then mirrored left to right."""
    turned = torch.rot90(x, quarters, (-2, -1))
    return (turned.flip(-1) if mirrored else turned).contiguous()


def turn_field(field: Tensor, quarters: int, mirrored: bool) -> Tensor:
    """Vectors (..., 2, H, W) as they are once their plane is turned: places and directions. Exact."""
    dx, dy = turn(field, quarters, mirrored).unbind(-3)
    for _ in range(quarters % 4):  # to the right becomes up, which is -y
        dx, dy = dy, -dx
    return torch.stack([-dx if mirrored else dx, dy], -3)


def turn_field_back(field: Tensor, quarters: int, mirrored: bool) -> Tensor:
    """The inverse of `turn_field`: a mirroring undoes itself, and a turn after it goes the other way round."""
    return turn_field(field, quarters if mirrored else -quarters % 4, mirrored)


@dataclass(frozen=True, slots=True)
class Symmetric:
    """`network` averaged over TURNS; called as the network is. See `symmetric`."""

    network: FieldNetwork

    @property
    def halo(self) -> int:
        """The network's own halo, px."""
        return self.network.halo

    @property
    def stride(self) -> int:
        """The network's own stride, px."""
        return self.network.stride

    def __call__(self, image: Tensor, cadaster: Tensor) -> Tensor:
        """Mean field (B, 2, H - 2 halo, W - 2 halo) in the type of the network's own.

        ValueError where H or W is not a multiple of the stride: turned pixels would fall between the pooling's.
        """
        stride = self.network.stride
        if any(side % stride for side in (*image.shape[-2:], *cadaster.shape[-2:])):
            raise ValueError(
                f"image {tuple(image.shape)} and cadaster {tuple(cadaster.shape)}: height and width must be "
                f"multiples of the stride, {stride}"
            )
        total: Tensor | None = None
        for quarters, mirrored in TURNS:
            field = self.network(turn(image, quarters, mirrored), turn(cadaster, quarters, mirrored))
            back = turn_field_back(field, quarters, mirrored)
            # The sum of eight float32 is exact in float64, so it does not depend on which turn came first.
            total = back.double() if total is None else total + back.double()
        assert total is not None
        return (total / len(TURNS)).to(back.dtype)


def symmetric(network: FieldNetwork) -> Symmetric:
    """`network` as the mean over the eight turns and mirrorings of its input, vectors turned back exactly.

    For eight times the work; H and W of the input must be multiples of the stride. What comes out of a turned
    input is the turned output, to the rounding of the network's own sums.
    """
    return Symmetric(network)
