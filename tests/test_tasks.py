"""The plan: everything is due once, nothing twice, and a repaired tile brings only what lies in its reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import tasks
from pipeline.job import Job
from pipeline.ledger import Ledger, Receipt
from pipeline.stage import Task

SIDE = 8192
TASKS = ("alignment", "coarse", "refiner", "mask")


def job(folder: Path, **changes: Any) -> Job:
    """A job of 8192 × 8192 px at 0.15 m with every stage; no file of it exists."""
    plain = Job(
        folder=str(folder), image="city.tif", min_gsd=0.1, shape=(SIDE, SIDE), gsd=0.15, crs="EPSG:32645",
        transform=(0.15, 0.0, 0.0, 0.0, -0.15, 0.0), cadaster="city.parquet", cadaster_layer=None, cadaster_crs=None,
        tile=1024, device="cpu", models=None, stages=("align", "classify", "refine"),
        cards={task: task for task in TASKS},
        weights={task: task * 2 for task in TASKS},
        levels={"align": 1, "classify": 4, "refine": 4, "mask": 2}, halos={"alignment": 32, "mask": 64},
        strides={"alignment": 4, "coarse": 4, "refiner": 1, "mask": 16}, searches=(), steps=((2, 1), (1, 1)),
        min_area_m2=4.0, source="image", cadaster_source="cadaster", copies=(), sort=False, identity={}, notes=(),
    )  # fmt: skip
    return replace(plain, **changes)


BOXES = {
    f"r{y:04d}c{x:04d}": [x * 2048.0, y * 2048.0, x * 2048.0 + 2000, y * 2048.0 + 2000]
    for y in range(4)
    for x in range(4)
}


def finish(task: Task, digest: str = "d") -> list[Receipt]:
    """Receipts of a task done well."""
    prints = task.payload.get("fingerprints", {task.stage: task.fingerprint})
    names = task.payload.get("stages", prints)
    extra: dict[str, Any] = {"boxes": BOXES} if task.stage == "index" else {}
    if task.stage == "align-common":
        extra = {"dx": 0.0, "dy": 0.0}
    if task.stage.endswith("-move"):
        extra = {"box": BOXES[task.key]}
    return [Receipt(name, task.key, prints[name], "ok", digest, extra=extra) for name in names]


def run(work: Job, ledger: Ledger, end: Callable[[Task], list[Receipt]] = finish) -> dict[str, list[str]]:
    """Do all that is due, phase by phase; returns the keys done in each."""
    done: dict[str, list[str]] = {}
    for phase in tasks.phases(work):
        due = list(tasks.due(tasks.expected(work, phase.name, ledger), ledger))
        done[phase.name] = [task.key for task in due]
        for task in due:
            ledger.append(end(task))
    return {name: keys for name, keys in done.items() if keys}


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.jsonl") as opened:
        yield opened


def test_a_first_run_does_everything_and_a_second_nothing(tmp_path: Path, ledger: Ledger) -> None:
    work = job(tmp_path)
    first = run(work, ledger)
    assert len(first["ingest"]) == 16 and len(first["classify"]) == 4 and len(first["align-f1p1-field"]) == 64
    assert run(work, ledger) == {}


def test_what_was_torn_from_the_ledger_is_all_that_is_done_again(tmp_path: Path, ledger: Ledger) -> None:
    work = job(tmp_path)
    run(work, ledger)
    lines = ledger.path.read_text().splitlines(keepends=True)
    torn = [line for line in lines if '"align-f1p1-field"' in line][5]
    ledger.path.write_text("".join(line for line in lines if line != torn))
    with Ledger(ledger.path) as again:
        assert run(work, again) == {"align-f1p1-field": ["r0000c0005"]}


def test_a_repaired_tile_brings_what_lies_in_its_reach_and_nothing_else(tmp_path: Path, ledger: Ledger) -> None:
    work = job(tmp_path)

    def break_one(task: Task) -> list[Receipt]:
        if (task.stage, task.key) == ("align-f2p1-field", "r0000c0000"):
            return [Receipt(task.stage, task.key, task.fingerprint, "failed", reason="poison")]
        return finish(task)

    run(work, ledger, break_one)
    again = run(work, ledger, lambda task: finish(task, "repaired" if task.stage.startswith("align-f2") else "d"))
    assert again["align-f2p1-field"] == ["r0000c0000"]
    assert "ingest" not in again and "classify" not in again
    # The tile covers 2048 px of level 1: the block under it and those within the smoothing's reach.
    assert set(again["align-f2p1-move"]) == {"r0000c0000", "r0000c0001", "r0001c0000", "r0001c0001"}
    assert len(again["align-f1p1-field"]) < 64


def test_a_task_that_writes_the_same_again_makes_nothing_due(tmp_path: Path, ledger: Ledger) -> None:
    work = job(tmp_path)
    run(work, ledger)
    lines = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text("".join(line for line in lines if '"ingest"' not in line))
    with Ledger(ledger.path) as again:
        assert list(run(work, again)) == ["ingest"]


@pytest.mark.parametrize(
    ("change", "untouched"),
    [
        ({"weights": {task: task * (3 if task == "alignment" else 2) for task in TASKS}}, "classify"),
        ({"source": "another image"}, ""),
        ({"min_area_m2": 9.0}, "align-f1p1-field"),
        ({"min_score": 0.7}, "align-f1p1-field"),
    ],
)
def test_a_change_makes_due_what_depends_on_it(
    tmp_path: Path, ledger: Ledger, change: dict[str, Any], untouched: str
) -> None:
    work = job(tmp_path)
    run(work, ledger)
    again = run(replace(work, **change), ledger, lambda task: finish(task, "other"))
    assert again and untouched not in again


def test_one_stage_of_a_tile_can_be_due_alone(tmp_path: Path, ledger: Ledger) -> None:
    run(job(tmp_path, stages=("classify",)), ledger)
    work = job(tmp_path, stages=("classify", "refine"))
    due = list(tasks.due(tasks.expected(work, "classify", ledger), ledger))
    assert len(due) == 4 and all(task.payload["stages"] == ["refine"] for task in due)


def test_every_due_task_says_why(tmp_path: Path, ledger: Ledger) -> None:
    for phase in tasks.phases(job(tmp_path)):
        assert all(task.why for task in tasks.due(tasks.expected(job(tmp_path), phase.name, ledger), ledger))
