"""The training loop: rates, logs, checkpoints, resume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.loop import fit, learning_rate, load_network


def line() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def task(network: nn.Module, seen: list[float] | None = None):
    def loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        x = torch.from_numpy(rng.standard_normal((8, 3))).float()
        if seen is not None:
            seen.append(float(x[0, 0]))
        error = ((network(x)[:, 0] - x.sum(1)) ** 2).mean()
        return {"loss": error, "half": error / 2}

    return loss


def test_learning_rate_warms_up_and_anneals() -> None:
    assert learning_rate(0.0, 1.0, "cosine", 0.1) == pytest.approx(0.05)
    assert learning_rate(0.1, 1.0, "cosine", 0.1) == pytest.approx(1.0)
    assert learning_rate(0.55, 1.0, "cosine", 0.1) == pytest.approx(0.5)
    assert learning_rate(1.0, 1.0, "cosine", 0.1) == pytest.approx(0.0)
    assert learning_rate(0.9, 1.0, "constant", 0.1) == 1.0
    with pytest.raises(ValueError, match="schedule"):
        learning_rate(0.9, 1.0, "steps", 0.1)


def test_it_learns_and_logs(tmp_path: Path) -> None:
    network = line()
    fit(network, task(network), steps=200, lr=0.1, folder=tmp_path, seed=1, log_every=50,
        evaluate=lambda: {"bias": float(network.bias)}, evaluate_every=100)  # fmt: skip
    lines = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [row for row in lines if "loss" in row]
    assert [row["step"] for row in steps] == [50, 100, 150, 200]
    assert steps[-1]["loss"] < 0.01 < steps[0]["loss"]
    assert steps[0]["half"] == pytest.approx(steps[0]["loss"] / 2, abs=1e-4)
    assert sum("evaluation" in row for row in lines) == 2


def test_a_resumed_training_equals_an_undisturbed_one(tmp_path: Path) -> None:
    whole = line()
    fit(whole, task(whole), steps=40, lr=0.05, schedule="constant", folder=tmp_path / "whole", seed=1)
    first = line()
    fit(
        first,
        task(first),
        steps=15,
        lr=0.05,
        schedule="constant",
        warmup=0.02 * 40 / 15,
        folder=tmp_path / "cut",
        seed=1,
    )
    second, seen = nn.Linear(3, 1), []
    fit(second, task(second, seen), steps=40, lr=0.05, schedule="constant", folder=tmp_path / "cut", seed=1)
    assert len(seen) == 25
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    loaded = nn.Linear(3, 1)
    assert load_network(tmp_path / "cut", loaded) == 40
    assert torch.equal(loaded.weight, second.weight)
    assert not list((tmp_path / "cut").glob("*.tmp"))


def test_a_budget_of_time_ends_it_with_the_rate_annealed(tmp_path: Path) -> None:
    network = line()
    fit(network, task(network), steps=10**6, lr=0.1, folder=tmp_path, seed=1, budget_s=0.5, log_every=1)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] < 10**6 and last["lr"] < 0.01


def test_losses_that_are_not_finite_are_skipped_and_end_it_at_last(tmp_path: Path) -> None:
    network = line()
    before = network.weight.detach().clone()
    with pytest.raises(FloatingPointError, match="20 steps"):
        fit(network, lambda step, rng: network.weight.sum() * float("nan"), steps=50, lr=0.1, folder=tmp_path, seed=1)
    assert torch.equal(before, network.weight)
