"""Loss of the alignment: squared displacement error weighted by what a pixel shows (Zampieri et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BACKGROUND, FILL, EDGE, VERTEX = 0.02, 0.2, 1.0, 2.0
"""Weights of the pixel classes of the cadaster as drawn."""


def displacement_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of |predicted - target|^2 in px^2: fields (B, 2, h, w), `weight (B, 1, h, w)` >= 0.

    0 where no pixel counts.
    """
    error = ((predicted - target) ** 2).sum(1, keepdim=True)
    return (error * weight).sum() / weight.sum().clamp_min(1e-6)


def segmentation_loss(logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Mean binary cross-entropy where `counts (B, 1, h, w)` is 1; logits and targets are (B, k, h, w)."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1, keepdim=True)
    return torch.as_tensor((loss * counts).sum() / counts.sum().clamp_min(1.0))
