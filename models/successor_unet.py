"""U-Net with two branches and two decoders that aligns and segments at once (Girard et al. 2018, 2019).

One branch reads the image, one three rasters of the polygons to move; their maps are concatenated at every
level and decoded twice: to a displacement field and to a segmentation. All convolutions are VALID, 3x3, with
ELU behind; no normalisation. For a core of C px (a multiple of 8) and channels at width 1:

              branches (32/64/128/256 image, 16/32/64/128 polygons)    common part      decoders
    level 0   C + 140 -> C + 136                                       48  C + 4        C
    level 1   C/2 + 68 -> C/2 + 64                                     96  C/2 + 8      C/2 + 4
    level 2   C/4 + 32 -> C/4 + 28                                    192  C/4 + 10     C/4 + 6
    level 3   C/8 + 14 -> C/8 + 10                                    384  C/8 + 6

A decoder's level is nearest-neighbour upsampling, one convolution that halves the channels, concatenation with
the common part, two convolutions. What a map has beyond what the core needs is cut off before it is convolved.
The input is C + 160 px: a halo of 80 px, of which the outer 10 are not read, so that rasters that were dilated
within the window are exact wherever they count. Windows start on multiples of 8 (pooling phase).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.double_unet import centred

REACH = 8.0
"""Largest displacement the head can say per axis, px; it trains on up to 4."""

READ = 70
"""Px around the core that the network reads."""

SEGMENTS = ("background", "fill", "edge", "vertex")
"""Channels of the segmentation. A pixel may be of several: they are independent."""


class Level(NamedTuple):
    """Outputs at one resolution level: field (B, 2, h, w) in px of level 0, segmentation logits (B, 4, h, w)."""

    field: Tensor
    logits: Tensor


class Convolutions(nn.Sequential):
    """Valid 3x3 convolutions along `widths`, each followed by ELU: 2 px less a side and convolution."""

    def __init__(self, *widths: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3), nn.ELU(inplace=True)]
        super().__init__(*layers)


class Branch(nn.Module):
    """Four levels of one input, two convolutions each, maximum pooling between them."""

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Convolutions(a, b, b) for a, b in pairwise([channels, *widths]))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps of the four levels, finest first, before the pooling that leads to the next."""
        maps: list[Tensor] = []
        for block in self.blocks:
            maps.append(block(F.max_pool2d(maps[-1], 2) if maps else x))
        return maps


class Decoder(nn.Module):
    """From the common part's maps to `outputs` channels at levels 0, 1 and 2."""

    def __init__(self, widths: list[int], outputs: int) -> None:
        super().__init__()
        self.ups = nn.ModuleList(Convolutions(coarse, fine) for fine, coarse in pairwise(widths))
        self.blocks = nn.ModuleList(Convolutions(2 * fine, fine, fine) for fine in widths[:-1])
        self.heads = nn.ModuleList(nn.Conv2d(fine, outputs, 1) for fine in widths[:-1])

    def forward(self, common: list[Tensor], core: tuple[int, int]) -> list[Tensor]:
        """Outputs at levels 0, 1, 2 over the core: (B, outputs, core / 2^level)."""
        x, found = common[3], list[Tensor]()
        for level in (2, 1, 0):
            like = common[level]
            up = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.ups[level](cropped(up, like.shape[2] + 2, like.shape[3] + 2))
            x = self.blocks[level](torch.cat([x, like], 1))
            found.append(cropped(self.heads[level](x), core[0] >> level, core[1] >> level))
        return found[::-1]


class SuccessorUNet(nn.Module):
    """Displacement (dx, dy) in px of the network's own level, x right and y down (new = old + d(old)), and
    where buildings are in the image, also those that the polygons lack.

    `image` (B, image_channels, H, W) is the scene-stretched image in 0..1, `rasters` (B, 3, H, W) the polygons
    to move (see `polygon_rasters`). H and W must be multiples of 8, at least 168. `width` scales every number
    of channels: 1 is the published network, 9.35 million parameters a scale.
    """

    halo = 80
    stride = 8

    def __init__(self, width: float = 1.0, image_channels: int = 1) -> None:
        super().__init__()
        polygon = [max(1, round(16 * 2**level * width)) for level in range(4)]
        image = [2 * channels for channels in polygon]
        common = [3 * channels for channels in polygon]
        self.width, self.image_channels = width, image_channels
        self.image_branch, self.polygon_branch = Branch(image_channels, image), Branch(3, polygon)
        self.common = nn.ModuleList(Convolutions(channels, channels, channels) for channels in common)
        self.displacement, self.segmentation = Decoder(common, 2), Decoder(common, len(SEGMENTS))
        initialise(self)

    def forward(self, image: Tensor, rasters: Tensor) -> tuple[Tensor, Tensor]:
        """Field (B, 2, H - 160, W - 160) and segmentation logits (B, 4, H - 160, W - 160) of the core."""
        finest = self.levels(image, rasters)[0]
        return finest.field, finest.logits

    def levels(self, image: Tensor, rasters: Tensor) -> list[Level]:
        """Outputs over the core at levels 0, 1 and 2, whose pixels are 1, 2 and 4 px wide.

        B rasters may share b images, in the same order and again from the start: B is a multiple of b.
        """
        common, core = self.merged(image, rasters)
        fields = [displacement_of(x) for x in self.displacement(common, core)]
        logits = [x.float() for x in self.segmentation(common, core)]
        return [Level(field, scores) for field, scores in zip(fields, logits, strict=True)]

    def displace(self, image: Tensor, rasters: Tensor) -> Tensor:
        """The field alone, without the cost of the segmentation."""
        common, core = self.merged(image, rasters)
        return displacement_of(self.displacement(common, core)[0])

    @torch.no_grad()
    def predict(self, image: Tensor, rasters: Tensor) -> tuple[Tensor, Tensor]:
        """Field (B, 2, h, w) and probabilities (B, 4, h, w) of SEGMENTS, without gradients."""
        field, logits = self(image, rasters)
        return field, torch.sigmoid(logits)

    def merged(self, image: Tensor, rasters: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """Maps of the common part at the four levels, as far as the core needs them, and the core's size."""
        height, width = image.shape[2:]
        least = 2 * self.halo + 8
        if image.shape[1] != self.image_channels or rasters.shape[1] != 3 or image.shape[2:] != rasters.shape[2:]:
            raise ValueError(
                f"image {tuple(image.shape)} and rasters {tuple(rasters.shape)} must have one size, "
                f"{self.image_channels} and 3 channels"
            )
        if min(height, width) < least or height % 8 or width % 8:
            raise ValueError(f"{height} x {width} px: must be multiples of 8 and at least {least}")
        core = height - 2 * self.halo, width - 2 * self.halo
        read = core[0] + 2 * READ, core[1] + 2 * READ
        seen = self.image_branch(centred(cropped(image, *read)))
        drawn = self.polygon_branch(cropped(rasters, *read))
        times = len(rasters) // len(image)
        maps = []
        for level, (a, b) in enumerate(zip(seen, drawn, strict=True)):
            size = [(n >> level) + (8, 12, 14, 10)[level] for n in core]
            both = torch.cat([cropped(a, *size).repeat(times, 1, 1, 1), cropped(b, *size)], 1)
            maps.append(self.common[level](both))
        return maps, core


def displacement_of(x: Tensor) -> Tensor:
    """Displacement in px from the head's output: bounded by REACH, slope 1 at 0."""
    return REACH * torch.tanh(x.float() / REACH)


def cropped(x: Tensor, height: int, width: int) -> Tensor:
    """The centre of (B, c, H, W), `height` x `width`; H - height and W - width are even."""
    y, x0 = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, y : y + height, x0 : x0 + width]


def polygon_rasters(cadaster: Tensor, vertices: Tensor) -> Tensor:
    """The network's three rasters, (B, 3, H, W) of 0 and 1: fill, edge 3 px wide, vertex 3 x 3 px.

    `cadaster` (B, 1, H, W) is 1 on outlines one pixel wide, 0.5 inside, 0 elsewhere; `vertices` (B, 1, H, W)
    is 1 where a vertex falls (`mark_vertices`). What lies just outside the window is not dilated into it; the
    network does not read that far out.
    """
    marks = torch.cat([(cadaster == 1).to(vertices.dtype), vertices], 1)
    return torch.cat([(cadaster > 0).to(vertices.dtype), F.max_pool2d(marks, 3, 1, 1)], 1)


def mark_vertices(xy: Tensor, height: int, width: int) -> Tensor:
    """(1, height, width) float32: 1 in pixels where a vertex (n, 2: x, y px, corner origin) falls, 0 elsewhere."""
    cell = torch.floor(xy).long()
    cell = cell[(cell >= 0).all(1) & (cell[:, 0] < width) & (cell[:, 1] < height)]
    marks = torch.zeros(1, height, width)
    marks[0, cell[:, 1], cell[:, 0]] = 1.0
    return marks


def initialise(network: SuccessorUNet) -> None:
    """Normal weights that keep the variance through ELU; biases 0; heads near 0: zero field, even odds."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, std=math.sqrt(1.55 / fan))
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        for decoder in (network.displacement, network.segmentation):
            for head in decoder.heads:
                head.get_parameter("weight").mul_(0.1)
