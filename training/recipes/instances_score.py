"""Scores of a trained instance network on the areas held out, and its card.

The splitter here is the paper's in scikit-image (mask, seeds, watershed): slow, and the yardstick for the
pipeline's own kernel. Windows are the pipeline's: core 256 px, halo on each side, nodata beyond the edge.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.ternausnet import NARROW, TernausNetV2
from training.areas import split
from training.chips import LabelledScene, load_scenes
from training.loop import load_network
from training.metrics_instances import InstanceScores, label_overlaps, score
from training.recipes import instances

logger = logging.getLogger(__name__)

EVALUATION = ("banepa_np", "zanzibar_tz_b", "catanduanes_ph_b", "vegas_us")
PARTS = {  # training and evaluation part of scenes that have both
    "banepa_np": (" (southern block)", " (northern block)"),
    "vegas_us": (" (left 60 %)", " (right 40 %)"),
}
CORE = 256


@dataclass(frozen=True, slots=True)
class Area:
    """One evaluation area: scores (2, h, w) uint8, true labels (h, w), where to score (h, w) bool."""

    name: str
    gsd: float
    scores: NDArray[np.uint8]
    truth: NDArray[np.int32]
    inside: NDArray[np.bool_]


@torch.inference_mode()
def predict(network: TernausNetV2, image: NDArray[np.float32], device: str = "cpu") -> NDArray[np.uint8]:
    """Scores round(255 p), (2, h, w) uint8, of a stretched image (bands, h, w), window by window."""
    halo = network.halo
    network.eval()
    _, height, width = image.shape
    out = np.zeros((2, height, width), np.uint8)
    pad = ((0, 0), (halo, halo + CORE), (halo, halo + CORE))
    padded = torch.from_numpy(np.pad(image, pad))
    for y in range(0, height, CORE):
        for x in range(0, width, CORE):
            window = padded[None, :, y : y + CORE + 2 * halo, x : x + CORE + 2 * halo].to(device)
            p = torch.sigmoid(network(window.contiguous(memory_format=torch.channels_last)))
            core = (p[0, :, halo:-halo, halo:-halo] * 255).round().to(torch.uint8).cpu().numpy()
            y1, x1 = min(y + CORE, height), min(x + CORE, width)
            out[:, y:y1, x:x1] = core[:, : y1 - y, : x1 - x]
    return out


def split_reference(
    scores: NDArray[np.uint8],
    threshold: float = 0.5,
    seed: float = 0.5,
    min_px: int = 20,
    touching: bool = True,
) -> NDArray[np.int32]:
    """Instances (h, w) int32 from scores (2, h, w) uint8: seeds = mask · (1 − touching) > `seed`.

    The watershed floods the seeds inside the mask, highest mask score first, 8-connected. A piece of the mask
    that has no seed stays one instance; instances under `min_px` are dropped. `touching` False leaves the
    second channel out: plain connected components.
    """
    from skimage.measure import label
    from skimage.segmentation import watershed

    p0, p1 = scores.astype(np.float32) / 255
    mask = p0 > threshold
    if not touching:
        labels = np.asarray(label(mask, connectivity=2))
    else:
        seeds = label(mask & (p0 * (1 - p1) > seed), connectivity=2)
        pieces = label(mask, connectivity=2)
        seeded = np.zeros(int(pieces.max()) + 1, bool)
        seeded[pieces[seeds > 0]] = True
        lost = mask & ~seeded[pieces]
        seeds = np.where(lost, pieces + int(seeds.max()), seeds)
        labels = np.asarray(watershed(-p0, seeds, mask=mask, connectivity=2))
    keep = np.bincount(labels.ravel()) >= min_px
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


def areas(network: TernausNetV2, data: Path, device: str = "cpu") -> list[Area]:
    """The evaluation areas found in `data`, predicted; cut to their bounding boxes plus the halo."""
    found = [name for name in EVALUATION if (Path(data) / name).is_dir()]
    return [_area(network, scene, device) for scene in load_scenes(data, found)]


def _area(network: TernausNetV2, scene: LabelledScene, device: str) -> Area:
    gsd = instances.TRAINING_GSD.get(scene.name, instances.NATIVE_GSD)
    image, truth, scale, shape = instances.resample(scene, gsd)
    inside = instances.fit_mask(split(scene)[1] & scene.valid, shape)
    ys, xs = np.nonzero(inside)
    margin = network.halo
    box = (
        slice(max(int(ys.min()) - margin, 0), int(ys.max()) + margin),
        slice(max(int(xs.min()) - margin, 0), int(xs.max()) + margin),
    )
    scores = predict(network, np.ascontiguousarray(image[:, *box]), device)
    return Area(scene.name, scene.gsd / scale, scores, truth[box], inside[box])


def score_area(area: Area, iou: float = 0.5, **options: Any) -> InstanceScores:
    """Counts of one area; an instance counts where more than half of it lies inside. See `split_reference`."""
    predicted = split_reference(area.scores, **options)
    return score(label_overlaps(_mostly(area.truth, area.inside), _mostly(predicted, area.inside)), iou)


def _mostly(labels: NDArray[np.int32], inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    total = np.bincount(labels.ravel())
    within = np.bincount(labels[inside], minlength=len(total))
    return np.where((2 * within > total)[labels], labels, 0).astype(np.int32)


def score_and_save(data: Path, out: Path, save: Path | None, device: str = "cpu") -> dict[str, float]:
    """Score the checkpoint in `out` on every evaluation area; with `save`, write its card there."""
    network = TernausNetV2(**NARROW, decoder_norm=True)  # type: ignore[arg-type]
    step = load_network(out, network)
    network = network.eval().fold().to(device)
    figures: dict[str, float] = {}
    for area in areas(network, data, device):
        s, plain = score_area(area), score_area(area, touching=False)
        figures |= {
            f"{area.name}.f1": s.f1,
            f"{area.name}.precision": s.precision,
            f"{area.name}.recall": s.recall,
        }
        figures[f"{area.name}.f1_without_touching"] = plain.f1
        logger.info(
            "%s: F1 %.3f, precision %.3f, recall %.3f of %d buildings; without the touching channel F1 %.3f",
            area.name, s.f1, s.precision, s.recall, s.true_positives + s.false_negatives, plain.f1,
        )  # fmt: skip
    figures = {name: round(value, 4) for name, value in figures.items()}
    if save is not None:
        write_card(network, step, figures, save)
    return figures


def write_card(network: TernausNetV2, step: int, figures: dict[str, float], folder: Path) -> None:
    """Card and weights of the folded narrow network under `folder`/instances-narrow."""
    from catalogs.cards import save_card

    save_card(
        folder,
        name="instances-narrow",
        task="mask",
        network="ternausnet",
        settings=dict(NARROW),
        bands=3,
        gsd=(0.2, 0.6),
        native_gsd=instances.NATIVE_GSD,
        classes=("building", "touching"),
        halo=network.halo,
        stride=network.stride,
        licence="Apache-2.0",
        trained_on=tuple(name + PARTS.get(name, ("", ""))[0] for name in instances.SHARES),
        evaluated_on=tuple(name + PARTS.get(name, ("", ""))[1] for name in EVALUATION),
        scores=figures,
        fails=FAILS,
        weights={name: value.contiguous().cpu() for name, value in network.state_dict().items()},
        extra={"steps": step},
    )


FAILS = (
    "rows of attached houses under one roof colour: walls that cannot be seen are missed and houses merge",
    "large roofs of several levels or materials are cut into several instances",
    "unroofed ruins and building sites are found only in part",
    "nodata beside a building: its outline is cut there",
)
