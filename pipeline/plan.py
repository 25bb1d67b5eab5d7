"""What a run would do and why, from headers and receipts alone: the `plan` verb."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Any

from pipeline import tasks
from pipeline.job import Job
from pipeline.job_stages import grid_of
from pipeline.ledger import Ledger

SECONDS_PER_MPX = {"ingest": 0.4, "field": 4.0, "classify": 2.0, "mask": 6.0, "split": 0.3}
"""One CPU core's seconds per megapixel of a stage's own level, until a run's receipts know better."""
FIXED_MB = 700.0
"""Resident memory of a worker that has torch and a network loaded, before its tile, MiB."""
FLOATS_PER_PIXEL = 12
"""float32 values a network task holds for each pixel of its tile at its peak, outside the windows."""


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """One phase of a plan: tasks in all and due, why (reason → tasks), and the core-seconds expected."""

    name: str
    title: str
    total: int
    due: int
    why: dict[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The phases of a run, with the memory a worker needs (MiB) and the disk the state takes (bytes)."""

    phases: tuple[PhasePlan, ...]
    memory_mb: float
    disk_bytes: float
    notes: tuple[str, ...]

    @property
    def due(self) -> int:
        """Tasks due over all phases."""
        return sum(phase.due for phase in self.phases)


def plan_run(job: Job, ledger: Ledger) -> Plan:
    """The plan of a job. Phases behind an unfinished one count all their tasks as due."""
    from pipeline.prepare import BYTES_PER_PIXEL

    lines = []
    for phase in tasks.phases(job):
        wanted = tasks.expected(job, phase.name, ledger)
        missing = list(tasks.due(wanted, ledger))
        why = dict(Counter(task.why for task in missing))
        seconds = len(missing) * seconds_of(job, phase.name, ledger)
        lines.append(PhasePlan(phase.name, phase.title, len(wanted), len(missing), why, round(seconds, 1)))
    tile_mb = FLOATS_PER_PIXEL * 4 * (job.tile + 512) ** 2 / 2**20
    notes = () if ledger.get("index", "cadaster") or "align" not in job.stages else (
        "moves are counted once the cadaster is indexed",
    )
    return Plan(tuple(lines), FIXED_MB + tile_mb, job.shape[0] * job.shape[1] * BYTES_PER_PIXEL, notes)


def seconds_of(job: Job, phase: str, ledger: Ledger) -> float:
    """Expected core-seconds of one task: the median of the receipts there are, else a rate per megapixel."""
    known = [receipt.seconds for receipt in ledger.of(phase).values() if receipt.status == "ok"]
    if known:
        return float(median(known))
    rate = SECONDS_PER_MPX.get(phase.rsplit("-", 1)[-1], 0.0)
    grid = grid_of(job, phase)
    if grid is None or not rate:
        return 0.5
    return rate * min(grid.core**2, grid.shape[0] * grid.shape[1]) / 1e6


def explain(job: Job, ledger: Ledger, key: str) -> list[dict[str, Any]]:
    """For tile or block `key`: what each phase knows of it, and why it is due or not."""
    lines = []
    for phase in tasks.phases(job):
        for task in tasks.expected(job, phase.name, ledger):
            if task.key != key:
                continue
            receipt = ledger.get(task.stage, key)
            why = next((due.why for due in tasks.due([task], ledger)), "")
            lines.append({
                "phase": phase.name,
                "due": bool(why),
                "why": why or "done",
                "status": receipt.status if receipt else "none",
                "reason": receipt.reason if receipt else "",
                "fingerprint": task.fingerprint,
                "recorded": receipt.fingerprint if receipt else "",
                "reads": task.payload.get("blocks", ""),
            })
    return lines
