"""Where the middle of a road runs: read off the maps of the successor's image branch (Girard et al. 2018, 2019).

The branch of alignment-successor has learned on many scenes what edges, roofs and surfaces look like at every scale,
and stays as it is. At every pixel a small perceptron reads its maps of all four levels, upsampled, and the colours
averaged over the same levels: 1x1 convolutions, so nothing is added to what a pixel sees. All convolutions are VALID:
for a core of C px, a multiple of 8, the input is C + 160 px; windows start on multiples of 8 (pooling phase).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.double_unet import centred
from models.successor_unet import READ, Branch, cropped

WIDTHS = (16, 32, 64, 128)
"""Channels of the branch's four levels: width 0.5."""

BANDS = 3
"""Red, green, blue."""


class LineReader(nn.Module):
    """Logit (B, 1, H - 160, W - 160) of "the middle of a road is here", from an image (B, 3, H, W) in 0..1.

    H and W must be multiples of 8, at least 168.
    """

    halo = 80
    stride = 8

    def __init__(self, hidden: int = 48) -> None:
        super().__init__()
        self.branch = Branch(1, list(WIDTHS))
        self.read = nn.ModuleList(nn.Conv2d(width + BANDS, hidden, 1, bias=level == 0)
                                  for level, width in enumerate(WIDTHS))  # fmt: skip
        self.middle = nn.Conv2d(hidden, hidden, 1)
        self.head = nn.Conv2d(hidden, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the core."""
        height, width = image.shape[2:]
        if image.shape[1] != BANDS or min(height, width) < 2 * self.halo + 8 or height % 8 or width % 8:
            raise ValueError(
                f"image {tuple(image.shape)}: must have {BANDS} bands, and sides that are multiples of 8 and at least "
                f"{2 * self.halo + 8} px"
            )
        core = height - 2 * self.halo, width - 2 * self.halo
        total: Tensor | None = None
        for level, (found, read) in enumerate(zip(self.maps(image), self.read, strict=True)):
            part = read(cropped(found, *((side >> level) for side in core)))
            part = F.interpolate(part, scale_factor=float(2**level), mode="nearest") if level else part
            total = part if total is None else total + part
        assert total is not None
        logits: Tensor = self.head(F.elu(self.middle(F.elu(total)))).float()
        return logits

    def maps(self, image: Tensor) -> list[Tensor]:
        """The branch's maps of the four levels with the mean colours over their cells, finest first; centred."""
        read = image.shape[2] - 2 * self.halo + 2 * READ, image.shape[3] - 2 * self.halo + 2 * READ
        colour = centred(image)
        maps = []
        for level, found in enumerate(self.branch(cropped(colour, *read).mean(1, keepdim=True))):
            means = F.avg_pool2d(colour, 2**level) if level else colour
            maps.append(torch.cat([found, cropped(means, *found.shape[2:])], 1))
        return maps

    def start_from(self, successor: Mapping[str, Tensor]) -> None:
        """Take the image branch of a gray SuccessorUNet of width 0.5."""
        name = "image_branch."
        own = {key.removeprefix(name): value.float() for key, value in successor.items() if key.startswith(name)}
        self.branch.load_state_dict(own)
