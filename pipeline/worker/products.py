"""Product tasks: each deliverable from the run's state, written whole or not at all."""

from __future__ import annotations

import hashlib
from typing import Any

from pipeline.certificate import sha256_of
from pipeline.job import Job
from pipeline.worker import layers, rasters
from pipeline.worker.entry import Row, row

PRODUCTS = {
    "cadaster_aligned": layers.cadaster_aligned,
    "buildings": layers.buildings,
    "changes": layers.changes,
    "classes": rasters.classes,
    "displacement": rasters.displacement,
}
"""Each writes its files into the run's folder and returns their paths and a few figures."""


def export(job: Job, stage: str, key: str, payload: dict[str, Any]) -> list[Row]:
    """Write one product; the receipt carries the sha256 and size of every file of it."""
    paths, figures = PRODUCTS[key](job, payload)
    files = {path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in paths}
    digest = hashlib.sha256(repr(sorted((name, said["sha256"]) for name, said in files.items())).encode())
    return [row(stage, key, "ok", digest.hexdigest(), files=files, **figures)]


conflate = export
"""The comparison is a product like the others; it only has to come after two of them."""
