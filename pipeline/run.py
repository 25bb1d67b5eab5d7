"""A survey of one scene: the phases in order, whoever drives them. No Prefect here.

    with Survey(settings) as survey:
        for phase in survey.phases:
            for batch in survey.batches(phase):
                survey.execute(batch)
            survey.close(phase)
        outcome = survey.finish()

First run and resumption are this same loop: `batches` gives what the ledger does not show as done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipeline import kernels, tasks
from pipeline.arrays import create_arrays
from pipeline.dispatch import InProcess, Workers, existing_cluster, local_cluster
from pipeline.errors import StoreError
from pipeline.events import record
from pipeline.job import Job
from pipeline.ledger import Ledger, Receipt, RunLock
from pipeline.lost import lost_files
from pipeline.prepare import check_room, prepare, settle
from pipeline.stage import Batch, BatchReport, Phase, Task
from pipeline.store import sweep

if TYPE_CHECKING:
    from pipeline.settings import Settings

Progress = Callable[[Phase, int, int], None]
"""Called with the phase, tasks ended and tasks due in it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: exit status 0 (complete) or 3 (finished, some tiles failed), figures, folder."""

    exit_status: int
    figures: dict[str, Any]
    folder: Path


class Survey:
    """An open run: its folder locked, its ledger read, its workers started when first needed."""

    def __init__(self, settings: Settings, *, in_process: bool = False, progress: Progress | None = None) -> None:
        self.settings = settings
        self.in_process = in_process
        self.progress = progress
        self.began = time.monotonic()
        self._stack = ExitStack()
        self._workers: Workers | None = None

    def __enter__(self) -> Survey:
        try:
            self.job: Job = prepare(self.settings)
            self._stack.enter_context(RunLock(self.job.work))
            settle(self.job, self.settings)
            check_room(self.job)
            sweep(self.job.work)
            self.ledger = self._stack.enter_context(Ledger(self.job.work / "ledger.jsonl"))
            self.ledger.append(lost_files(self.job, self.ledger))
            self.phases: tuple[Phase, ...] = tasks.phases(self.job)
            record(self.folder, "run", job=self.job.work.name, tile=self.job.tile, stages=self.job.stages)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._workers = None

    @property
    def folder(self) -> Path:
        """Where the products go."""
        return Path(self.job.folder)

    def batches(self, phase: Phase) -> list[Batch]:
        """What is due in a phase now: the plan's difference to the ledger, cut into batches."""
        due = list(tasks.due(tasks.expected(self.job, phase.name, self.ledger), self.ledger))
        if due:
            create_arrays(self.job, phase.name)
        record(self.folder, "phase", phase=phase.name, due=len(due))
        size = self.settings.batch
        parts = [tuple(due[start : start + size]) for start in range(0, len(due), size)]
        return [Batch(phase, index, len(parts), part) for index, part in enumerate(parts, 1)]

    def execute(self, batch: Batch) -> BatchReport:
        """Run a batch; a failed tile is written down and does not stop the others.

        What an earlier try of the same batch has done is not done again.
        """
        start = time.monotonic()
        todo = [task for task in batch.tasks if not self._done(task)]
        ended, failed = len(batch.tasks) - len(todo), 0

        def write(receipts: list[Receipt]) -> None:
            nonlocal ended, failed
            self.ledger.append(receipts)
            ended += 1
            for receipt in receipts:
                if not receipt.done:
                    failed += 1
                    record(self.folder, "failed", stage=receipt.stage, key=receipt.key, reason=receipt.reason)
            if self.progress is not None:
                before = (batch.index - 1) * self.settings.batch
                self.progress(batch.phase, before + ended, before + len(batch.tasks))

        self.workers().run(self.job.folder, todo, write)
        return BatchReport(len(batch.tasks) - failed, failed, time.monotonic() - start)

    def close(self, phase: Phase) -> None:
        """End a phase: note how it went, and stop the run if the next phases have nothing to stand on."""
        failed = [receipt for receipt in self.ledger.of(phase.name).values() if not receipt.done]
        record(self.folder, "phase-end", phase=phase.name, failed=len(failed))
        if phase.name == "prepare":
            for stage in ("statistics", "index"):
                for receipt in self.ledger.of(stage).values():
                    if not receipt.done:
                        raise StoreError(f"{self.folder}: {stage} failed: {receipt.reason}; fix it and run again")

    def finish(self) -> Outcome:
        """Certificate, report and metadata; exit status 3 if anything failed."""
        from pipeline.closing import close_run

        figures = close_run(self.job, self.ledger, self.phases, time.monotonic() - self.began)
        status = 0 if figures["complete"] else 3
        record(self.folder, "end", exit_status=status, seconds=round(time.monotonic() - self.began, 1))
        return Outcome(status, figures, self.folder)

    def workers(self) -> Workers:
        """The workers, started now if they are not running yet."""
        if self._workers is None:
            if self.settings.scheduler:
                self._workers = self._stack.enter_context(existing_cluster(self.settings.scheduler))
            elif self.in_process:
                self._workers = InProcess()
            else:
                kernels.warm()  # once here, not at the same time in every worker
                scratch = self.job.work / "dask"
                threads = 2 if self.job.device == "cuda" else 1
                count = self.settings.workers or default_workers(self.job.device)
                self._workers = self._stack.enter_context(local_cluster(count, scratch, threads))
        return self._workers

    def _done(self, task: Task) -> bool:
        return not any(tasks.due([task], self.ledger))


def default_workers(device: str) -> int:
    """One worker a core, or one a GPU."""
    if device == "cuda":
        import torch

        return max(1, torch.cuda.device_count())
    return max(1, len(os.sched_getaffinity(0)))


def survey(settings: Settings, *, progress: Progress | None = None) -> Outcome:
    """Run every phase without an orchestrator: `--direct`, scripts, benchmarks.

    One worker runs in this process; more run on a local Dask cluster.
    """
    with Survey(settings, in_process=settings.workers == 1 and not settings.scheduler, progress=progress) as run:
        for phase in run.phases:
            for batch in run.batches(phase):
                run.execute(batch)
            run.close(phase)
        return run.finish()
