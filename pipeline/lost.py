"""What a receipt says is there and is not, or not as it was: such tasks are due again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.certificate import sha256_of
from pipeline.job import Job
from pipeline.ledger import Ledger, Receipt
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
    return lost


def _same(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256
