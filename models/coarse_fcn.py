"""The coarse classifier: Mnih's patch network made fully convolutional (Maggiori et al., section III).

    image (B, 3, H, W)                       H, W multiples of 4
      64 filters 12x12, stride 4, ReLU       a cell of 4 px from here on
     128 filters 3x3, ReLU
     128 filters 3x3, ReLU
       3 filters 9x9                         scores before the softmax; each cell has seen 60 px
       deconvolution 8x8, stride 4           one bilinear-born filter a class
    scores (B, 3, H - 60, W - 60)            centred: 30 px fewer on each side

All convolutions are valid and the deconvolution is cut where a pixel has only one cell, so every pixel
that comes out is exact, as long as the window starts at a multiple of 4 px (`stride`). 0.28 M parameters.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

CLASSES = ("building", "road", "background")
"""The order of the channels of both networks of the classification."""

MARGIN = 30
"""Pixels that the scores are short of on each side of the image."""


class CoarseFCN(nn.Module):
    """Scores u of building, road and background, before the softmax.

    Args:
        bands: channels of the image, stretched to 0..1 per scene; nodata is 0.
        classes: channels of the scores.
    """

    halo: ClassVar[int] = 36
    stride: ClassVar[int] = 4

    def __init__(self, bands: int = 3, classes: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(bands, 64, 12, stride=4)
        self.conv2 = nn.Conv2d(64, 128, 3)
        self.conv3 = nn.Conv2d(128, 128, 3)
        self.conv4 = nn.Conv2d(128, classes, 9)
        self.upsample = nn.ConvTranspose2d(classes, classes, 8, stride=4, padding=4, groups=classes, bias=False)
        for layer in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.conv4.weight, std=(1 / (128 * 81)) ** 0.5)
        nn.init.zeros_(self.conv4.bias)  # type: ignore[arg-type]
        self.upsample.weight.data.copy_(_bilinear(8).expand(classes, 1, 8, 8))

    def forward(self, image: Tensor) -> Tensor:
        """Scores (B, classes, H - 60, W - 60) of an image (B, bands, H, W), centred on it.

        Raises ValueError where H or W is no multiple of 4: the cells would not meet the window's end.
        """
        if image.shape[-1] % 4 or image.shape[-2] % 4:
            raise ValueError(f"the coarse network takes sides that are multiples of 4, not {tuple(image.shape)}")
        x = torch.relu(self.conv1(image - 0.5))  # centred, so that the first filters need no large bias
        x = torch.relu(self.conv2(x))
        x = torch.relu(self.conv3(x))
        scores: Tensor = self.upsample(self.conv4(x))
        return scores


def _bilinear(size: int) -> Tensor:
    """The (size, size) filter of bilinear upsampling by size / 2."""
    reach = size / 2
    ramp = 1 - (torch.arange(size) + 0.5 - reach).abs() / reach
    return ramp[:, None] * ramp[None, :]
