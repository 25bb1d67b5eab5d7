"""Model cards: what a network may be used for, how well it does, and the weights it does it with.

A card is a folder, `catalogs/models/<name>/`, of two files: `card.json`, a STAC item with the Machine
Learning Model extension, and `weights.safetensors`. Weights are data: nothing here unpickles, and
nothing is read whose sha256 differs from the card's. Fields that the extension does not know carry
the prefix `resurvey:`; halo, stride and ground sampling distances stand in `mlm:hyperparameters`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalogs import mlm
from catalogs.mlm import SHA256
from pipeline.errors import SettingsError
from pipeline.grid import LEVELS

if TYPE_CHECKING:
    from torch import Tensor

MODELS = Path(__file__).parent / "models"
TASKS = ("alignment", "coarse", "refiner", "mask", "roads")
NEAR = 1.1  # a level of the pyramid will do if its pixels are within this factor of the card's own
EIGHTHS = 8  # levels between are whole numbers of eighths


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One trained network: what it is, where it may be used, what it scores and where its weights lie."""

    name: str
    task: str  # one of TASKS
    network: str  # the module in models/, e.g. double_unet
    settings: dict[str, Any]  # keyword arguments of the network's constructor
    bands: int  # image bands it sees; 1 = gray
    gsd: tuple[float, float]  # metres: the range it may be used at, as the network sees the image
    native_gsd: float  # metres: what it was trained at
    classes: tuple[str, ...]
    halo: int  # pixels at its own level, a multiple of stride
    stride: int
    licence: str
    trained_on: tuple[str, ...]
    evaluated_on: tuple[str, ...]
    scores: dict[str, float]
    fails: tuple[str, ...]  # where it fails, in words
    sha256: str  # of weights.safetensors
    folder: Path
    extra: dict[str, Any]


def list_cards(folder: Path | None = None) -> list[ModelCard]:
    """Every card under `folder` (the shipped ones if None), by name."""
    folder = MODELS if folder is None else Path(folder)
    return [_read(path.parent) for path in sorted(folder.glob("*/card.json"))]


def load_card(name: str, folder: Path | None = None) -> ModelCard:
    """The card called `name`. SettingsError names the cards that exist."""
    folder = MODELS if folder is None else Path(folder)
    if not (folder / name / "card.json").is_file():
        known = ", ".join(card.name for card in list_cards(folder)) or "none"
        raise SettingsError(f"model {name}: no such card in {folder}; there are: {known}")
    return _read(folder / name)


def level_for(card: ModelCard, gsd: float) -> float:
    """The pyramid level of a scene of `gsd` metres whose pixels are nearest (in log) to the card's own, of those
    that the card may see where there are any. For buildings an image that the card may see is seen as it is, and a
    finer one is brought to the card's own pixels, at a level between where none of the pyramid is near."""
    low, high = card.gsd
    within = [level for level in LEVELS if low <= gsd * level <= high]
    nearest = min(within or LEVELS, key=lambda level: (abs(math.log(gsd * level / card.native_gsd)), level))
    if card.task != "mask" or gsd > high:
        return nearest
    wanted = 1.0 if gsd >= low else card.native_gsd / gsd
    eighths = [round(wanted * EIGHTHS) / EIGHTHS, math.ceil(wanted * EIGHTHS) / EIGHTHS]
    between = [level for level in eighths if low <= gsd * level <= high]
    return nearest if max(nearest / wanted, wanted / nearest) < NEAR or not between else between[0]


def takes(card: ModelCard, bands: int) -> bool:
    """Whether the card's network can see an image of `bands` bands.

    A gray network takes any image; an RGB one also takes RGB with one band more (the first three).
    """
    return card.bands in (1, bands) or (card.bands, bands) == (3, 4)


def fits(card: ModelCard, gsd: float, bands: int) -> bool:
    """Whether the card may be used on a scene of `gsd` metres and `bands` bands (see `takes`).

    GSD: level 1 itself for alignment, which runs at every level; for the others the one of `level_for`.
    """
    level = 1 if card.task == "alignment" else level_for(card, gsd)
    low, high = card.gsd
    return low <= gsd * level <= high and takes(card, bands)


def select_card(task: str, gsd: float, bands: int, folder: Path | None = None) -> ModelCard:
    """The card for `task` on a scene of `gsd` metres and `bands` bands.

    One that sees every band first, then the nearest native GSD, then preferred, then by name.

    SettingsError when none fits; it names the cards of that task with what each takes.
    """
    cards = [card for card in list_cards(folder) if card.task == task]
    able = [card for card in cards if fits(card, gsd, bands)]
    if able:

        def rank(card: ModelCard) -> tuple[bool, float, bool, str]:
            # Against the image's own pixels, not a level's: a coarse model on level 4 is no match for a fine image.
            distance = abs(math.log(gsd / card.native_gsd))
            return card.bands != bands, distance, not card.extra.get("preferred", False), card.name

        return min(able, key=rank)
    known = "; ".join(f"{c.name} takes {c.bands} band(s) at {c.gsd[0]:g}-{c.gsd[1]:g} m" for c in cards)
    raise SettingsError(
        f"no {task} model fits an image of {bands} band(s) at {gsd:.3g} m a pixel; "
        + (f"there are: {known}" if known else "no model of this task is installed: see resurvey models list")
    )


def load_weights(card: ModelCard) -> dict[str, Tensor]:
    """The card's tensors on the CPU, after checking the file's sha256. Never unpickles."""
    import safetensors.torch

    path = card.folder / "weights.safetensors"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise SettingsError(f"{path}: sha256 differs from the card's; restore the file or train the model again")
    return dict(safetensors.torch.load(content))


def verify_card(card: ModelCard) -> list[str]:
    """What is wrong with a card, one line each; empty if it can be used."""
    problems = []
    if card.task not in TASKS:
        problems.append(f"{card.name}: task {card.task} is none of {', '.join(TASKS)}")
    if card.stride < 1 or card.halo < 0 or card.halo % max(card.stride, 1):
        problems.append(f"{card.name}: halo {card.halo} is not a multiple of stride {card.stride}")
    if not 0 < card.gsd[0] <= card.native_gsd <= card.gsd[1]:
        problems.append(f"{card.name}: native GSD {card.native_gsd} is outside {card.gsd}")
    if not card.scores:
        problems.append(f"{card.name}: states no measured score")
    try:
        load_weights(card)
    except SettingsError as error:
        problems.append(str(error))
    except Exception as error:  # safetensors raises its own type for a damaged header
        problems.append(f"{card.folder / 'weights.safetensors'}: not a safetensors file ({error})")
    return problems


def save_card(
    folder: Path,
    *,
    name: str,
    task: str,
    network: str,
    settings: Mapping[str, Any],
    bands: int,
    gsd: tuple[float, float],
    native_gsd: float,
    classes: Sequence[str],
    halo: int,
    stride: int,
    licence: str,
    trained_on: Sequence[str],
    evaluated_on: Sequence[str],
    scores: Mapping[str, float],
    fails: Sequence[str],
    weights: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Write `folder/name/card.json` and `weights.safetensors` and return the card.

    Weights first, the card last and renamed into place: a card never names weights that are not there.
    The same weights and words give the same bytes.
    """
    import safetensors.torch

    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
    content = safetensors.torch.save(tensors, metadata={"format": "pt"})
    card = ModelCard(
        name=name, task=task, network=network, settings=dict(settings), bands=int(bands),
        gsd=(float(gsd[0]), float(gsd[1])), native_gsd=float(native_gsd), classes=tuple(classes),
        halo=int(halo), stride=int(stride), licence=licence, trained_on=tuple(trained_on),
        evaluated_on=tuple(evaluated_on), scores={key: float(value) for key, value in scores.items()},
        fails=tuple(fails), sha256=hashlib.sha256(content).hexdigest(), folder=Path(folder) / name,
        extra=dict(extra or {}),
    )  # fmt: skip
    if task not in TASKS:
        raise SettingsError(f"model {name}: task {task} is none of {', '.join(TASKS)}")
    parameters = sum(tensor.numel() for tensor in tensors.values())
    card.folder.mkdir(parents=True, exist_ok=True)
    for file, data in (
        ("weights.safetensors", content),
        ("card.json", (json.dumps(mlm.item(card, parameters, len(content)), indent=2) + "\n").encode()),
    ):
        draft = card.folder / f".{file}.part"
        draft.write_bytes(data)
        draft.replace(card.folder / file)
    return card


def _read(folder: Path) -> ModelCard:
    path = folder / "card.json"
    try:
        item = json.loads(path.read_text(encoding="utf-8"))
        properties = item["properties"]
        numbers = properties["mlm:hyperparameters"]
        return ModelCard(
            name=item["id"],
            task=properties["resurvey:task"],
            network=properties["mlm:architecture"],
            settings=dict(numbers["network"]),
            bands=len(properties["mlm:input"][0]["bands"]),
            gsd=(float(numbers["gsd_min"]), float(numbers["gsd_max"])),
            native_gsd=float(numbers["native_gsd"]),
            classes=tuple(entry["name"] for entry in properties["mlm:output"][0]["classification:classes"]),
            halo=int(numbers["halo"]),
            stride=int(numbers["stride"]),
            licence=properties["license"],
            trained_on=tuple(properties["resurvey:trained_on"]),
            evaluated_on=tuple(properties["resurvey:evaluated_on"]),
            scores=dict(properties["resurvey:scores"]),
            fails=tuple(properties["resurvey:fails"]),
            sha256=str(item["assets"]["weights"]["file:checksum"]).removeprefix(SHA256),
            folder=folder,
            extra=dict(properties["resurvey:extra"]),
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise SettingsError(f"{path}: not a model card ({error!r}); restore it or train the model again") from error
