"""One double U-Net for each scale, the "normal" variant of Zampieri et al. 2018, beside the scale-invariant one.

Each network is `models/double_unet.py`, unchanged, trained at one factor of the full resolution's pixels; the
chain of section 3 goes from the coarsest to the finest and takes at each factor the network of that factor.
"""

from __future__ import annotations

from typing import cast

from torch import nn

from models.double_unet import DoubleUNet

FACTORS = (8, 4, 2, 1)
"""Factors of the full resolution's pixel size, in the chain's order."""


class DoubleUNetScales(nn.Module):
    """Four `DoubleUNet`s by factor: `at(factor)` gives one. Weights are called `scales.<factor>.*`.

    It cannot be called itself: an input does not say at what factor it was made.
    """

    halo = DoubleUNet.halo
    stride = DoubleUNet.stride

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ModuleDict({str(factor): DoubleUNet() for factor in FACTORS})

    def at(self, factor: int) -> DoubleUNet:
        """The network of `factor` (one of FACTORS): it sees pixels of GSD x factor and speaks in them.

        ValueError for any other factor.
        """
        if factor not in FACTORS:
            raise ValueError(f"factor {factor}: there is a network for each of {', '.join(map(str, FACTORS))}")
        return cast(DoubleUNet, self.scales[str(factor)])
