"""Refinement of the coarse classes by a learned iterative process (Maggiori et al. 2017, section IV)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.networks import FORWARD_LOCK, centre_crop

if TYPE_CHECKING:
    import torch

VERSION = 1


def refined_scores(
    network: torch.nn.Module, scores: torch.Tensor, image: NDArray[np.float32], device: str
) -> torch.Tensor:
    """Scores (1, classes, h, w) after the five iterations, from coarse scores and the image window.

    A coarse map smaller than the window (valid convolutions) is met by the image's centre.
    """
    import torch

    side = scores.shape[-1]
    with torch.inference_mode(), FORWARD_LOCK:
        seen = torch.from_numpy(np.ascontiguousarray(centre_crop(image, side)))[None].to(device)
        answer: torch.Tensor = network(scores, seen)
    return answer
