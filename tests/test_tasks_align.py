"""The alignment's plan: what a search, the common shift and the gate read is what makes them due, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline import tasks
from pipeline.job import Job
from pipeline.ledger import Ledger, Receipt
from pipeline.stage import Task
from pipeline.stages.search import plan_searches
from tests.test_tasks import BOXES, finish, job, run

PLAN = plan_searches(0.15)
SEARCHES = tuple((each.factor, each.reach, each.sigma, each.turn) for each in PLAN)
FIRST, *_, BEFORE, LAST = (each.name for each in PLAN)


def search_job(folder: Path, **changes: Any) -> Job:
    """The job of 4 × 4 blocks, aligned by the search alone."""
    return job(folder, **{"stages": ("align",), "searches": SEARCHES, "steps": (), **changes})


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.jsonl") as opened:
        yield opened


def failing(phase: str, key: str) -> Any:
    """Receipts of a run in which one task fails."""

    def end(task: Task) -> list[Receipt]:
        if (task.stage, task.key) == (phase, key):
            return [Receipt(task.stage, task.key, task.fingerprint, "failed", reason="poison")]
        return finish(task)

    return end


def shifted(dx: float, digest: str = "d") -> Any:
    """Receipts of a run whose cadaster is off by `dx` px to the right."""

    def end(task: Task) -> list[Receipt]:
        if task.stage != "align-common":
            return finish(task)
        return [Receipt(task.stage, task.key, task.fingerprint, "ok", digest, extra={"dx": dx, "dy": 0.0})]

    return end


def expected(work: Job, phase: str, ledger: Ledger) -> dict[str, Task]:
    return {task.key: task for task in tasks.expected(work, phase, ledger)}


def test_the_line_is_the_common_shift_the_searches_the_network_and_the_gate(tmp_path: Path) -> None:
    names = [phase.name for phase in tasks.phases(search_job(tmp_path, steps=((2, 1),)))]
    assert names == [
        "ingest", "prepare", "align-common",
        *(f"{name}-{what}" for name in (each.name for each in PLAN) for what in ("search", "move")),
        "align-f2p1-field", "align-f2p1-move", "align-gate-check", "align-gate-move",
        "displacement", "border", "export",
    ]  # fmt: skip
    assert not any(phase.name.startswith("align") for phase in tasks.phases(job(tmp_path, stages=("classify",))))


def test_everything_is_done_once(tmp_path: Path, ledger: Ledger) -> None:
    work = search_job(tmp_path)
    done = run(work, ledger)
    assert done["align-common"] == ["scene"]
    for phase in (f"{FIRST}-search", f"{FIRST}-move", "align-gate-check", "align-gate-move", "displacement"):
        assert sorted(done[phase]) == sorted(BOXES), phase
    assert run(work, ledger) == {}


def test_a_repaired_search_brings_what_lies_in_its_reach(tmp_path: Path, ledger: Ledger) -> None:
    work, phase = search_job(tmp_path), f"{LAST}-search"
    run(work, ledger, failing(phase, "r0000c0000"))
    moves = expected(work, f"{LAST}-move", ledger)
    holes = [key for key, task in moves.items() if task.payload["holes"]]
    assert holes == ["r0000c0000", "r0000c0001", "r0001c0000", "r0001c0001"]
    again = run(work, ledger, lambda task: finish(task, "repaired" if task.stage == phase else "d"))
    assert again[phase] == ["r0000c0000"]
    assert sorted(again[f"{LAST}-move"]) == holes
    assert f"{BEFORE}-move" not in again and "align-common" not in again
    assert "align-gate-check" not in again  # moves came out as they were


def test_a_move_that_comes_out_otherwise_asks_the_next_search_and_the_gate_around_it(
    tmp_path: Path, ledger: Ledger
) -> None:
    work, phase = search_job(tmp_path), f"{BEFORE}-move"
    run(work, ledger, failing(phase, "r0000c0000"))
    again = run(work, ledger, lambda task: finish(task, "repaired" if task.stage == phase else "d"))
    assert again[phase] == ["r0000c0000"]
    corner = {"r0000c0000", "r0000c0001", "r0001c0000", "r0001c0001"}
    assert set(again[f"{LAST}-search"]) == corner
    assert again["align-gate-check"] == ["r0000c0000"]
    assert set(again["align-gate-move"]) <= corner


def test_polygons_that_could_not_move_have_no_say_in_the_searches_after(tmp_path: Path, ledger: Ledger) -> None:
    work = search_job(tmp_path)
    run(work, ledger, failing(f"{FIRST}-move", "r0001c0001"))
    assert "r0001c0001" not in expected(work, "align-gate-check", ledger)
    for task in expected(work, f"{PLAN[1].name}-search", ledger).values():
        assert "r0001c0001" not in task.payload["blocks"]


def test_footprints_that_could_not_be_checked_have_no_say_in_the_gate(tmp_path: Path, ledger: Ledger) -> None:
    work = search_job(tmp_path)
    run(work, ledger, failing("align-gate-check", "r0001c0001"))
    moves = expected(work, "align-gate-move", ledger)
    assert "r0001c0001" not in moves["r0001c0000"].payload["blocks"]
    assert {"r0001c0000", "r0000c0001"} <= set(moves["r0001c0000"].payload["blocks"])
    again = run(work, ledger)
    assert again["align-gate-check"] == ["r0001c0001"]
    assert {"r0001c0001", "r0001c0000"} <= set(again["align-gate-move"])


def test_searches_ask_for_blocks_where_the_common_shift_has_put_them(tmp_path: Path, ledger: Ledger) -> None:
    work = search_job(tmp_path)
    phases = [phase.name for phase in tasks.phases(work)]
    for name in phases[: phases.index(f"{FIRST}-search")]:
        for task in tasks.expected(work, name, ledger):
            ledger.append(shifted(-3000.0)(task))
    search = expected(work, f"{FIRST}-search", ledger)
    assert search["r0000c0000"].payload["blocks"] == ["r0000c0001", "r0000c0002", "r0001c0001", "r0001c0002"]
    assert search["r0000c0003"].payload["blocks"] == []  # the last blocks went 3000 px to the left


def test_another_common_shift_makes_due_all_that_rests_on_it(tmp_path: Path, ledger: Ledger) -> None:
    work = search_job(tmp_path)
    run(work, ledger, shifted(0.0))
    lines = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text("".join(line for line in lines if '"align-common"' not in line))
    with Ledger(ledger.path) as torn:
        again = run(work, torn, shifted(60.0, "other"))
    assert "ingest" not in again and again["align-common"] == ["scene"]
    for phase in (f"{FIRST}-search", f"{FIRST}-move", "displacement"):
        assert sorted(again[phase]) == sorted(BOXES), phase


def test_a_repaired_image_tile_asks_for_the_common_shift_again(tmp_path: Path, ledger: Ledger) -> None:
    """Even where the scene's statistics come out as they were."""
    work = search_job(tmp_path)
    run(work, ledger, failing("ingest", "r0003c0003"))
    again = run(work, ledger, lambda task: finish(task, "repaired" if task.stage == "ingest" else "d"))
    assert again["ingest"] == ["r0003c0003"]
    assert again["align-common"] == ["scene"]
    assert "r0003c0003" in again[f"{FIRST}-search"] and "r0000c0000" not in again[f"{FIRST}-search"]
    assert "r0003c0003" in again["align-gate-check"] and "r0000c0000" not in again["align-gate-check"]
