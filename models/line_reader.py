"""Where the middle of a road runs: read off the maps of the successor's image branch (Girard et al. 2018, 2019).

The branch of alignment-successor has learned on many scenes what edges, roofs and surfaces look like at every scale;
here it reads colours. At every pixel a small perceptron reads its maps of all four levels, upsampled, and the colours
averaged over the same levels: 1x1 convolutions. A decoder like the successor's, of the same maps, adds to what the
perceptron's first layer says: from coarse to fine, so that what is far from a pixel tells which of the lines near it
is a road's middle. All convolutions are VALID: for a core of C px, a multiple of 8, the input is C + 160 px, of which
the outer 10 are not read; windows start on multiples of 8 (pooling phase).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.double_unet import centred
from models.successor_unet import READ, Branch, Convolutions, Decoder, cropped

WIDTHS = (16, 32, 64, 128)
"""Channels of the branch's four levels: width 0.5."""

BANDS = 3
"""Red, green, blue."""

BEYOND = (4, 8, 10, 10)
"""What the decoder needs of the maps of each level beyond the core, px of the level, both sides together."""


class LineReader(nn.Module):
    """Logit (B, 1, H - 160, W - 160) of "the middle of a road is here", from an image (B, 3, H, W) in 0..1.

    H and W must be multiples of 8, at least 168. `hidden` is the perceptron's width, `decoder` the decoder's channels
    at the finest level, twice as many at each coarser one; without, the branch reads gray and the perceptron is all.
    """

    halo = 80
    stride = 8

    def __init__(self, hidden: int = 48, decoder: int = 0) -> None:
        super().__init__()
        self.branch = Branch(BANDS if decoder else 1, list(WIDTHS))
        self.read = nn.ModuleList(nn.Conv2d(width + BANDS, hidden, 1, bias=level == 0)
                                  for level, width in enumerate(WIDTHS))  # fmt: skip
        self.middle = nn.Conv2d(hidden, hidden, 1)
        self.head = nn.Conv2d(hidden, 1, 1)
        self.narrow, self.decoder = nn.ModuleList(), None
        if decoder:
            widths = [decoder * 2**level for level in range(4)]
            self.narrow.extend(nn.Conv2d(before + BANDS, after, 1) for before, after in zip(WIDTHS[:3], widths[:3],
                                                                                           strict=True))  # fmt: skip
            self.narrow.append(Convolutions(WIDTHS[3] + BANDS, widths[3], widths[3]))
            self.decoder = Decoder(widths, hidden)
            for module in [*self.narrow.modules(), *self.decoder.modules()]:
                if isinstance(module, nn.Conv2d):  # keeps the variance through ELU
                    nn.init.normal_(module.weight, std=math.sqrt(1.55 / module.weight[0].numel()))
                    nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            for head in self.decoder.heads:
                nn.init.zeros_(head.get_parameter("weight"))  # at first the perceptron says all

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the core."""
        height, width = image.shape[2:]
        if image.shape[1] != BANDS or min(height, width) < 2 * self.halo + 8 or height % 8 or width % 8:
            raise ValueError(
                f"image {tuple(image.shape)}: must have {BANDS} bands, and sides that are multiples of 8 and at least "
                f"{2 * self.halo + 8} px"
            )
        core = height - 2 * self.halo, width - 2 * self.halo
        maps = self.maps(image)
        parts = [
            read(cropped(found, *(side >> level for side in core)))
            for level, (found, read) in enumerate(zip(maps, self.read, strict=True))
        ]
        if self.decoder is not None:
            common = [
                narrow(cropped(found, *((side >> level) + beyond for side in core)))
                for level, (found, narrow, beyond) in enumerate(zip(maps, self.narrow, BEYOND, strict=True))
            ]
            for level, more in enumerate(self.decoder(common, core)):
                parts[level] = parts[level] + more
        total = parts[0]
        for level, part in enumerate(parts[1:], start=1):
            total = total + F.interpolate(part, scale_factor=float(2**level), mode="nearest")
        logits: Tensor = self.head(F.elu(self.middle(F.elu(total)))).float()
        return logits

    def maps(self, image: Tensor) -> list[Tensor]:
        """The branch's maps of the four levels with the mean colours over their cells, finest first; centred."""
        read = image.shape[2] - 2 * self.halo + 2 * READ, image.shape[3] - 2 * self.halo + 2 * READ
        colour = centred(image)
        maps = []
        seen = cropped(colour, *read)
        seen = seen if self.decoder is not None else seen.mean(1, keepdim=True)
        for level, found in enumerate(self.branch(seen)):
            means = F.avg_pool2d(colour, 2**level) if level else colour
            maps.append(torch.cat([found, cropped(means, *found.shape[2:])], 1))
        return maps

    def start_from(self, successor: Mapping[str, Tensor]) -> None:
        """Take the image branch of a gray SuccessorUNet of width 0.5; where it reads colours, by a third of each."""
        name, first = "image_branch.", "blocks.0.0.weight"
        own = {key.removeprefix(name): value.float() for key, value in successor.items() if key.startswith(name)}
        bands = self.branch.blocks[0][0].weight.shape[1]  # type: ignore[index]
        own[first] = own[first].expand(-1, bands, -1, -1) / bands
        self.branch.load_state_dict(own)
