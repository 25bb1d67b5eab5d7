"""Loss of the instance network: binary cross entropy and soft Jaccard (TernausNetV2, equations 1–3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ALPHA = 0.7  # weight of the cross entropy (paper, section 4)


def bce_jaccard(logits: Tensor, target: Tensor, weight: Tensor, alpha: float = ALPHA) -> dict[str, Tensor]:
    """L = alpha · H + (1 − alpha) · (1 − J), mean of the channels.

    logits, target, weight: (B, C, h, w) float; target 0..1; weight 0 where a channel is not labelled
    (outside the area of interest, or touching borders of a scene whose labels are merged).
    J is taken over all pixels of a channel in the batch: the sums of y·p and of y + p − y·p. Equation 2 as
    printed averages a quotient per pixel, which is 0/0 on background; the published code sums as here.
    A channel with no labelled pixel in the batch adds nothing.
    Returns loss and, detached, `bce` and `jaccard` (1 where nothing is labelled).
    """
    axes = (0, 2, 3)
    labelled = weight.sum(axes)
    used = (labelled > 0).to(logits.dtype)
    channels = used.sum().clamp(min=1)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    h = (entropy * weight).sum(axes) / labelled.clamp(min=1)
    p = torch.sigmoid(logits)
    both = (p * target * weight).sum(axes)
    either = ((p + target - p * target) * weight).sum(axes)
    j = (both + 1.0) / (either + 1.0)  # + 1 px: an empty channel that is predicted empty is perfect
    loss = ((alpha * h + (1 - alpha) * (1 - j)) * used).sum() / channels
    return {
        "loss": loss,
        "bce": ((h * used).sum() / channels).detach(),
        "jaccard": torch.where(used.sum() > 0, (j * used).sum() / channels, torch.ones_like(loss)).detach(),
    }
