"""The certificate of completeness: one verdict for every tile of every stage, and the hash of every output.

Built from receipts alone, so it can say no more than what was proven; and without any time in it, so two
runs that did the same have the same certificate.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.grid import TileGrid
from pipeline.ledger import DONE, Receipt

NAME = "certificate.json"
VERSION = 1
MISSING = "missing"
"""Verdict of a tile that should have a receipt and has none; it counts as failed."""


def build(
    *,
    expected: Mapping[str, Iterable[str]],
    receipts: Iterable[Receipt],
    outputs: Mapping[str, Path],
    rows: Mapping[str, int] | None = None,
    grids: Mapping[str, TileGrid] | None = None,
    alignment: Mapping[str, Any] | None = None,
    buildings: Mapping[str, Any] | None = None,
    seams: Mapping[str, Any] | None = None,
    borders: Mapping[str, Any] | None = None,
    identity: Mapping[str, Any] | None = None,
    notes: Iterable[str] = (),
) -> dict[str, Any]:
    """The certificate as a plain mapping.

    `expected`: stage → the keys that should have a verdict; receipts of anything else are left out.
    `outputs`: file name → path of each deliverable (hashed here, in chunks). `rows`: what the row counts
    must be, e.g. {"cadaster_aligned.parquet": rows of the input}. `grids`: the grid of the stages whose
    keys are its tiles, so that a reader can draw them. `alignment`, `buildings`, `seams`, `borders`: figures as
    stages gave them.
    `complete` says that every verdict is ok, empty or nodata, that every output is there, and that rows agree.
    """
    newest = {(receipt.stage, receipt.key): receipt for receipt in receipts}
    stages = {}
    for name, keys in expected.items():
        found = {key: newest.get((name, key)) for key in sorted(set(keys))}
        stages[name] = _stage(found, (grids or {}).get(name))
    files = {name: facts_of(path) for name, path in sorted(outputs.items())}
    counts = Counter[str]()
    for stage in stages.values():
        counts.update(stage["counts"])
    bad = [name for name, wanted in (rows or {}).items() if files.get(name, {}).get("rows") != wanted]
    complete = set(counts) <= set(DONE) and all("sha256" in file for file in files.values()) and not bad
    return {
        "certificate": VERSION,
        "complete": complete,
        "counts": dict(sorted(counts.items())),
        "identity": dict(identity or {}),
        "notes": list(notes),
        "rows": dict(rows or {}),
        "outputs": files,
        "alignment": dict(alignment or {}),
        "buildings": dict(buildings or {}),
        "seams": dict(seams or {}),
        "window_border": dict(borders or {}),
        "stages": stages,
    }


def write(folder: Path, certificate: Mapping[str, Any]) -> Path:
    """Write `certificate.json` into a run's folder, whole or not at all."""
    path = Path(folder) / NAME
    draft = path.with_name(f".{NAME}.part")
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(certificate, file, indent=1, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}); free space and rerun") from error
    return path


def sha256_of(path: Path) -> str:
    """sha256 of a file in hexadecimal, read in chunks of 4 MiB. OSError if it cannot be read."""
    state = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 22):
            state.update(chunk)
    return state.hexdigest()


def _stage(found: Mapping[str, Receipt | None], grid: TileGrid | None) -> dict[str, Any]:
    """A stage's verdicts by key, their counts, the reasons of what failed, and one digest of all."""
    verdicts = {key: MISSING if receipt is None else receipt.status for key, receipt in found.items()}
    reasons = {
        key: "no receipt: the task never ended" if receipt is None else receipt.reason
        for key, receipt in found.items()
        if receipt is None or receipt.reason
    }
    state = hashlib.sha256()
    for key, receipt in found.items():
        state.update(f"{key} {verdicts[key]} {receipt.digest if receipt else ''}\n".encode())
    stage: dict[str, Any] = {
        "expected": len(found),
        "counts": dict(sorted(Counter(verdicts.values()).items())),
        "digest": state.hexdigest(),
    }
    if grid is not None:
        stage["grid"] = {
            "rows": grid.rows,
            "columns": grid.columns,
            "core": grid.core,
            "halo": grid.halo,
            "level": grid.level,
        }
    return stage | {"reasons": reasons, "verdicts": verdicts}


def facts_of(path: Path) -> dict[str, Any]:
    """Size, sha256 and, for Parquet, rows of a deliverable; `missing` with the reason if it cannot be read."""
    path = Path(path)
    try:
        entry: dict[str, Any] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            entry["rows"] = pq.read_metadata(path).num_rows
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        return {"missing": str(error)}
    return entry
