"""Scores of a trained instance network on the areas held out, and its card.

`split_reference` is the paper's post-processing in scikit-image (mask, seeds, watershed): slow, and the
yardstick for the pipeline's own kernel, which does the scoring. Windows are the pipeline's: core 256 px,
halo on each side, nodata beyond the edge.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.ternausnet import NARROW, TernausNetV2
from training.areas import set_aside, split
from training.chips import LabelledScene, load_scenes
from training.loop import load_network
from training.metrics_instances import InstanceScores, label_overlaps, score
from training.plates import MERGED, Resampled, fit_mask, resample
from training.recipes.instances import FAILS, VARIANTS, Variant

logger = logging.getLogger(__name__)

EVALUATION = ("banepa_np", "zanzibar_tz_b", "catanduanes_ph_b", "vegas_us", "rio_br_b", "massachusetts_us_b")
PARTS = {  # training and evaluation part of scenes that have both
    "banepa_np": (" (southern block)", " (northern block)"),
    "vegas_us": (" (left 60 %)", " (right 40 %)"),
}
CORE = 256
MIN_M2, MIN_PX = 4.0, 20  # what a run drops
CALIBRATION = "banepa_np"  # the strip of its southern block that is set aside: neither trained on nor scored
MASK_SHIFTS = (-0.75, -0.5, -0.25, 0.0, 0.25)
TOUCHING_SHIFTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
MIN_SCORES = (0.0, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85)


@dataclass(frozen=True, slots=True)
class Area:
    """One evaluation area: scores (2, h, w) uint8, true labels (h, w), where to score (h, w) bool."""

    name: str
    gsd: float
    scores: NDArray[np.uint8]
    truth: NDArray[np.int32]
    inside: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Ground:
    """An area before prediction: stretched image (3, h, w) float32 and, as in `Area`, labels and where to score."""

    name: str
    gsd: float
    image: NDArray[np.float32]
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
    return _without_small(labels, min_px)


def split_fast(scores: NDArray[np.uint8], min_px: int = 20, touching: bool = True) -> NDArray[np.int32]:
    """Instances (h, w) int32 by the pipeline's own splitter, small ones dropped: what a run would give."""
    from pipeline.kernels.split import split as split_kernel

    border = scores[1] if touching else np.zeros_like(scores[1])
    labels, _ = split_kernel(np.ascontiguousarray(scores[0]), np.ascontiguousarray(border))
    return _without_small(labels, min_px)


def prepare(scene: LabelledScene, area: NDArray[np.bool_], margin: int, resampled: Resampled) -> Ground:
    """What of a resampled scene lies in `area` (h, w) bool at the scene's own GSD, and `margin` px around it."""
    image, truth, scale, shape = resampled
    inside = fit_mask(area & scene.valid, shape)
    ys, xs = np.nonzero(inside)
    box = (
        slice(max(int(ys.min()) - margin, 0), int(ys.max()) + margin),
        slice(max(int(xs.min()) - margin, 0), int(xs.max()) + margin),
    )
    cut = np.ascontiguousarray(image[:, *box])
    return Ground(scene.name, scene.gsd / scale, cut, truth[box], inside[box])


def predicted(network: TernausNetV2, ground: Ground, device: str = "cpu") -> Area:
    """The area with the network's scores."""
    return Area(ground.name, ground.gsd, predict(network, ground.image, device), ground.truth, ground.inside)


def score_area(
    area: Area, iou: float = 0.5, min_px: int | None = None, touching: bool = True, min_score: float = 0.0
) -> InstanceScores:
    """Counts of one area; an instance counts where more than half of it lies inside.

    `min_px` is what a run drops, by area and by pixels, unless given; `min_score` as in a run.
    """
    least = max(MIN_PX, round(MIN_M2 / area.gsd**2)) if min_px is None else min_px
    found = without_unsure(split_fast(area.scores, least, touching), area.scores[0], min_score)
    return score(label_overlaps(_mostly(area.truth, area.inside), _mostly(found, area.inside)), iou)


def calibrate(area: Area) -> tuple[float, float]:
    """Shifts of the two logits (mask, touching) that give the best F1 of `area`.

    The post-processing cuts both channels at 1/2, as published. A network trained briefly is too timid about
    borders: where it is unsure of a wall it says less than 1/2, and houses merge. A shift moves the cut; it is
    chosen on a TRAINING area and then part of the weights.
    """
    tried = {(m, t): score_area(_shifted(area, m, t)).f1 for m in MASK_SHIFTS for t in TOUCHING_SHIFTS}
    best = max(tried, key=lambda pair: tried[pair])
    logger.info("%s: logits shifted by %s: F1 %.3f instead of %.3f", area.name, best, tried[best], tried[0, 0])
    return best


def calibrate_score(area: Area) -> float:
    """The least mean score of an instance that gives the best F1 of `area`; chosen as the shifts are."""
    tried = {least: score_area(area, min_score=least).f1 for least in MIN_SCORES}
    best = max(tried, key=lambda least: tried[least])
    logger.info("%s: instances under %.2f left out: F1 %.3f instead of %.3f", area.name, best, tried[best], tried[0.0])
    return best


def without_unsure(labels: NDArray[np.int32], mask_scores: NDArray[np.uint8], least: float) -> NDArray[np.int32]:
    """Labels (h, w) without the instances whose mean mask score / 255 is under `least`, as a run leaves them out."""
    total = np.bincount(labels.ravel(), mask_scores.ravel().astype(np.float64))
    return _kept(labels, total >= least * 255 * np.bincount(labels.ravel()))


def _shifted(area: Area, mask: float, touching: float) -> Area:
    """The area with scores as if the logits were shifted; scores 0 and 255 count as a quarter step from the end."""
    steps = np.clip(np.arange(256), 0.25, 254.75) / 255
    logits = np.log(steps / (1 - steps))
    table = [np.round(255 / (1 + np.exp(-(logits + by)))).astype(np.uint8) for by in (mask, touching)]
    scores = np.stack([table[0][area.scores[0]], table[1][area.scores[1]]])
    return replace(area, scores=scores)


def _without_small(labels: NDArray[np.int32], min_px: int) -> NDArray[np.int32]:
    return _kept(labels, np.bincount(labels.ravel(), minlength=1) >= min_px)


def _kept(labels: NDArray[np.int32], keep: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Labels whose flag is set, numbered anew from 1 in their order."""
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


def _mostly(labels: NDArray[np.int32], inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    total = np.bincount(labels.ravel())
    within = np.bincount(labels[inside], minlength=len(total))
    return np.where((2 * within > total)[labels], labels, 0).astype(np.int32)


def mask_iou(area: Area) -> float:
    """Intersection over union of the building mask, in pixels: the one score that merged labels allow."""
    found, true = (area.scores[0] > 127) & area.inside, (area.truth > 0) & area.inside
    return float((found & true).sum() / max(int((found | true).sum()), 1))


def figures_of(area: Area, min_score: float = 0.0) -> dict[str, float]:
    """The card's figures of one area; merged labels (`training.plates.MERGED`) score the mask alone."""
    figures = {"mask_iou": mask_iou(area)}
    if area.name not in MERGED:
        s, plain = score_area(area, min_score=min_score), score_area(area, touching=False, min_score=min_score)
        figures |= {"f1": s.f1, "precision": s.precision, "recall": s.recall, "f1_without_touching": plain.f1}
        figures["buildings"] = s.true_positives + s.false_negatives
    logger.info("%s: %s", area.name, {name: round(value, 3) for name, value in figures.items()})
    return {f"{area.name}.{name}": round(value, 4) for name, value in figures.items()}


def score_and_save(
    data: Path, out: Path, save: Path | None, device: str = "cpu", variant: str = "fine"
) -> dict[str, float]:
    """Score the checkpoint in `out` on every evaluation area; with `save`, write its card there."""
    network = TernausNetV2(**NARROW, decoder_norm=True)  # type: ignore[arg-type]
    step = load_network(out, network)
    network = stored(network.eval().fold()).to(device)
    gsd = VARIANTS[variant].gsds[1]
    grounds, calibration = [], []
    for scene in load_scenes(data, [name for name in EVALUATION if (Path(data) / name).is_dir()]):
        if scene.gsd > VARIANTS[variant].served[1]:
            continue  # no image of such pixels comes to this card
        whole = resample(scene, gsd)
        train, evaluate = split(scene)
        grounds.append(prepare(scene, evaluate, network.halo, whole))
        if scene.name == CALIBRATION:
            calibration.append(prepare(scene, set_aside(scene, train)[1], network.halo, whole))
    min_score = 0.0
    for ground in calibration:
        shifts = torch.tensor(calibrate(predicted(network, ground, device)), device=device)
        with torch.no_grad():
            assert network.final.bias is not None
            network.final.bias += shifts
        stored(network)
        min_score = calibrate_score(predicted(network, ground, device))
    figures: dict[str, float] = {}
    for ground in grounds:
        figures |= figures_of(predicted(network, ground, device), min_score)
    if save is not None:
        write_card(network, step, figures, save, VARIANTS[variant], min_score)
    return figures


def stored(network: TernausNetV2) -> TernausNetV2:
    """The network with its weights as the card keeps them, in half precision: what is scored is what is shipped."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(tensor.half())
    return network


def write_card(
    network: TernausNetV2, step: int, figures: dict[str, float], folder: Path, variant: Variant, min_score: float = 0.0
) -> None:
    """Card and weights of a folded narrow network (see `stored`) in `folder`, in a folder of its name."""
    from catalogs.cards import save_card

    save_card(
        folder,
        name=variant.card,
        task="mask",
        network="ternausnet",
        settings=dict(NARROW),
        bands=3,
        gsd=variant.served,
        native_gsd=variant.gsds[1],
        classes=("building", "touching"),
        halo=network.halo,
        stride=network.stride,
        licence="Apache-2.0",
        trained_on=tuple(name + PARTS.get(name, ("", ""))[0] for name in variant.shares),
        evaluated_on=tuple(name + PARTS.get(name, ("", ""))[1] for name in EVALUATION if f"{name}.mask_iou" in figures),
        scores=figures,
        fails=FAILS[variant.card],
        weights={name: value.contiguous().cpu().half() for name, value in network.state_dict().items()},
        extra={"steps": step, "min_score": min_score},
    )
