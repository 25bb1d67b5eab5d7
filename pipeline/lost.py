"""What a receipt says is there and is not, or not as it was: such tasks are due again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.certificate import sha256_of
from pipeline.job import Job
from pipeline.ledger import Ledger, Receipt
from pipeline.stages import common
from pipeline.worker.placed import common_path, moved_path, ratings_path, verdicts_path
from pipeline.worker.split import part_path


def lost_files(job: Job, ledger: Ledger) -> list[Receipt]:
    """Failed receipts for products that were removed or altered since, and for parts that are gone."""
    lost = []
    for stage in ("export", "conflate"):
        for receipt in ledger.of(stage).values():
            files = receipt.extra.get("files", {})
            names = [name for name, said in files.items() if not _same(Path(job.folder) / name, said["sha256"])]
            if receipt.done and names:
                lost.append(replace(receipt, status="failed", reason=f"{', '.join(names)}: removed or altered since"))
    for stage in ("split", "split-large"):
        for receipt in ledger.of(stage).values():
            if receipt.done and not part_path(job, stage, receipt.key).exists():
                lost.append(replace(receipt, status="failed", reason="its part file is gone"))
    for stage, path in _tables(job):
        for receipt in ledger.of(stage).values():
            file = path(receipt.key)
            if receipt.done and not (file.is_file() and file.stat().st_size):
                lost.append(replace(receipt, status="failed", reason="its table is gone"))
    return lost


def _tables(job: Job) -> list[tuple[str, Callable[[str], Path]]]:
    """The alignment's phases that write a table a task, and where."""
    if not job.align_line:
        return []
    moves = [(f"{step.name}-move", partial(moved_path, job, step)) for step in job.align_line]
    return [
        (common.PHASE, lambda key: common_path(job)),
        *moves,
        (job.align_line[-1].source, partial(verdicts_path, job)),
        *([(job.align_line[-1].source, partial(ratings_path, job))] if job.seat else []),
    ]


def _same(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256
