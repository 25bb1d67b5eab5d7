"""What a worker does with one task: a run's folder, a stage and a key in, receipts out.

Only names and small plain values cross the wire; image, polygons and weights are read here. A failure
is caught here too and becomes the receipt's reason, so that one bad tile stays one bad tile.
"""

from __future__ import annotations

import gc
import time
import traceback
from importlib import import_module
from typing import Any

from pipeline.errors import ResurveyError
from pipeline.job import read_job

Row = dict[str, Any]

HANDLERS = {
    "ingest": ("pipeline.worker.scene", "ingest"),
    "statistics": ("pipeline.worker.scene", "statistics"),
    "index": ("pipeline.worker.scene", "index"),
    "displacement": ("pipeline.worker.align", "displacement"),
    "classify": ("pipeline.worker.scores", "classify"),
    "mask": ("pipeline.worker.scores", "mask"),
    "border": ("pipeline.worker.border", "border"),
    "split": ("pipeline.worker.split", "split"),
    "split-large": ("pipeline.worker.split", "split_large"),
    "export": ("pipeline.worker.products", "export"),
    "conflate": ("pipeline.worker.products", "conflate"),
}
"""Which function does a stage's tasks."""

ALIGNMENT = {
    "common": "pipeline.worker.search",
    "search": "pipeline.worker.search",
    "check": "pipeline.worker.search",
    "roads": "pipeline.worker.roads",
    "field": "pipeline.worker.align",
    "move": "pipeline.worker.align",
}
"""Where the function lies that does an alignment's phase; it is named as the phase ends."""


def run_task(folder: str, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Do one task and return its receipts' fields; never raises for what is wrong with the tile.

    `seconds` is the task's own time, `peak_rss_mb` the most memory this process has ever held.
    """
    start = time.perf_counter()
    try:
        job = read_job(folder)
        rows = _handler(stage)(job, stage, key, payload)
    except Exception as error:
        names = payload.get("stages", [stage])
        rows = [{"stage": name, "key": key, "status": "failed", "reason": reason_of(error)} for name in names]
    seconds, peak = time.perf_counter() - start, peak_rss_mb()
    gc.collect(0)
    return [{"seconds": round(seconds, 4), "peak_rss_mb": round(peak, 1), **row} for row in rows]


def reason_of(error: BaseException) -> str:
    """One line for a receipt: a user's error as it is, any other with its type and place."""
    if isinstance(error, ResurveyError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" at {last[0].filename.rsplit('/', 1)[-1]}:{last[0].lineno}" if last else ""
    return f"{type(error).__name__}: {error}{place}".replace("\n", " ")[:500]


def peak_rss_mb() -> float:
    """The most resident memory this process has held, MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _handler(stage: str) -> Any:
    ending = stage.rsplit("-", 1)[1] if stage.startswith("align-") else ""
    if ending in ALIGNMENT:
        return getattr(import_module(ALIGNMENT[ending]), ending)
    module, name = HANDLERS[stage]
    return getattr(import_module(module), name)


def row(stage: str, key: str, status: str, digest: str = "", **extra: Any) -> Row:
    """A receipt's fields as a handler gives them."""
    return {"stage": stage, "key": key, "status": status, "digest": digest, "extra": extra}
