"""Coarse classification (Maggiori et al. 2017, section III): building, road, background, at about 1 m.

The coarse network and the refinement see the same fixed window, wide enough for both, so that the two
stages come from the same arrays whether they run together or one is resumed without the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.networks import FORWARD_LOCK, centre_crop

if TYPE_CHECKING:
    import torch

VERSION = 1
HALO = 48
"""px of the stage's level: the coarse network's 36 and the refiner's 10, rounded up to its stride."""


def coarse_scores(network: torch.nn.Module, image: NDArray[np.float32], device: str) -> torch.Tensor:
    """Scores before the softmax, (1, classes, h, w), of a stretched image window (bands, h, w)."""
    import torch

    with torch.inference_mode(), FORWARD_LOCK:
        scores: torch.Tensor = network(torch.from_numpy(image)[None].to(device))
    return scores


def probabilities(scores: torch.Tensor, side: int) -> NDArray[np.float32]:
    """Softmax of scores (1, classes, h, w) on the window's core: (classes, side, side) float32."""
    import torch

    answer: NDArray[np.float32] = torch.softmax(scores.float(), dim=1)[0].cpu().numpy()
    return centre_crop(answer, side)
