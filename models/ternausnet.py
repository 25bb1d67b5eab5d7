"""TernausNetV2 (Iglovikov et al. 2018): one network that says where buildings are and where they touch.

The published network and the narrow one that ships are the same class; only the constructor's numbers differ:

    bands ─ stem 3×3 ──────────────────────────────────────────────┐ 1
              pool ─ module 2 ───────────────────────────────────┐ │ 2
                       pool ─ module 3 ───────────────────────┐  │ │ 4
                                pool ─ …                      │  │ │
                                  pool ─ centre ×2 ─ cat ─ up ×2 cat ─ up ×2 cat ─ 3×3 ─ 1×1 ─ 2 logits

Channels out: 0 = building mask, 1 = borders of buildings that touch or nearly do. `forward` returns LOGITS;
the caller applies the sigmoid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.blocks import ConvReLU, Residual, Up

MEAN = (0.485, 0.456, 0.406)  # ImageNet, for the first three bands (paper, section 4)
STD = (0.229, 0.224, 0.225)

PUBLISHED_ENCODER = (
    (3, 128, 128),
    (3, 256, 256),
    (6, 512, 512),
    (3, 512, 1024),
)  # WideResNet-38, modules 2–5
PUBLISHED_DECODER = ((256, 256), (256, 256), (256, 256), (64, 64), (64, 32))

# The narrow network: 4 pools, exact with a halo of 96 px.
NARROW: dict[str, object] = {
    "bands": 3,
    "stem": 16,
    "encoder": [[1, 32, 32], [2, 64, 64], [2, 160, 160]],
    "decoder": [[96, 96], [64, 48], [32, 24], [16, 16]],
    "head": 16,
}


class TernausNetV2(nn.Module):
    """Building mask and touching borders from an image.

    bands    input channels; three or more start with RGB, the others are taken as they come (0..1)
    stem     channels of the first convolution (no bias, no activation)
    encoder  one (blocks, middle channels, channels out) a module; module i works at 1/2^(i+1)
    decoder  one (middle, out) channels a block, centre first; one more than the encoder has modules
    head     channels of the last 3×3 convolution
    decoder_norm  batch norm in the decoder while training from scratch; `fold` removes it for shipping

    forward: (B, bands, H, W) float in 0..1 (the scene's stretch), H and W multiples of `stride`
             -> (B, 2, H, W) logits: mask, touching borders.
    The default arguments are the published network: 11 bands, 67.2 M parameters.
    """

    mean: Tensor
    std: Tensor
    encoder_frozen: bool = False  # set by `freeze_encoder`

    def __init__(
        self,
        bands: int = 11,
        stem: int = 64,
        encoder: Sequence[Sequence[int]] = PUBLISHED_ENCODER,
        decoder: Sequence[Sequence[int]] = PUBLISHED_DECODER,
        head: int = 32,
        decoder_norm: bool = False,
    ) -> None:
        super().__init__()
        if len(decoder) != len(encoder) + 1:
            raise ValueError(
                f"{len(encoder)} encoder modules need {len(encoder) + 1} decoder blocks, not {len(decoder)}"
            )
        self.blocks_each = tuple(int(m[0]) for m in encoder)
        mean, std = [0.0] * bands, [1.0] * bands
        if bands >= 3:
            mean[:3], std[:3] = MEAN, STD
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

        self.stem = nn.Conv2d(bands, stem, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        modules, skips, width = [], [stem], stem
        for blocks, c_mid, c_out in encoder:
            modules.append(nn.Sequential(*(Residual(c_out if i else width, c_mid, c_out) for i in range(blocks))))
            width = c_out
            skips.append(width)
        self.encoder = nn.ModuleList(modules)
        ups, width = [], skips[-1]
        for i, (c_mid, c_out) in enumerate(decoder):
            ups.append(Up(width, c_mid, c_out, decoder_norm))
            width = c_out + skips[-1 - i]
        self.decoder = nn.ModuleList(ups)
        self.head = ConvReLU(width, head, decoder_norm)
        self.final = nn.Conv2d(head, 2, 1)

    @property
    def stride(self) -> int:
        """Total pooling stride: H, W and every window's origin must be multiples of it (px)."""
        return 1 << (len(self.blocks_each) + 1)

    @property
    def reach(self) -> int:
        """How far, in px, an input pixel can change the output beyond a core that is aligned to the stride.

        Walks the network from the output back: a 3×3 convolution adds 1 px at its own level, upsampling
        divides by two (rounding away), pooling multiplies by two.
        """
        r = 1  # head
        for _ in range(len(self.blocks_each) + 1):
            r = -(-(r + 2) // 2)  # two convolutions, then nearest ×2
        for blocks in reversed(self.blocks_each):
            r = 2 * r + 2 * blocks  # pool, then the module
        return 2 * r + 1  # first pool, stem

    @property
    def halo(self) -> int:
        """Pixels a window needs on every side for its core to be exact: `reach` rounded up to the stride."""
        return -(-self.reach // self.stride) * self.stride

    def train(self, mode: bool = True) -> TernausNetV2:
        """As every module's, but the batch norms of a frozen encoder keep their statistics (`freeze_encoder`)."""
        super().train(mode)
        if self.encoder_frozen:
            self.encoder.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem((x - self.mean) / self.std)
        skips = [x]
        for module in self.encoder:
            x = module(self.pool(x))
            skips.append(x)
        x = self.pool(x)
        for up in self.decoder:
            x = torch.cat((up(x), skips.pop()), dim=1)
        out: Tensor = self.final(self.head(x))
        return out

    def fold(self) -> TernausNetV2:
        """Take the decoder's batch norms into its convolutions, in place: the published decoder. Eval only."""
        for part in self.modules():
            if isinstance(part, ConvReLU):
                part.fold()
        return self


def encoder_parameters(network: TernausNetV2) -> list[nn.Parameter]:
    """Parameters that the published schedule keeps frozen in epoch 1: the stem and the encoder modules."""
    return [*network.stem.parameters(), *network.encoder.parameters()]


def freeze_encoder(network: TernausNetV2, frozen: bool = True) -> None:
    """Freeze stem and encoder, or release them: epoch 1 of the published schedule, and what follows (section 4).

    Frozen means all of it: no gradient, and batch norms that use and keep the statistics they came with, also
    after `train()`. The paper says "all weights"; were the statistics left to follow the new images, the decoder
    would learn from an encoder that drifts, and with the extra bands at zero it would no longer be the RGB network's.
    """
    network.encoder_frozen = frozen
    for parameter in encoder_parameters(network):
        parameter.requires_grad_(not frozen)
        if frozen:
            parameter.grad = None
    network.train(network.training)


@torch.no_grad()
def widen(network: TernausNetV2, narrower: dict[str, Tensor]) -> None:
    """Load weights trained on fewer bands, as a rule on RGB; the extra bands start at zero (section 3).

    `narrower` is the state of a network that is equal but for `bands`: its bands are this one's first ones.
    Until the first step the answer does not depend on the extra bands. Raises RuntimeError where the two do not fit.
    """
    state = dict(narrower)
    known = state["stem.weight"]
    bands = network.stem.in_channels
    if known.shape[1] > bands:
        raise RuntimeError(f"weights of {known.shape[1]} bands do not go into a network of {bands}")
    first = known.new_zeros((known.shape[0], bands, *known.shape[2:]))
    first[:, : known.shape[1]] = known
    state["stem.weight"] = first
    network.load_state_dict(state)
