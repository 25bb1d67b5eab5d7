"""Double U-Net that predicts where a cadaster must move (Zampieri et al. 2018, supplementary figures).

Two towers of one shape read the gray image and the cadaster's raster; their maps are merged at every level
and decoded to a displacement field. All convolutions are VALID, so no output pixel ever sees padding:

    input      N            N must be a multiple of 4, at least 72
    level 1    N - 8        5x5 1->16, 5x5 16->32                 merged 64->32->32
    level 2    N/2 - 8      pool 2, 3x3 32->32 twice              merged 64->64->64
    level 3    N/4 - 8      pool 2, 3x3 32->64, 64->64            merged 128->64->64
    output     N - 64       up, 128->64->32, up, 64->64->64->32->2, the last one linear

Output pixel (i, j) lies over input pixel (i + 32, j + 32): the halo is 32 px at the network's own level, and
an input of 256 + 2 * 32 px gives exactly the centred 256. Windows start on multiples of 4 (pooling phase).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Maps = tuple[Tensor, Tensor, Tensor]

SLOPE = 0.1
"""Negative slope of every LeakyReLU."""


class Block(nn.Sequential):
    """Valid convolutions of one kernel size along `widths`, each followed by LeakyReLU."""

    def __init__(self, kernel: int, *widths: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, kernel), nn.LeakyReLU(SLOPE, inplace=True)]
        super().__init__(*layers)


class Tower(nn.Module):
    """Three levels of one input: (B, 1, N, N) -> (B, 32, N-8), (B, 32, N/2-8), (B, 64, N/4-8)."""

    def __init__(self) -> None:
        super().__init__()
        self.level1 = Block(5, 1, 16, 32)
        self.level2 = Block(3, 32, 32, 32)
        self.level3 = Block(3, 32, 64, 64)

    def forward(self, x: Tensor) -> Maps:
        """Maps of the three levels, before the pooling that leads to the next."""
        fine = self.level1(x)
        middle = self.level2(F.max_pool2d(fine, 2))
        return fine, middle, self.level3(F.max_pool2d(middle, 2))


class DoubleUNet(nn.Module):
    """Displacement (dx, dy) in px of the network's own level, x right and y down: new = old + d(old).

    `image` (B, 1, H, W) is the scene-stretched gray image in 0..1, `cadaster` (B, 1, H, W) the raster of the
    polygons to move: 1 on outlines, 0.5 inside, 0 elsewhere. Returns (B, 2, H - 64, W - 64). The field is
    meant at the pixels of the cadaster as it was drawn. H and W must be multiples of 4, at least 72.
    """

    halo = 32
    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.image_tower, self.cadaster_tower = Tower(), Tower()
        self.merge1 = Block(3, 64, 32, 32)
        self.merge2 = Block(3, 64, 64, 64)
        self.merge3 = Block(3, 128, 64, 64)
        self.up2 = nn.ConvTranspose2d(64, 64, 2, stride=2)
        self.decode2 = Block(3, 128, 64, 32)
        self.up1 = nn.ConvTranspose2d(32, 32, 2, stride=2)
        self.decode1 = Block(3, 64, 64, 64, 32)
        self.head = nn.Conv2d(32, 2, 3)
        initialise(self)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # begin near the zero field

    def forward(self, image: Tensor, cadaster: Tensor) -> Tensor:
        """Displacement field of the centre, (B, 2, H - 64, W - 64)."""
        if image.shape != cadaster.shape or min(image.shape[2:]) < 72 or any(n % 4 for n in image.shape[2:]):
            raise ValueError(
                f"image {tuple(image.shape)} and cadaster {tuple(cadaster.shape)} must have one shape, "
                "height and width multiples of 4 and at least 72"
            )
        return self.decode(self.image_tower(centred(image)), self.cadaster_tower(cadaster))

    def decode(self, image: Maps, cadaster: Maps) -> Tensor:
        """Field from the maps of both towers. Maps are cropped before they merge: the rest is never used."""
        x = F.leaky_relu(self.up2(self.merge3(torch.cat([image[2], cadaster[2]], 1))), SLOPE)
        x = self.decode2(torch.cat([x, self.merge2(crop_pair(image[1], cadaster[1], x, 2))], 1))
        x = F.leaky_relu(self.up1(x), SLOPE)
        x = self.decode1(torch.cat([x, self.merge1(crop_pair(image[0], cadaster[0], x, 2))], 1))
        field: Tensor = self.head(x)
        return field


def centred(image: Tensor) -> Tensor:
    """Gray in 0..1 brought to about zero mean and unit deviation."""
    return (image - 0.4) * 4.0


def crop_pair(a: Tensor, b: Tensor, like: Tensor, margin: int) -> Tensor:
    """Two maps of one size, cut centrally to the size of `like` plus `margin` a side, concatenated."""
    height, width = like.shape[2] + 2 * margin, like.shape[3] + 2 * margin
    y, x = (a.shape[2] - height) // 2, (a.shape[3] - width) // 2
    return torch.cat([a[:, :, y : y + height, x : x + width], b[:, :, y : y + height, x : x + width]], 1)


def initialise(network: nn.Module) -> None:
    """He initialisation for LeakyReLU of every convolution; biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            transposed = isinstance(module, nn.ConvTranspose2d)
            nn.init.kaiming_normal_(module.weight, SLOPE, "fan_out" if transposed else "fan_in", "leaky_relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
