"""The double U-Net with one cadaster channel a class (Zampieri et al. 2018: multi-class and road alignment)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from models.double_unet import DoubleUNet, centred, initialise


class DoubleUNetClasses(DoubleUNet):
    """`DoubleUNet` whose `cadaster` (B, classes, H, W) has a raster for each of `classes`, in that order.

    A polygon's raster is 1 on outlines, 0.5 inside; a line's is 1 on a strip. The field is one for all classes.
    """

    def __init__(self, classes: Sequence[str] = ("building", "road")) -> None:
        super().__init__()
        self.classes = tuple(classes)
        before = self.cadaster_tower.level1[0]
        assert isinstance(before, nn.Conv2d)
        first = nn.Conv2d(len(self.classes), before.out_channels, before.kernel_size[0])
        initialise(first)
        self.cadaster_tower.level1[0] = first

    def forward(self, image: Tensor, cadaster: Tensor) -> Tensor:
        """Displacement field of the centre, (B, 2, H - 64, W - 64)."""
        sides = image.shape[2:]
        if cadaster.shape[1] != len(self.classes) or image.shape[1] != 1 or cadaster.shape[2:] != sides:
            raise ValueError(
                f"image {tuple(image.shape)} and cadaster {tuple(cadaster.shape)} must have one size, "
                f"1 and {len(self.classes)} channels"
            )
        if min(sides) < 72 or any(side % 4 for side in sides):
            raise ValueError(f"{sides[0]} x {sides[1]} px: must be multiples of 4 and at least 72")
        return self.decode(self.image_tower(centred(image)), self.cadaster_tower(cadaster))

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take a DoubleUNet's weights: its raster becomes that of the first class, the other classes say nothing yet.

        With nothing drawn of the other classes the answer is the DoubleUNet's, to the bit.
        """
        own = dict(weights)
        name = "cadaster_tower.level1.0.weight"
        one = own[name]
        own[name] = torch.cat([one, one.new_zeros(one.shape[0], len(self.classes) - 1, *one.shape[2:])], 1)
        self.load_state_dict(own)
