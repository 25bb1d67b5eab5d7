"""BCE + soft Jaccard against values worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from training.objectives_masks import bce_jaccard


def test_value_by_hand() -> None:
    target = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
    logits = torch.zeros(1, 1, 1, 4)  # p = .5 everywhere
    out = bce_jaccard(logits, target, torch.ones_like(target))
    jaccard = (1 + 1) / (1 + 1 + 1 + 1)  # y·p = 1, y + p − y·p = 3, and one pixel added to both
    assert float(out["jaccard"]) == pytest.approx(jaccard)
    assert float(out["bce"]) == pytest.approx(math.log(2))
    assert float(out["loss"]) == pytest.approx(0.7 * math.log(2) + 0.3 * (1 - jaccard))


def test_perfect_is_nearly_zero_and_wrong_is_large() -> None:
    target = (torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    weight = torch.ones_like(target)
    right, wrong = (bce_jaccard(sign * 20 * (2 * target - 1), target, weight)["loss"] for sign in (1, -1))
    assert float(right) < 1e-3 < 5 < float(wrong)


def test_unlabelled_pixels_and_channels_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 8, 8, generator=generator, requires_grad=True)
    target = (torch.rand(2, 2, 8, 8, generator=generator) > 0.5).float()
    weight = torch.zeros_like(target)
    weight[:, 0, :4] = 1
    out = bce_jaccard(logits, target, weight)
    out["loss"].backward()
    assert logits.grad is not None
    assert logits.grad[:, 0, :4].abs().min() > 0
    assert not logits.grad[:, 1].any() and not logits.grad[:, 0, 4:].any()
    alone = bce_jaccard(logits[:, :1, :4], target[:, :1, :4], weight[:, :1, :4])
    torch.testing.assert_close(out["loss"], alone["loss"])


def test_nothing_labelled_is_zero_and_finite() -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    out = bce_jaccard(logits, torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4))
    out["loss"].backward()
    assert out["loss"].item() == 0 and logits.grad is not None and torch.isfinite(logits.grad).all()
