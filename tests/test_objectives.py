"""The alignment's losses."""

from __future__ import annotations

import pytest
import torch

from training.objectives import displacement_loss, segmentation_loss


def test_displacement_loss_is_a_weighted_mean_of_squared_lengths() -> None:
    predicted, target = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    target[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    weight = torch.tensor([[[[1.0, 3.0]]]])
    assert float(displacement_loss(predicted, target, weight)) == pytest.approx(25 / 4)


def test_pixels_that_do_not_count_have_no_gradient_and_none_gives_zero() -> None:
    predicted = torch.ones(1, 2, 2, 2, requires_grad=True)
    weight = torch.zeros(1, 1, 2, 2)
    assert displacement_loss(predicted, torch.zeros(1, 2, 2, 2), weight).item() == 0
    weight[..., 0, 0] = 2
    displacement_loss(predicted, torch.zeros(1, 2, 2, 2), weight).backward()
    assert predicted.grad is not None and (predicted.grad != 0).sum() == 2


def test_segmentation_loss_counts_only_where_it_is_told() -> None:
    logits, target = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    counts = torch.zeros(1, 1, 2, 2)
    assert float(segmentation_loss(logits, target, counts)) == 0
    counts[..., 0, :] = 1
    assert float(segmentation_loss(logits, target, counts)) == pytest.approx(0.693147, abs=1e-4)
