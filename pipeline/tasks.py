"""What should be done: every task of every phase with the fingerprint its receipt must carry.

A task's fingerprint covers its stage's recipe and the digests of exactly what it reads, so a repaired
tile makes due what lies within its reach and nothing else. First run, resume and backfill are this one
computation; the plan is what differs from the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pipeline import tasks_align
from pipeline.grid import TileGrid
from pipeline.job import Job
from pipeline.job_stages import SPLIT_VERSION, grid_of, scaled, split_options, stage_of
from pipeline.ledger import Ledger, Receipt, fingerprint
from pipeline.scene import BLOCK
from pipeline.stage import Phase, Stage, Task
from pipeline.stages import seat
from pipeline.stages.gate import ABSTAIN, ABSTAIN_ROADS, LOUD, QUIET
from pipeline.upstream import state_of, states_of

PREPARE_VERSION, EXPORT_VERSION, BORDER_VERSION = 1, 3, 1


def phases(job: Job) -> tuple[Phase, ...]:
    """The phases of a run, in order: the one place where the order of the line stands."""
    line = [Phase("ingest", "read the image into the scene"), Phase("prepare", "statistics and cadaster")]
    line.extend(tasks_align.phases(job))
    if "classify" in job.stages:
        line.append(Phase("classify", "classify" + (" and refine" if "refine" in job.stages else "")))
    if "split" in job.stages:
        line.append(Phase("mask", "score buildings and touching borders"))
        line.append(Phase("split", "split scores into buildings"))
        line.append(Phase("split-large", "split buildings larger than a tile's reach"))
    line.append(Phase("border", "measure what a window's border does"))
    line.append(Phase("export", "write the products"))
    if "align" in job.stages and "split" in job.stages:
        line.append(Phase("conflate", "compare cadaster and buildings"))
    return tuple(line)


def expected(job: Job, phase: str, ledger: Ledger) -> list[Task]:
    """Every task of a phase, due or not, as the ledger stands now."""
    if phase == "ingest":
        stage = _stage(job, phase, ledger)
        return [Task("ingest", tile.key, fingerprint(stage.print, tile.key, job.source)) for tile in stage.grid]
    if phase == "prepare":
        return list(_prepare(job, ledger))
    if phase == "displacement" or phase.startswith("align-"):
        return list(tasks_align.expected(job, phase, ledger))
    if phase == "classify":
        return list(_classify(job, ledger))
    if phase == "mask":
        return list(_raster(job, phase, ledger, "ingest", job.blocks()))
    if phase == "split":
        return list(_raster(job, phase, ledger, "mask", job.grid(job.levels["mask"])))
    if phase == "split-large":
        return list(_large(job, ledger))
    if phase == "border":
        return list(_borders(job, ledger))
    return list(_products(job, phase, ledger))


def due(tasks: Iterable[Task], ledger: Ledger) -> Iterator[Task]:
    """The tasks without a receipt that says done with the same fingerprint; each says why it is due."""
    for task in tasks:
        prints = task.payload.get("fingerprints", {task.stage: task.fingerprint})
        reasons = {name: _why(ledger.get(name, task.key), value) for name, value in prints.items()}
        missing = [name for name, reason in reasons.items() if reason]
        if missing:
            payload = {**task.payload, "stages": missing} if "fingerprints" in task.payload else task.payload
            yield replace(task, why=reasons[missing[0]], payload=payload)


def _why(receipt: Receipt | None, wanted: str) -> str:
    if receipt is None:
        return "never done"
    if not receipt.done:
        return f"failed before: {receipt.reason}"
    return "" if receipt.fingerprint == wanted else "its inputs, settings or weights changed"


def _stage(job: Job, name: str, ledger: Ledger) -> Stage:
    return stage_of(job, name, state_of(ledger, "statistics", "scene"))


def _prepare(job: Job, ledger: Ledger) -> Iterator[Task]:
    written = ledger.digest("ingest")
    yield Task("statistics", "scene", fingerprint(PREPARE_VERSION, written))
    if job.cadaster is not None:
        inputs = [job.cadaster_source, job.cadaster_layer, job.cadaster_crs, job.shape, job.transform, job.crs]
        inputs += ["roads", job.class_column] if job.roads else []
        yield Task("index", "cadaster", fingerprint(PREPARE_VERSION, BLOCK, inputs))


def _raster(job: Job, name: str, ledger: Ledger, source: str, grid: TileGrid) -> Iterator[Task]:
    stage = _stage(job, name, ledger)
    for tile in stage.grid:
        window = scaled(tile.read, stage.grid.level, grid.level)
        yield Task(name, tile.key, fingerprint(stage.print, tile.key, states_of(ledger, source, grid, window)))


def _classify(job: Job, ledger: Ledger) -> Iterator[Task]:
    names = [name for name in ("classify", "refine") if name in job.stages]
    lines = {name: {task.key: task for task in _raster(job, name, ledger, "ingest", job.blocks())} for name in names}
    for key in lines["classify"]:
        prints = {name: lines[name][key].fingerprint for name in names}
        yield Task("classify", key, prints["classify"], payload={"fingerprints": prints})


def _large(job: Job, ledger: Ledger) -> Iterator[Task]:
    from pipeline.stages.split import margin_of
    from pipeline.worker.split import large_components

    reach = max(1, margin_of(job.outlines))
    grid = job.grid(job.levels["mask"])
    crossing = [key for key, receipt in ledger.of("split").items() if receipt.done and receipt.extra.get("crossing")]
    for component in large_components(job, crossing):
        box = component.box
        said = {"first": component.first, "box": [box.y0, box.x0, box.height, box.width]}
        said |= {"area": component.area, "windowed": component.windowed}
        masks = states_of(ledger, "mask", grid, box.grow(reach))
        print_ = fingerprint("split-large", SPLIT_VERSION, *split_options(job).values(), said, masks)
        yield Task("split-large", component.key, print_, payload={"component": said})


def _borders(job: Job, ledger: Ledger) -> Iterator[Task]:
    scene = state_of(ledger, "statistics", "scene")
    names = {"align": "alignment", "classify": "coarse", "refine": "refiner", "split": "mask"}
    for stage in job.stages:
        task = names[stage]
        if task == "alignment" and not job.steps:
            continue
        weights = [job.weights[task], job.weights["coarse"] if task == "refiner" else ""]
        upstream = state_of(ledger, "index", "cadaster") if task == "alignment" else ""
        yield Task("border", task, fingerprint("border", BORDER_VERSION, task, weights, scene, upstream))


def _products(job: Job, phase: str, ledger: Ledger) -> Iterator[Task]:
    """Each product rests on all receipts of the stages that it is made from."""
    fields = [step.source for step in job.align_line[:-1]]  # a check that failed concerns rows, not a place
    if phase == "conflate":
        written = [state_of(ledger, "export", key) for key in ("cadaster_aligned", "buildings")]
        unseen = {"failed": failed_windows(job, ledger, ["ingest", "mask", "split"])}
        print_ = fingerprint("conflate", EXPORT_VERSION, written, unseen, job.copies)
        yield Task("conflate", "changes", print_, payload=unseen)
        return
    products: dict[str, tuple[list[str], dict[str, object]]] = {}
    if job.align_line:
        last = f"{job.align_line[-1].name}-move"
        unmoved = tasks_align.unmoved_blocks(job, ledger)
        failed = failed_windows(job, ledger, ["ingest", *fields])
        stages = ["index", "ingest", last, *fields, *([job.align_line[-1].source] if job.seat else [])]
        products["cadaster_aligned"] = (stages, {"failed": failed, "unmoved": unmoved})
        holes = failed_windows(job, ledger, ["ingest", *fields, "displacement"])
        products["displacement"] = (["displacement"], {"failed": holes})
    if "classify" in job.stages:
        name = "refine" if "refine" in job.stages else "classify"
        products["classes"] = ([name], {"failed": failed_windows(job, ledger, [name])})
    if "split" in job.stages:
        large = {task.key for task in _large(job, ledger)}
        found = [("split", ledger.of("split")), ("split-large", ledger.of("split-large"))]
        parts = [
            [name, key]
            for name, receipts in found
            for key, receipt in sorted(receipts.items())
            if receipt.status == "ok" and (name == "split" or key in large)
        ]
        products["buildings"] = (["split", "split-large"], {"parts": parts})
    for key, (stages, payload) in products.items():
        written = [ledger.digest(stage) for stage in stages]
        options = [job.copies, job.sort, job.min_area_m2, job.min_score, job.move, ABSTAIN]
        options += [ABSTAIN_ROADS] if job.roads else []
        options += [seat.VERSION, seat.PRIOR, seat.CLEAR, seat.WEIGHTS, seat.KNOWN, QUIET, LOUD] if job.seat else []
        print_ = fingerprint("export", EXPORT_VERSION, key, written, options, payload)
        yield Task("export", key, print_, payload=payload)


def failed_windows(job: Job, ledger: Ledger, stages: list[str]) -> dict[str, list[list[int]]]:
    """Where a stage failed: stage → windows [y0, x0, height, width] in px of level 1."""
    holes: dict[str, list[list[int]]] = {}
    for name in stages:
        grid = grid_of(job, name)
        for key, receipt in sorted(ledger.of(name).items()):
            if grid is not None and not receipt.done:
                window = scaled(grid.at(key).core, grid.level, 1)
                holes.setdefault(name, []).append([window.y0, window.x0, window.height, window.width])
    return holes
