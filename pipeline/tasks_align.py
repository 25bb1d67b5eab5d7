"""What the alignment should do: its phases, and their tasks with the digests of exactly what each reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pipeline.grid import Window
from pipeline.job import AlignStep, Job
from pipeline.job_stages import Boxes, around, grid_of, scaled, stage_of
from pipeline.ledger import Ledger, fingerprint
from pipeline.stage import Phase, Task
from pipeline.stages import align, common, roads, seat
from pipeline.stages import gate as gate_stage
from pipeline.stages import search as search_stage
from pipeline.stages.gate import Gate
from pipeline.stages.search import Search
from pipeline.upstream import state_of, states_of

BoxTable = dict[str, tuple[float, float, float, float]]


def phases(job: Job) -> Iterator[Phase]:
    """The alignment's phases in order; none without it."""
    if not job.align_line:
        return
    if job.roads:
        yield Phase(roads.PHASE, "align: see where roads run")
    yield Phase(common.PHASE, "align: find what the whole cadaster is off by")
    for step in job.align_line:
        if isinstance(step, Gate):
            yield Phase(step.source, "align: check how sure each move is")
            yield Phase(f"{step.name}-move", "align: keep what gets better")
            continue
        kind, how = "predict", f"factor {step.factor}"
        if isinstance(step, Search):
            kind = "search"
        else:
            how += f", round {step.round}"
        yield Phase(step.source, f"align: {kind} at {how}")
        yield Phase(f"{step.name}-move", f"align: move polygons at {how}")
    yield Phase("displacement", "stitch the dense field")


def expected(job: Job, phase: str, ledger: Ledger) -> Iterator[Task]:
    """Every task of one of the alignment's phases, due or not, as the ledger stands now."""
    if phase == roads.PHASE:
        return _roads(job, ledger)
    if phase == common.PHASE:
        return _common(job, ledger)
    if phase == "displacement":
        return _displacement(job, ledger)
    position = [step.name for step in job.align_line].index(phase.rsplit("-", 1)[0])
    step = job.align_line[position]
    if phase.endswith("-move"):
        return _moves(job, step, position, ledger)
    if isinstance(step, Search):
        return _searches(job, step, position, ledger)
    if isinstance(step, Gate):
        return _checks(job, step, position, ledger)
    return _fields(job, step, position, ledger)


def boxes_of(job: Job, ledger: Ledger, position: int) -> BoxTable:
    """Bounding box (x0, y0, x1, y1; px of level 1) of each block of polygons before step `position`."""
    index, shift = ledger.get("index", "cadaster"), ledger.get(common.PHASE, common.KEY)
    boxes = dict(index.extra.get("boxes", {})) if index is not None else {}
    dx, dy = (float(shift.extra[axis]) for axis in ("dx", "dy")) if shift is not None and shift.done else (0.0, 0.0)
    boxes = {key: (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy) for key, box in boxes.items()}
    for step in job.align_line[:position]:
        for key, receipt in ledger.of(f"{step.name}-move").items():
            if not receipt.done:
                boxes.pop(key, None)  # failed: its polygons stay, and have no say in where others go
            elif key in boxes:
                boxes[key] = receipt.extra["box"]
    return {key: (float(b[0]), float(b[1]), float(b[2]), float(b[3])) for key, b in boxes.items()}


def unmoved_blocks(job: Job, ledger: Ledger) -> list[str]:
    """Blocks of polygons of which a move failed."""
    moves = [ledger.of(f"{step.name}-move") for step in job.align_line]
    return sorted({key for receipts in moves for key, receipt in receipts.items() if not receipt.done})


def _placed(job: Job, ledger: Ledger, position: int, key: str) -> str:
    """Digests of what a block's polygons are, and of where they are before step `position`."""
    index = state_of(ledger, "index", "cadaster")
    if position == 0:
        return index + state_of(ledger, common.PHASE, common.KEY)
    return index + state_of(ledger, f"{job.align_line[position - 1].name}-move", key)


def _roads(job: Job, ledger: Ledger) -> Iterator[Task]:
    stage = stage_of(job, roads.PHASE, state_of(ledger, "statistics", "scene"))
    for tile in stage.grid:
        image = states_of(ledger, "ingest", job.blocks(), scaled(tile.read, stage.grid.level, 1))
        yield Task(roads.PHASE, tile.key, fingerprint(stage.print, tile.key, image))


def seen_roads(job: Job, ledger: Ledger, region: Window) -> list[object]:
    """What a region (px of level 1) shows of roads, for fingerprints; nothing where roads are not looked for."""
    grid = grid_of(job, roads.PHASE) if job.roads else None
    if grid is None:
        return []
    recipe = [roads.GAIN, roads.PRIOR]
    return [recipe, states_of(ledger, roads.PHASE, grid, scaled(region.grow(32), 1, grid.level))]


def _common(job: Job, ledger: Ledger) -> Iterator[Task]:
    # by hash: anywhere in the scene, and the same ones whatever the order
    keys = sorted(sorted(boxes_of(job, ledger, 0), key=fingerprint)[: common.BLOCKS])
    state = [state_of(ledger, "index", "cadaster"), state_of(ledger, "statistics", "scene"), ledger.digest("ingest")]
    recipe = [common.VERSION, search_stage.VERSION, keys]
    yield Task(common.PHASE, common.KEY, fingerprint(recipe, state), payload={"blocks": keys})


def _fields(job: Job, step: align.Step, position: int, ledger: Ledger) -> Iterator[Task]:
    stage = stage_of(job, step.name, state_of(ledger, "statistics", "scene"))
    near, level = Boxes(boxes_of(job, ledger, position)), stage.grid.level
    for tile in stage.grid:
        reach = scaled(tile.read, level, 1)
        blocks = near.meeting(reach)
        state = [(key, _placed(job, ledger, position, key)) for key in blocks]
        image = states_of(ledger, "ingest", job.blocks(), reach) if blocks else []
        print_ = fingerprint(replace(stage, name=step.source).print, tile.key, state, image)
        yield Task(step.source, tile.key, print_, payload={"blocks": blocks})


def _searches(job: Job, step: Search, position: int, ledger: Ledger) -> Iterator[Task]:
    near = Boxes(boxes_of(job, ledger, position))
    recipe = [search_stage.VERSION, step.factor, step.reach, step.sigma]
    scene = state_of(ledger, "statistics", "scene")
    for tile in job.blocks():
        region = step.region(step.nodes(tile.core))
        blocks = near.meeting(region)
        state = [(key, _placed(job, ledger, position, key)) for key in blocks]
        image = states_of(ledger, "ingest", job.blocks(), region) if blocks else []
        shown = seen_roads(job, ledger, region) if blocks else []
        print_ = fingerprint(step.source, recipe, scene, tile.key, state, image, *shown)
        yield Task(step.source, tile.key, print_, payload={"blocks": blocks})


def _checks(job: Job, step: Gate, position: int, ledger: Ledger) -> Iterator[Task]:
    recipe = [gate_stage.VERSION, search_stage.VERSION, gate_stage.REACH, gate_stage.WEIGHTS]
    recipe += [seat.VERSION, seat.REACH] if job.seat else []
    scene = state_of(ledger, "statistics", "scene")
    for key, box in sorted(boxes_of(job, ledger, position).items()):
        ways = [_placed(job, ledger, before, key) for before in range(position + 1)]
        image = states_of(ledger, "ingest", job.blocks(), around(box, gate_stage.REACH + 8))
        shown = seen_roads(job, ledger, around(box, gate_stage.REACH + 8))
        yield Task(step.source, key, fingerprint(step.source, recipe, scene, key, ways, image, *shown))


def _moves(job: Job, step: AlignStep, position: int, ledger: Ledger) -> Iterator[Task]:
    phase, boxes = f"{step.name}-move", boxes_of(job, ledger, position)
    near, scene = Boxes(boxes), state_of(ledger, "statistics", "scene")
    recipe: list[object]
    for key, box in sorted(boxes.items()):
        state = _placed(job, ledger, position, key)
        if isinstance(step, Gate):
            said = [(other, state_of(ledger, step.source, other)) for other in near.meeting(_reach(step, box))]
            recipe = [gate_stage.VERSION, step.sigma, gate_stage.QUIET, gate_stage.LOUD]
            found = [other for other, _ in said if (r := ledger.get(step.source, other)) is not None and r.done]
            index = state_of(ledger, "index", "cadaster")
            yield Task(phase, key, fingerprint(phase, recipe, key, index, state, said), payload={"blocks": found})
            continue
        grid = grid_of(job, step.source)
        assert grid is not None
        if isinstance(step, Search):
            region, side = search_stage.nodes_around(box, step), step.spacing
            recipe = [search_stage.VERSION, step.sigma]
        else:
            region, side = align.cells_around(box, step.factor), align.CELL
            recipe = [stage_of(job, step.name, scene).print]
        pixels = Window(*(value * side for value in (region.y0, region.x0, region.height, region.width)))
        fields = states_of(ledger, step.source, replace(grid, halo=0), pixels)
        holes = [other for other, _ in fields if (r := ledger.get(step.source, other)) is None or not r.done]
        yield Task(phase, key, fingerprint(phase, recipe, key, state, fields), payload={"holes": holes})


def _reach(gate: Gate, box: tuple[float, float, float, float]) -> Window:
    return around(box, gate.neighbourhood)


def _displacement(job: Job, ledger: Ledger) -> Iterator[Task]:
    line = job.align_line
    gate = line[-1]
    assert isinstance(gate, Gate)
    written = [ledger.digest(step.source) for step in line] + [state_of(ledger, common.PHASE, common.KEY)]
    holes = {
        step.source: sorted(key for key, receipt in ledger.of(step.source).items() if not receipt.done)
        for step in line[:-1]
    }
    checked = {key for key, receipt in ledger.of(gate.source).items() if receipt.done}
    near = Boxes({key: box for key, box in boxes_of(job, ledger, len(line) - 1).items() if key in checked})
    versions = [align.VERSION, search_stage.VERSION, gate_stage.VERSION]
    for tile in job.blocks():
        # a node may end as far from where it began as the whole line can move it
        core = tile.core.grow(int(gate.neighbourhood) + 2 * common.REACH)
        payload = {"near": {tile.key: near.meeting(core)}, "holes": holes}
        print_ = fingerprint("displacement", versions, tile.key, written, payload)
        yield Task("displacement", tile.key, print_, payload=payload)
