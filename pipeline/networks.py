"""Networks on fixed windows: loading a card's network once a process, and running it window by window.

Bit-equality for every tile size rests on this file: each window has the same static shape, starts on
the scene's window grid, and runs alone in its batch, so a tile only decides which windows run where.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError
from pipeline.grid import WINDOW, Tile, Window, windows_of

if TYPE_CHECKING:
    import torch

    from catalogs.cards import ModelCard

FORWARD_LOCK = threading.Lock()
"""Two slots of a GPU worker read and write side by side, but one computes at a time."""

NETWORKS = {
    "double_unet": ("models.double_unet", "DoubleUNet"),
    "double_unet_scales": ("models.double_unet_scales", "DoubleUNetScales"),
    "successor_unet": ("models.successor_unet", "SuccessorUNet"),
    "line_reader": ("models.line_reader", "LineReader"),
    "coarse_fcn": ("models.coarse_fcn", "CoarseFCN"),
    "refiner": ("models.refiner", "Refiner"),
    "ternausnet": ("models.ternausnet", "TernausNetV2"),
}
"""Where a card's `network` lives; imported when first asked for."""


def resolve_device(device: str) -> str:
    """`cpu` or `cuda` for `auto`, `cpu` or `cuda`; asking for a GPU that is not there is an error."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--device cuda: torch sees no GPU here; use --device cpu or auto")
    return device


def build(card: ModelCard) -> torch.nn.Module:
    """The card's network without weights, in evaluation mode."""
    from importlib import import_module

    if card.network not in NETWORKS:
        raise SettingsError(f"{card.folder}: unknown network {card.network!r}; known: {', '.join(NETWORKS)}")
    module, name = NETWORKS[card.network]
    network: torch.nn.Module = getattr(import_module(module), name)(**card.settings)
    return network.eval()


@lru_cache(maxsize=8)
def load(name: str, folder: str | None, device: str) -> torch.nn.Module:
    """The network of card `name` with its weights on `device`, loaded once a process."""
    from pathlib import Path

    import torch

    from catalogs.cards import load_card, load_weights

    card = load_card(name, Path(folder) if folder else None)
    network = build(card)
    network.load_state_dict(load_weights(card))
    network.requires_grad_(False)
    network.to(device)
    if device == "cpu":
        torch.set_num_threads(1)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@lru_cache(maxsize=8)
def bands_of(name: str, folder: str | None) -> int:
    """Bands that the network of card `name` sees."""
    from pathlib import Path

    from catalogs.cards import load_card

    return load_card(name, Path(folder) if folder else None).bands


def seen(image: NDArray[np.float32], bands: int) -> NDArray[np.float32]:
    """What a network of `bands` bands sees of an image (b, h, w): its first ones; gray is the mean of three."""
    if bands == 1 and len(image) >= 3:
        return image[:3].mean(axis=0, dtype=np.float32, keepdims=True)
    return image[:bands]


def centre_crop(array: NDArray[Any], side: int) -> NDArray[Any]:
    """The centred `side` × `side` pixels of the last two axes."""
    top, left = (array.shape[-2] - side) // 2, (array.shape[-1] - side) // 2
    return array[..., top : top + side, left : left + side]


def run_windows(
    forward: Callable[[Window], NDArray[np.float32] | None],
    tile: Tile,
    channels: int,
    store: Callable[[NDArray[np.float32]], NDArray[Any]],
    dtype: str = "uint8",
    side: int = WINDOW,
) -> tuple[NDArray[Any], int]:
    """Fill a tile's core, shape (channels, core.height, core.width), from its fixed windows.

    `forward` maps a window of the core grid to (channels, side, side) float32, or None where there is
    nothing to compute (the output stays 0 there); `store` turns it into what is kept, of `dtype`.
    Returns the core and the number of windows that ran.
    """
    core = np.zeros((channels, tile.core.height, tile.core.width), dtype)
    ran = 0
    for window in windows_of(tile.core, side):
        result = forward(window)
        if result is None:
            continue
        inside = window.clip((tile.core.y1, tile.core.x1))
        core[(slice(None), *inside.slices(tile.core))] = store(result)[:, : inside.height, : inside.width]
        ran += 1
    return core, ran


def to_scores(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities in [0, 1] as they are stored: uint8, rounded from 255 p."""
    return np.rint(np.clip(probabilities, 0.0, 1.0) * 255.0).astype(np.uint8)
