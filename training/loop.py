"""The one training loop: seeded, logged, checkpointed and resumed without pickles.

Step k draws its samples from a generator seeded with (seed, k), so a resumed training sees the same
samples as an undisturbed one. Files in the folder:

    log.jsonl                one line of figures each `log_every` steps and each evaluation
    checkpoint.safetensors   weights ('network.*') and Adam's moments ('exp_avg.*', 'exp_avg_sq.*')
    checkpoint.json          step, seconds trained so far, seed
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

logger = logging.getLogger(__name__)

BatchLoss = Callable[[int, np.random.Generator], "Tensor | dict[str, Tensor]"]


def learning_rate(progress: float, lr: float, schedule: str, warmup: float) -> float:
    """Rate at `progress` 0..1: linear warm-up over the share `warmup`, then 'cosine' to 0 or 'constant'."""
    if progress < warmup:
        return lr * (progress / warmup * 0.95 + 0.05)
    if schedule == "constant":
        return lr
    if schedule != "cosine":
        raise ValueError(f"schedule {schedule!r}: must be 'cosine' or 'constant'")
    return lr * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / max(1 - warmup, 1e-9))))


def fit(
    network: nn.Module,
    batch_loss: BatchLoss,
    *,
    steps: int,
    lr: float,
    schedule: str = "cosine",
    warmup: float = 0.02,
    folder: Path,
    seed: int,
    checkpoint_every: int = 500,
    log_every: int = 25,
    evaluate: Callable[[], dict[str, Any]] | None = None,
    evaluate_every: int = 0,
    resume: bool = True,
    clip: float = 1.0,
    budget_s: float | None = None,
) -> None:
    """Train `network` with Adam for `steps` steps, in place; continues from a checkpoint in `folder`.

    `batch_loss(step, generator)` returns the loss, or a dict with 'loss' and further figures to log.
    `clip` bounds the gradient's norm. `budget_s` bounds the time trained: the schedule then follows the
    larger of the shares of steps and of time, so the rate is annealed whichever ends first.
    A step whose loss is not finite is skipped and logged; 20 in a row raise FloatingPointError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    optimiser = torch.optim.Adam(parameters.values(), lr=lr)
    step, spent = _restore(folder, network, optimiser, parameters) if resume else (0, 0.0)
    began, sums, count, skipped = time.monotonic() - spent, dict[str, float](), 0, 0

    while step < steps:
        spent = time.monotonic() - began
        progress = max(step / steps, spent / budget_s if budget_s else 0.0)
        if progress >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(progress, lr, schedule, warmup)
        network.train()
        result = batch_loss(step, np.random.default_rng([seed, step]))
        figures = result if isinstance(result, dict) else {"loss": result}
        optimiser.zero_grad(set_to_none=True)
        if bool(torch.isfinite(figures["loss"])):
            figures["loss"].backward()
            norm = nn.utils.clip_grad_norm_(parameters.values(), clip)
            optimiser.step()
            skipped = 0
            for name, value in {**figures, "gradient": norm}.items():
                sums[name] = sums.get(name, 0.0) + float(torch.as_tensor(value).detach())
            count += 1
        else:
            skipped += 1
            logger.warning("step %d: the loss is not finite; skipped", step)
            if skipped >= 20:
                raise FloatingPointError(f"the loss was not finite for 20 steps up to step {step}")
        step += 1
        if step % log_every == 0 and count:
            line = {name: round(total / count, 5) for name, total in sums.items()}
            _log(
                folder,
                {
                    "step": step,
                    "lr": optimiser.param_groups[0]["lr"],
                    "seconds": round(time.monotonic() - began),
                    **line,
                },
            )
            sums, count = {}, 0
        if evaluate is not None and evaluate_every and step % evaluate_every == 0:
            network.eval()
            with torch.no_grad():
                _log(folder, {"step": step, "evaluation": evaluate()})
        if step % checkpoint_every == 0:
            _save(folder, network, optimiser, parameters, step, time.monotonic() - began, seed)
    _save(folder, network, optimiser, parameters, step, time.monotonic() - began, seed)


def load_network(folder: Path, network: nn.Module) -> int:
    """Put a checkpoint's weights into `network`; returns its step."""
    tensors = load_file(folder / "checkpoint.safetensors")
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    return int(json.loads((folder / "checkpoint.json").read_text())["step"])


def _log(folder: Path, line: dict[str, Any]) -> None:
    logger.info("%s", line)
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def _save(
    folder: Path, network: nn.Module, optimiser: torch.optim.Adam, parameters: dict[str, nn.Parameter],
    step: int, seconds: float, seed: int,
) -> None:  # fmt: skip
    tensors = {f"network.{name}": value.detach().cpu() for name, value in network.state_dict().items()}
    for name, parameter in parameters.items():
        for key in ("exp_avg", "exp_avg_sq"):
            if key in optimiser.state[parameter]:
                tensors[f"{key}.{name}"] = optimiser.state[parameter][key].detach().cpu()
    # Replaced as a whole; the figures also stand in the tensors' header, so the two cannot disagree.
    numbers = {"step": step, "seconds": seconds, "seed": seed}
    save_file(
        {k: v.clone().contiguous() for k, v in tensors.items()},
        folder / "checkpoint.tmp",
        {"numbers": json.dumps(numbers)},
    )
    os.replace(folder / "checkpoint.tmp", folder / "checkpoint.safetensors")
    (folder / "checkpoint.json.tmp").write_text(json.dumps(numbers))
    os.replace(folder / "checkpoint.json.tmp", folder / "checkpoint.json")


def _restore(
    folder: Path, network: nn.Module, optimiser: torch.optim.Adam, parameters: dict[str, nn.Parameter]
) -> tuple[int, float]:
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return 0, 0.0
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        numbers = json.loads(file.metadata()["numbers"])
    load_network(folder, network)
    tensors = load_file(path)
    for name, parameter in parameters.items():
        if f"exp_avg.{name}" in tensors:
            optimiser.state[parameter] = {
                "step": torch.tensor(float(numbers["step"])),
                **{key: tensors[f"{key}.{name}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")},
            }
    return int(numbers["step"]), float(numbers["seconds"])
