"""From settings to a job: headers are read, models chosen, and what cannot work is refused before any work."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError, SettingsError, StoreError
from pipeline.grid import LEVELS, check_tile
from pipeline.job import Job, write_job
from pipeline.networks import resolve_device
from pipeline.stages.align import plan_steps

if TYPE_CHECKING:
    from catalogs.cards import ModelCard
    from pipeline.settings import Settings

MIN_GSD = 0.1
"""Metres: a finer image is worked on at this ground sampling distance, the finest of the models."""
ROUNDS = 2
"""Predictions at each factor of the alignment: the second corrects what the first moved too far."""
BYTES_PER_PIXEL = 12.0
"""State and products on disk for each pixel and three bands, measured generously."""

TASKS = {"align": "alignment", "classify": "coarse", "refine": "refiner", "split": "mask"}
FREE = ("device", "folder", "models")
"""Fields of a job that may differ between a run and its resumption."""


def nearest_level(gsd: float, native: float) -> int:
    """Pyramid level whose pixels are nearest, as a ratio, to a card's native GSD (metres)."""
    return min(LEVELS, key=lambda level: abs(math.log(gsd * level / native)))


def choose_cards(
    stages: tuple[str, ...], gsd: float, bands: int, folder: Path | None
) -> tuple[dict[str, ModelCard], dict[str, int]]:
    """A card for each stage's network, and the level it runs at; errors name the models that fit."""
    from catalogs.cards import list_cards, select_card

    cards: dict[str, ModelCard] = {}
    levels: dict[str, int] = {}
    for stage in stages:
        task = TASKS[stage]
        native = [card.native_gsd for card in list_cards(folder) if card.task == task]
        level = 1 if stage == "align" or not native else min(
            (nearest_level(gsd, value) for value in native), key=lambda at: min(abs(math.log(gsd * at / v)) for v in native)
        )
        cards[task] = select_card(task, gsd * level, 1 if task == "alignment" else bands, folder)
        levels[stage if stage != "split" else "mask"] = level
    if "refiner" in cards:
        levels["refine"] = levels["classify"]
    return cards, levels


def factors_of(gsd: float, card: ModelCard) -> tuple[int, ...]:
    """Alignment factors whose GSD the card knows, and always factor 1."""
    return tuple(factor for factor in LEVELS if factor == 1 or gsd * factor <= card.gsd[1] * 1.001)


def prepare(settings: Settings) -> Job:
    """The job that settings ask for, from headers alone.

    Errors: InputError for an image or cadaster that cannot be used, SettingsError for settings or models
    that do not fit, each in one line that names the file and the fix.
    """
    from pipeline import polygons, raster

    check_tile(settings.tile)
    header = raster.open_raster(str(settings.image))
    working = raster.working_raster(header, MIN_GSD)
    raster.probe(header)
    if "align" in settings.stages and settings.cadaster is None:
        raise SettingsError("--stages align: needs --cadaster POLYGONS; give one, or leave align out of --stages")
    cards, levels = choose_cards(settings.stages, working.gsd, working.bands, settings.models)
    cadaster_source = ""
    if settings.cadaster is not None:
        cadaster = polygons.read_cadaster(str(settings.cadaster), settings.cadaster_layer, settings.cadaster_crs)
        polygons.check_overlap(working, cadaster)
        cadaster_source = cadaster.source_id
    alignment = cards.get("alignment")
    steps = plan_steps(factors_of(working.gsd, alignment), ROUNDS) if alignment else ()
    return Job(
        folder=str(Path(settings.out).absolute()),
        image=str(settings.image),
        bands=(),
        min_gsd=MIN_GSD,
        shape=working.shape,
        gsd=working.gsd,
        crs=working.crs,
        transform=tuple(working.transform)[:6],
        cadaster=None if settings.cadaster is None else str(settings.cadaster),
        cadaster_layer=settings.cadaster_layer,
        cadaster_crs=settings.cadaster_crs,
        tile=settings.tile,
        device=resolve_device(settings.device),
        models=None if settings.models is None else str(settings.models),
        stages=tuple(settings.stages),
        cards={task: card.name for task, card in cards.items()},
        weights={task: card.sha256 for task, card in cards.items()},
        levels=levels,
        halos={task: card.halo for task, card in cards.items()},
        strides={task: card.stride for task, card in cards.items()},
        steps=tuple((step.factor, step.round) for step in steps),
        dense=settings.dense,
        min_area_m2=settings.min_area_m2,
        source=header.source_id,
        cadaster_source=cadaster_source,
        copies=tuple(name for name in ("gpkg", "fgb") if getattr(settings, name)),
        sort=settings.sort,
    )


def settle(job: Job, force_new: bool) -> None:
    """Make the run's folder ready: new, or the same job's; refuse another job's with the difference."""
    folder, path = Path(job.folder), job.work / "job.json"
    if path.exists() and force_new:
        shutil.rmtree(job.work)
    if path.exists():
        changed = differences(json.loads(path.read_text()), asdict(job))
        if changed:
            lines = "; ".join(f"{name}: {old} there, {new} now" for name, old, new in changed)
            raise SettingsError(f"{folder}: holds a run with other settings ({lines}); use another --out or --force-new")
    else:
        try:
            foreign = folder.exists() and any(folder.iterdir()) and not job.work.exists()
        except OSError as error:
            raise StoreError(f"{folder}: cannot be read ({error.strerror}); choose another --out") from None
        if foreign and not force_new:
            raise SettingsError(f"{folder}: is not empty and holds no run; choose another --out or use --force-new")
    write_job(job)


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Fields that make two jobs different runs, with both values; the inputs' content may change (backfill)."""
    ignored = {*FREE, "source", "cadaster_source", "weights"}
    plain = json.loads(json.dumps(new, default=str))
    return [(name, old.get(name), plain[name]) for name in plain if name not in ignored and old.get(name) != plain[name]]


def check_room(job: Job) -> None:
    """Refuse a run whose state cannot fit on the disk; the estimate is generous."""
    folder = Path(job.folder)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    needed = job.shape[0] * job.shape[1] * BYTES_PER_PIXEL
    free = shutil.disk_usage(existing).free
    if free < needed and not (job.work / SCENE_MARK).exists():
        raise StoreError(f"{folder}: needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room")


SCENE_MARK = "ledger.jsonl"


def describe(job: Job) -> dict[str, Any]:
    """The job as `run.json` tells it: settings, inputs and models."""
    return asdict(replace(job, folder=job.folder))


__all__ = ["InputError", "check_room", "choose_cards", "describe", "differences", "factors_of", "prepare", "settle"]
