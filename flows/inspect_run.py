"""What `plan` and `status` show: a run's phases, what is due in each and why, and how long it will take."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import show
from pipeline.errors import SettingsError, StoreError

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.settings import Settings

LISTED = 20
"""Failures that `status` names one by one; the rest is counted."""


def show_plan(settings: Settings, tile: str | None, as_json: bool) -> int:
    """Print what a run with these settings would do; with `tile`, what is known of this one and why it is due."""
    from pipeline.ledger import Ledger
    from pipeline.plan import explain, plan_run
    from pipeline.prepare import check_room, differences, prepare

    job = prepare(settings)
    ledger = Ledger(job.work / "ledger.jsonl")
    refused = [] if settings.force_new else differences(job, settings)
    if tile is not None:
        lines = explain(job, ledger, tile)
        if not lines:
            raise SettingsError(f"--explain {tile}: no stage has this tile; they are named like r0000c0000")
        if as_json:
            show.emit(lines)
        else:
            rows = [(each["phase"], each["status"], each["why"], each["reason"]) for each in lines]
            show.table(rows, ("phase", "receipt", "due because", "reason"))
        return 0
    check_room(job)
    found = plan_run(job, ledger)
    workers = settings.workers or len(os.sched_getaffinity(0))
    seconds = sum(phase.seconds for phase in found.phases) / workers
    if as_json:
        show.emit({
            "due": found.due,
            "phases": [
                {"name": p.name, "total": p.total, "due": p.due, "why": p.why, "core_seconds": p.seconds}
                for p in found.phases
            ],
            "workers": workers, "seconds": seconds, "memory_mb": found.memory_mb, "disk_bytes": found.disk_bytes,
            "notes": [*job.notes, *found.notes], "refused": refused,
        })  # fmt: skip
        return 0
    rows = [(p.title, p.total, p.due, _reasons(p.why), show.duration(p.seconds)) for p in found.phases]
    show.table(rows, ("phase", "tasks", "due", "because", "core time"))
    show.say(f"{job.shape[1]} × {job.shape[0]} px at {job.gsd:.3g} m; models: {', '.join(sorted(job.cards.values()))}")
    show.say(
        f"{found.due} tasks due; about {show.duration(seconds)} with {workers} workers of "
        f"{found.memory_mb:.0f} MB; {show.size(found.disk_bytes)} of disk"
    )
    for note in (*job.notes, *found.notes):
        show.say(f"note: {note}")
    if refused:
        show.say(f"would be refused: {job.folder} holds a run with other settings ({'; '.join(refused)})")
    return 0


def show_status(folder: Path, as_json: bool) -> int:
    """Print how far the run in `folder` is, whether it is alive, what failed, and the time it has left."""
    from pipeline.job import read_job
    from pipeline.ledger import Ledger, held
    from pipeline.plan import plan_run

    if not (folder / "work" / "job.json").is_file():
        raise StoreError(f"{folder}: holds no run; name the --out of one")
    job = read_job(str(folder.absolute()))
    ledger = Ledger(folder / "work" / "ledger.jsonl")
    alive = held(folder / "work")
    found = plan_run(job, ledger)
    failed = [receipt for stage in ledger.stages() for receipt in ledger.of(stage).values() if not receipt.done]
    left = sum(phase.seconds for phase in found.phases) / _side_by_side(folder, ledger)
    finished = not alive and found.due == 0 and (folder / "certificate.json").is_file()
    state = "running" if alive else "finished" if finished else "stopped: run the same command again to go on"
    if as_json:
        show.emit({
            "state": state.split(":")[0], "alive": alive, "due": found.due,
            "phases": [{"name": p.name, "total": p.total, "due": p.due} for p in found.phases],
            "failed": [{"stage": r.stage, "key": r.key, "reason": r.reason, "attempt": r.attempt} for r in failed],
            "seconds_left": left if found.due else 0.0,
        })  # fmt: skip
        return 3 if failed else 0
    show.table([(p.title, p.total - p.due, p.total) for p in found.phases], ("phase", "done", "tasks"))
    show.say(state + (f"; about {show.duration(left)} left" if alive and found.due else ""))
    for receipt in failed[:LISTED]:
        show.say(f"failed: {receipt.stage} {receipt.key}: {receipt.reason}")
    if len(failed) > LISTED:
        show.say(f"… and {len(failed) - LISTED} more")
    return 3 if failed else 0


def _reasons(why: dict[str, int]) -> str:
    """`new 12, failed 1`."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(why.items()))


def _side_by_side(folder: Path, ledger: Ledger) -> float:
    """Core-seconds a second since the run last started, from its receipts: at least one."""
    from pipeline.events import read_events

    starts = [event["time"] for event in read_events(folder) if event["event"] == "run"]
    if not starts:
        return 1.0
    since = datetime.fromisoformat(starts[-1])
    rows = [
        receipt
        for stage in ledger.stages()
        for receipt in ledger.of(stage).values()
        if receipt.written and datetime.fromisoformat(receipt.written) >= since
    ]
    if not rows:
        return 1.0
    wall = (max(datetime.fromisoformat(receipt.written) for receipt in rows) - since).total_seconds()
    done: Any = sum(receipt.seconds for receipt in rows)
    return max(1.0, float(done) / max(wall, 1.0))
