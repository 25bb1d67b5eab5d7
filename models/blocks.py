"""Blocks of the instance network: pre-activation residual modules, nearest-upsampling decoder blocks.

Everything is plain torch: the compiled in-place batch norm of the published code is what its users could
not build, and its results are those of batch norm followed by a leaky ReLU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.01  # slope of the leaky ReLU behind every encoder batch norm


class Residual(nn.Module):
    """Identity residual block of WideResNet-38: norm, act, 3×3, norm, act, 3×3, plus the input.

    Shapes: (B, c_in, h, w) -> (B, c_out, h, w). Where c_in differs from c_out the shortcut is a 1×1
    convolution of the *activated* input, as published.
    """

    def __init__(self, c_in: int, c_mid: int, c_out: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_mid, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_mid)
        self.conv2 = nn.Conv2d(c_mid, c_out, 3, padding=1, bias=False)
        self.project = nn.Conv2d(c_in, c_out, 1, bias=False) if c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        a = F.leaky_relu(self.norm1(x), LEAK)
        shortcut = x if self.project is None else self.project(a)
        a = F.leaky_relu(self.norm2(self.conv1(a)), LEAK)
        out: Tensor = self.conv2(a) + shortcut
        return out


class ConvReLU(nn.Module):
    """3×3 convolution and ReLU, (B, c_in, h, w) -> (B, c_out, h, w).

    `norm` puts a batch norm between the two. The published decoder has none, but it starts from a
    pre-trained encoder; training from scratch needs it. `fold` takes it away again after training.
    """

    def __init__(self, c_in: int, c_out: int, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=not norm)
        self.norm = nn.BatchNorm2d(c_out) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return F.relu(x, inplace=True)

    @torch.no_grad()
    def fold(self) -> None:
        """Merge the batch norm (running statistics) into the convolution; in eval the result is the same."""
        if self.norm is None:
            return
        norm, old = self.norm, self.conv
        assert norm.running_var is not None and norm.running_mean is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        new = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1).to(old.weight.device)
        new.weight.copy_(old.weight * gain[:, None, None, None])
        assert new.bias is not None
        new.bias.copy_(norm.bias - norm.running_mean * gain)
        self.conv, self.norm = new, None


class Up(nn.Module):
    """Decoder block: nearest ×2 **first**, then two 3×3 convolutions with ReLU.

    (B, c_in, h, w) -> (B, c_out, 2h, 2w). Nearest left the cleanest building edges (paper, section 3).
    """

    def __init__(self, c_in: int, c_mid: int, c_out: int, norm: bool = False) -> None:
        super().__init__()
        self.conv1 = ConvReLU(c_in, c_mid, norm)
        self.conv2 = ConvReLU(c_mid, c_out, norm)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(F.interpolate(x, scale_factor=2.0, mode="nearest")))
        return out
