"""From settings to a job: headers are read, models chosen, and what cannot work is refused before any work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import SettingsError, StoreError
from pipeline.grid import LEVELS, check_tile
from pipeline.job import Job, write_job
from pipeline.networks import resolve_device
from pipeline.stages.align import Step, plan_steps
from pipeline.stages.roads import level_of
from pipeline.stages.search import plan_searches

if TYPE_CHECKING:
    from catalogs.cards import ModelCard
    from pipeline.settings import Settings

MIN_GSD = 0.1
"""Metres: a finer image is worked on at this ground sampling distance, the finest of the models."""
ROUNDS = {"search": {}, "network": {8: 2, 4: 2, 2: 1, 1: 1}, "both": {4: 1, 2: 1}}
"""Rounds of the network at each factor, by aligner: the whole chain where it is alone; two scales where the search
came first and left nothing larger to find."""
FINE_GSD = 0.25
"""Metres: on images as fine as this the search alone is more exact than with the network after it; on coarser ones
the network tells roofs from their shadows (docs/alignment.md)."""
BYTES_PER_PIXEL = 12.0
"""State and products on disk for each pixel and three bands, measured generously."""

TASKS = {"align": "alignment", "classify": "coarse", "refine": "refiner", "split": "mask"}

def choose_cards(
    settings: Settings, gsd: float, bands: int
) -> tuple[dict[str, ModelCard], dict[str, float]]:
    """A card for each stage that has a network, and the level it runs at; errors name the models that fit."""
    from catalogs.cards import level_for

    cards: dict[str, ModelCard] = {}
    levels: dict[str, float] = {}
    for stage in settings.stages:
        if stage == "align" and (settings.aligner == "search" or (settings.aligner == "both" and gsd < FINE_GSD)):
            continue
        task = TASKS[stage]
        card = _card_for(settings, stage, gsd, 1 if stage == "align" else bands)  # alignment looks at gray
        cards[task] = card
        levels["mask" if stage == "split" else stage] = 1 if stage == "align" else level_for(card, gsd)
    return cards, levels


def _card_for(settings: Settings, stage: str, gsd: float, bands: int) -> ModelCard:
    """The card named for the stage's task, or the one that fits best; refused by name where it does not fit."""
    from catalogs.cards import fits, select_card, takes

    task = TASKS[stage]
    card = _named(settings, task)
    if card is not None:
        if not takes(card, bands):
            raise SettingsError(
                f"--card {task}={card.name}: takes {card.bands} band(s), the image has {bands}; give it its own bands "
                "(gdal_translate -b) or name a card that takes them: resurvey models list"
            )
        if not fits(card, gsd, bands):
            raise SettingsError(
                f"--card {task}={card.name}: is for images of {card.gsd[0]:g} to {card.gsd[1]:g} m a pixel, this one "
                f"has {gsd:.3g} m; resample it or name another card: resurvey models list"
            )
        return card
    try:
        return select_card(task, gsd, bands, settings.models)
    except SettingsError as error:
        others = [name for name in settings.stages if name != stage and (stage, name) != ("classify", "refine")]
        hint = f"; or leave {stage} out: --stages {','.join(others)}" if others else ""
        raise SettingsError(f"{error}{hint}") from None


def road_card(settings: Settings, gsd: float) -> tuple[ModelCard, int]:
    """The card that sees roads, and the level it looks at."""
    from catalogs.cards import select_card

    level = level_of(gsd)
    return _named(settings, "roads") or select_card("roads", gsd * level, 3, settings.models), level


def _named(settings: Settings, task: str) -> ModelCard | None:
    """The card that the settings name for a task, if they do."""
    from catalogs.cards import load_card

    if task not in settings.cards:
        return None
    card = load_card(settings.cards[task], settings.models)
    if card.task != task:
        raise SettingsError(f"--card {task}={card.name}: is a model for {card.task}, not for {task}")
    return card


def coarsest_factor(card: ModelCard, gsd: float) -> int:
    """Largest factor whose pixels are no coarser than the alignment network has seen."""
    limit = float(card.extra.get("coarsest_gsd", card.gsd[1]))
    return max((level for level in LEVELS if gsd * level <= limit), default=1)


def steps_of(aligner: str, card: ModelCard, gsd: float) -> tuple[Step, ...]:
    """The network's steps on a scene of `gsd` metres."""
    if aligner == "both" and gsd < FINE_GSD:
        return ()
    return plan_steps(ROUNDS[aligner], coarsest_factor(card, gsd))


def least_score(settings: Settings, card: ModelCard | None) -> float:
    """The mean score under which a building is left out: the one asked for, or what the card was calibrated to."""
    if settings.min_score is not None:
        return settings.min_score
    return float(card.extra.get("min_score", 0.0)) if card else 0.0


def prepare(settings: Settings) -> Job:
    """The job that settings ask for, from headers alone.

    Errors: InputError for an image or cadaster that cannot be used, SettingsError for settings or models
    that do not fit, each in one line that names the file and the fix.
    """
    from pipeline import polygons, raster, working

    check_tile(settings.tile)
    header = raster.open_raster(settings.image)
    raster.probe(header)
    grid = working.working_raster(header, MIN_GSD)
    cards, levels = choose_cards(settings, grid.gsd, grid.bands)
    cadaster_source, notes = "", list(grid.notes)
    if settings.cadaster is not None:
        cadaster = polygons.read_cadaster(settings.cadaster, settings.cadaster_layer, settings.cadaster_crs)
        polygons.check_overlap(grid, cadaster)
        cadaster_source = cadaster.source_id
        if settings.roads:
            if polygons.road_rows(cadaster, settings.class_column).any():
                cards["roads"], levels["roads"] = road_card(settings, grid.gsd)
            else:
                notes.append(f"{settings.cadaster}: has no roads, so --roads changes nothing")
    alignment = cards.get("alignment")
    searches = plan_searches(grid.gsd) if "align" in settings.stages and settings.aligner != "network" else ()
    steps = steps_of(settings.aligner, alignment, grid.gsd) if alignment else ()
    return Job(
        folder=str(settings.out.absolute()),
        image=settings.image,
        min_gsd=MIN_GSD,
        shape=grid.shape,
        gsd=grid.gsd,
        crs=grid.crs,
        transform=grid.transform,
        cadaster=settings.cadaster,
        cadaster_layer=settings.cadaster_layer,
        cadaster_crs=settings.cadaster_crs,
        tile=settings.tile,
        device=resolve_device(settings.device),
        models=None if settings.models is None else str(settings.models),
        stages=settings.stages,
        cards={task: card.name for task, card in cards.items()},
        weights={task: card.sha256 for task, card in cards.items()},
        levels=levels,
        halos={task: card.halo for task, card in cards.items()},
        strides={task: card.stride for task, card in cards.items()},
        searches=tuple((each.factor, each.reach, each.sigma, each.turn) for each in searches),
        steps=tuple((step.factor, step.round) for step in steps),
        min_area_m2=settings.min_area,
        min_score=least_score(settings, cards.get("mask")),
        source=grid.content_id,
        cadaster_source=cadaster_source,
        copies=tuple(name for name in ("gpkg", "fgb") if getattr(settings, name)),
        sort=settings.sort,
        identity=settings.identity(),
        notes=tuple(notes),
        move=settings.move,
        seat=settings.seat,
        symmetry=settings.symmetry,
        outlines=settings.outlines,
        class_column=settings.class_column,
    )


def settle(job: Job, settings: Settings) -> None:
    """Make the run's folder ready: new, or the same run's; refuse another run's with the difference."""
    folder, path = Path(job.folder), job.work / "job.json"
    if path.exists() and settings.force_new:
        for child in job.work.iterdir():
            if child.name != "lock":  # held by this very run
                shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    if path.exists():
        changed = differences(job, settings)
        if changed:
            raise SettingsError(
                f"{folder}: holds a run with other settings ({'; '.join(changed)}); use another --out or --force-new"
            )
    elif not settings.force_new and any(child.name != job.work.name for child in folder.iterdir()):
        raise SettingsError(f"{folder}: is not empty and holds no run; choose another --out or use --force-new")
    write_job(job)


def differences(job: Job, settings: Settings) -> list[str]:
    """Why the run that the job's folder holds cannot be gone on with: other settings, or stages that looked at pixels
    of another size, whose tiles are others and must not mix. Nothing where there is no run."""
    path = job.work / "job.json"
    if not path.is_file():
        return []
    before = json.loads(path.read_text())
    return settings.difference(before.get("identity", {})) or [
        f"{stage} at {job.gsd * level:.2g} m a pixel, now {job.gsd * job.levels[stage]:.2g} m"
        for stage, level in before.get("levels", {}).items()
        if job.levels.get(stage, level) != level
    ]


def check_room(job: Job) -> None:
    """Refuse a run whose state cannot fit on the disk; the estimate is generous."""
    folder = Path(job.folder)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    needed = job.shape[0] * job.shape[1] * BYTES_PER_PIXEL
    free = shutil.disk_usage(existing).free
    if free < needed and not (job.work / "ledger.jsonl").exists():
        raise StoreError(f"{folder}: needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room")
