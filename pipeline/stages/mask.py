"""Scores for instances (TernausNetV2): building mask and touching borders, the network's half of `split`.

It stands apart from `split` because it wants the accelerator, while splitting wants a CPU core: the one
never waits for the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.networks import FORWARD_LOCK, centre_crop

if TYPE_CHECKING:
    import torch

VERSION = 1


def mask_scores(
    network: torch.nn.Module, image: NDArray[np.float32], side: int, device: str
) -> NDArray[np.float32]:
    """Probabilities (2, side, side) of mask and touching border on the core of a window (bands, h, w)."""
    import torch

    with torch.inference_mode(), FORWARD_LOCK:
        logits = network(torch.from_numpy(image)[None].to(device))
        answer: NDArray[np.float32] = torch.sigmoid(logits.float())[0].cpu().numpy()
    return centre_crop(answer, side)
