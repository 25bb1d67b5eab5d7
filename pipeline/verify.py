"""Checks a finished run's folder against its certificate: what the run says it wrote is what lies there.

Trusts nothing but `certificate.json`, and that only as far as the receipts agree with it. A damaged
folder gives problems, never a traceback.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.certificate import MISSING, NAME, sha256_of
from pipeline.ledger import DONE

_LISTED = 20  # tiles named one by one; more are counted


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check found: `complete` only if nothing is wrong; `problems` one line each; `checked` figures."""

    complete: bool
    problems: tuple[str, ...]
    checked: dict[str, int]


def verify(folder: Path) -> Verification:
    """Re-hash and re-read every deliverable in `folder` (a run's DIR) and say what is wrong.

    Checks: the certificate is readable, consistent and says complete; every tile that its grids expect has
    a verdict, none failed, and the ledger agrees; every output has its size and sha256; row counts agree
    with the certificate and the input; building ids are unique; geometries and rasters can be read.
    """
    folder = Path(folder)
    checked: Counter[str] = Counter()
    try:
        certificate = json.loads((folder / NAME).read_text(encoding="utf-8"))
        outputs = dict(certificate["outputs"])
        stages = dict(certificate["stages"])
    except FileNotFoundError:
        why = "not finished: run again" if (folder / "work").is_dir() else "not a run's folder"
        return Verification(False, (f"{folder / NAME}: missing; {why}",), {})
    except Exception as error:  # whatever the damage, it is a finding
        return Verification(False, (f"{folder / NAME}: damaged ({error}); run again to write it anew",), {})
    problems: list[str] = []
    if certificate.get("complete") is not True:
        problems.append(f"{folder / NAME}: the run itself says that it is not complete")
    checks: list[tuple[str, Callable[[], Iterator[str]]]] = [
        *((f"stage {name}", partial(_stage, name, stage, checked)) for name, stage in stages.items()),
        ("receipts", partial(_receipts, folder, stages)),
        *((str(folder / name), partial(_output, folder / name, facts, checked)) for name, facts in outputs.items()),
        ("rows", partial(_rows, folder, certificate)),
    ]
    for what, check in checks:
        try:
            problems.extend(check())
        except Exception as error:  # as above: never a traceback
            problems.append(f"{what}: cannot be checked ({type(error).__name__}: {error})")
    return Verification(not problems, tuple(" ".join(line.split()) for line in problems), dict(checked))


def _stage(name: str, stage: dict[str, Any], checked: Counter[str]) -> Iterator[str]:
    """Every key of the stage's grid has a verdict, and each verdict is one that needs no more work."""
    verdicts: dict[str, str] = stage["verdicts"]
    checked["verdicts"] += len(verdicts)
    wanted = set()
    if grid := stage.get("grid"):
        wanted = {f"r{r:04d}c{c:04d}" for r in range(grid["rows"]) for c in range(grid["columns"])}
    without = sorted(wanted - set(verdicts)) + [key for key, verdict in verdicts.items() if verdict == MISSING]
    failed = [key for key, verdict in verdicts.items() if verdict not in (*DONE, MISSING)]
    for keys, what in ((without, "has no verdict"), (failed, "failed")):
        for key in keys[:_LISTED]:
            reason = stage.get("reasons", {}).get(key, "")
            yield f"stage {name}: tile {key} {what}" + (f" ({reason})" if reason else "") + "; run again"
        if len(keys) > _LISTED:
            yield f"stage {name}: {len(keys) - _LISTED} more tiles: {what}"
    if stage["expected"] != len(verdicts):
        yield f"stage {name}: {stage['expected']} verdicts expected, {len(verdicts)} found"


def _receipts(folder: Path, stages: dict[str, Any]) -> Iterator[str]:
    """The ledger, where it is still there, has not moved on since the certificate was written."""
    path = folder / "work" / "ledger.jsonl"
    if not path.is_file():
        return
    from pipeline.ledger import read_receipts

    newest = {(receipt.stage, receipt.key): receipt.status for receipt in read_receipts(path)}
    differing = [
        f"{name}/{key}"
        for name, stage in stages.items()
        for key, verdict in stage["verdicts"].items()
        if newest.get((name, key), MISSING) != verdict
    ]
    if differing:
        yield (
            f"{path}: {len(differing)} receipts differ from the certificate ({', '.join(differing[:3])}); "
            "the run went on or was interrupted since: run again"
        )


def _output(path: Path, facts: dict[str, Any], checked: Counter[str]) -> Iterator[str]:
    """A deliverable is there, has its hash, and can be read."""
    if "sha256" not in facts:
        yield f"{path}: was already missing when the run ended; run again"
        return
    if not path.is_file():
        yield f"{path}: missing; run again"
        return
    checked["files"] += 1
    if path.stat().st_size != facts["bytes"] or sha256_of(path) != facts["sha256"]:
        yield f"{path}: differs from what the run wrote (size or sha256); run again"
    if path.suffix == ".parquet":
        yield from _parquet(path, facts, checked)
    elif path.suffix == ".tif":
        yield from _raster(path, checked)
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))


def _parquet(path: Path, facts: dict[str, Any], checked: Counter[str]) -> Iterator[str]:
    import pyarrow.parquet as pq
    import shapely

    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows != facts["rows"]:
            yield f"{path}: has {file.metadata.num_rows} rows, the certificate says {facts['rows']}"
        names = file.schema_arrow.names
        geometry = json.loads(file.metadata.metadata[b"geo"])["primary_column"]
        columns = [geometry, *({"status", "building_id"} & set(names))]
        ids: list[np.ndarray] = []
        unreadable = 0
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns)
            wkb = table.column(geometry).to_numpy()
            parsed = shapely.from_wkb(wkb, on_invalid="ignore")
            bad = np.array([value is not None for value in wkb], bool) & shapely.is_missing(parsed)
            if "status" in names:  # an input row that could not be read comes back as it was, and says so
                bad &= table.column("status").to_numpy(zero_copy_only=False) != "invalid"
            unreadable += int(bad.sum())
            checked["geometries"] += len(wkb)
            if path.name == "buildings.parquet" and "building_id" in names:
                ids.append(table.column("building_id").to_numpy())
    if unreadable:
        yield f"{path}: {unreadable} geometries cannot be read"
    if ids:
        every = np.concatenate(ids)
        doubled = len(every) - len(np.unique(every))
        if doubled:
            yield f"{path}: {doubled} rows repeat a building_id"


def _raster(path: Path, checked: Counter[str]) -> Iterator[str]:
    import rasterio

    with rasterio.open(path) as layer:
        if layer.crs is None:
            yield f"{path}: has no CRS"
        layer.read(1, out_shape=(min(layer.height, 64), min(layer.width, 64)))
    checked["rasters"] += 1


def _rows(folder: Path, certificate: dict[str, Any]) -> Iterator[str]:
    """Every input row came back: counts in the certificate, and the input's own count in run.json."""
    wanted = dict(certificate.get("rows", {}))
    run = folder / "run.json"
    if not run.is_file():
        yield f"{run}: missing; run again"
    elif (rows := json.loads(run.read_text(encoding="utf-8")).get("cadaster_rows")) is not None:
        wanted["cadaster_aligned.parquet"] = rows
    for name, count in wanted.items():
        found = certificate["outputs"].get(name, {}).get("rows")
        if found != count:
            yield f"{folder / name}: has {found} rows, {count} expected; run again"
