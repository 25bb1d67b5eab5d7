"""A network's field averaged over the eight turns and mirrorings of its input.

A town turned by a quarter is a town, so the field of a turned input, turned back, is one more opinion about
the same pixels: eight for eight times the work. The mean follows every turn exactly, which a network alone
learns only roughly, and what drags a network towards one direction cancels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TURNS = tuple((quarters, mirrored) for mirrored in (False, True) for quarters in range(4))
"""The eight symmetries of a square: quarter turns anticlockwise, then whether left and right change places."""


Field = Callable[[Tensor, Tensor], Tensor]
"""Image (B, 1, H, W) and rasters (B, k, H, W) -> displacement (B, 2, H - 2 halo, W - 2 halo), px, (dx, dy), y down."""


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


def symmetric(field: Field, stride: int) -> Field:
    """`field` as the mean over the eight turns and mirrorings of its input, vectors turned back exactly.

    For eight times the work. What comes out of a turned input is the turned output, to the rounding of the
    network's own sums. ValueError where H or W is no multiple of `stride`, the network's: turned pixels would
    fall between the pooling's.
    """

    def mean(image: Tensor, rasters: Tensor) -> Tensor:
        if any(side % stride for side in (*image.shape[-2:], *rasters.shape[-2:])):
            raise ValueError(
                f"image {tuple(image.shape)} and rasters {tuple(rasters.shape)}: height and width must be "
                f"multiples of the stride, {stride}"
            )
        turned = (
            turn_field_back(field(turn(image, *each), turn(rasters, *each)), *each) for each in TURNS
        )
        first = next(turned)
        # The sum of eight float32 is exact in float64, so it does not depend on which turn came first.
        total = sum((back.double() for back in turned), first.double())
        return (total / len(TURNS)).to(first.dtype)

    return mean
