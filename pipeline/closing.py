"""The end of a run: what was done is certified, described and shown. Runs again at every resumption."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline import certificate, tasks
from pipeline.grid import TileGrid
from pipeline.job import Job, write_json
from pipeline.job_stages import grid_of
from pipeline.ledger import Ledger, Receipt
from pipeline.report.fill import phase_seconds, report_data
from pipeline.report.page import write_report
from pipeline.stage import Phase
from pipeline.stages import common

PACKAGES = (
    "resurvey", "torch", "numpy", "numba", "zarr", "rasterio", "pyproj", "shapely", "pyarrow", "dask", "prefect",
)  # fmt: skip
STYLED = ("cadaster_aligned", "buildings", "changes", "classes", "displacement")


def close_run(job: Job, ledger: Ledger, phases: Sequence[Phase], seconds: float) -> dict[str, Any]:
    """Write run.json, styles, certificate.json, item.json and report.html; return the run's figures."""
    folder = Path(job.folder)
    expected = expected_keys(job, ledger, phases)
    receipts = [r for name in expected for key in expected[name] if (r := ledger.get(name, key)) is not None]
    written = [name for r in receipts for name in r.extra.get("files", {})]
    describe(job, ledger, folder)
    copy_styles(folder, written)

    from pipeline.scene import open_scene

    certified = certificate.build(
        expected=expected,
        receipts=receipts,
        outputs={name: folder / name for name in [*written, "run.json"]},
        rows=rows_of(job, ledger),
        grids={name: grid for name in expected if (grid := tile_grid(job, name)) is not None},
        alignment=alignment_figures(job, receipts),
        buildings=building_figures(receipts),
        seams=seam_figures(receipts),
        borders={r.key: r.extra for r in receipts if r.stage == "border"},
        identity={"content": ledger.digest("ingest"), "weights": job.weights, "settings": job.identity},
        notes=job.notes,
    )
    certificate.write(folder, certified)
    data = report_data(job, receipts, certified, open_scene(job.work / "scene.zarr"), seconds)
    write_report(folder / "report.html", data)
    write_item(job, folder, certified, written)
    return figures_of(folder, certified, receipts, seconds)


def expected_keys(job: Job, ledger: Ledger, phases: Sequence[Phase]) -> dict[str, list[str]]:
    """Every stage of the run and the keys that should have a verdict."""
    expected: dict[str, list[str]] = {}
    for phase in phases:
        for task in tasks.expected(job, phase.name, ledger):
            for name in task.payload.get("fingerprints", {task.stage: ""}):
                expected.setdefault(name, []).append(task.key)
    return expected


def tile_grid(job: Job, stage: str) -> TileGrid | None:
    """The grid of stages whose every tile has a verdict; blocks without polygons have none to move."""
    return None if stage.endswith(("-move", "-check")) else grid_of(job, stage)


def describe(job: Job, ledger: Ledger, folder: Path) -> None:
    """`run.json`: the exact settings, inputs, models and versions."""
    index = ledger.get("index", "cadaster")
    write_json(
        folder / "run.json",
        {
            "settings": job.identity,
            "stages": job.stages,
            "image": {"path": job.image, "content": job.source, "shape": job.shape, "gsd_m": job.gsd},
            "working_crs": job.crs,
            "transform": job.transform,
            "cadaster": job.cadaster,
            "cadaster_content": job.cadaster_source,
            "cadaster_rows": index.extra.get("rows") if index is not None and "align" in job.stages else None,
            "models": {task: {"name": job.cards[task], "sha256": job.weights[task]} for task in job.cards},
            "levels": job.levels,
            "searches": job.searches,
            "steps": job.steps,
            "device": job.device,
            "versions": {"python": platform.python_version(), **versions()},
            "notes": job.notes,
        },
    )


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def copy_styles(folder: Path, written: Sequence[str]) -> None:
    """Put a QGIS style beside each layer that was written."""
    import catalogs

    styles = Path(catalogs.__file__).parent / "styles"
    for name in STYLED:
        style = styles / f"{name}.qml"
        if style.exists() and any(Path(layer).stem == name for layer in written):
            shutil.copyfile(style, folder / style.name)


def rows_of(job: Job, ledger: Ledger) -> dict[str, int]:
    """What row counts must be: every input row comes back."""
    if "align" not in job.stages:
        return {}
    index, aligned = ledger.get("index", "cadaster"), ledger.get("export", "cadaster_aligned")
    if index is None or aligned is None:
        return {}
    return {"cadaster_aligned.parquet": int(index.extra["rows"])}


def alignment_figures(job: Job, receipts: Sequence[Receipt]) -> dict[str, float | int]:
    """What the whole cadaster had in common (metres, east and north), the rows that stayed because nothing made
    them sure, those that went onto their own roofs beyond the field, and the cells of the field that are folded over,
    which must be none; empty without alignment."""
    found = {receipt.stage: receipt.extra for receipt in receipts if receipt.stage == common.PHASE}
    if not found:
        return {}
    shift = found[common.PHASE]
    export = {receipt.key: receipt.extra for receipt in receipts if receipt.stage == "export"}
    return {
        "common_shift_east_m": round(float(shift.get("dx", 0.0)) * job.gsd, 3),
        "common_shift_north_m": round(-float(shift.get("dy", 0.0)) * job.gsd, 3),
        "rows_that_abstained": int(export.get("cadaster_aligned", {}).get("abstained", 0)),
        "rows_seated": int(export.get("cadaster_aligned", {}).get("seated", 0)),
        "folded_cells": sum(int(r.extra.get("folded", 0)) for r in receipts if r.stage == "displacement"),
    }


def building_figures(receipts: Sequence[Receipt]) -> dict[str, Any]:
    """How many buildings were published, and how many were left out by which bounds."""
    extra = next((r.extra for r in receipts if (r.stage, r.key) == ("export", "buildings")), {})
    return {name: extra[name] for name in ("rows", "left_out", "min_area_m2", "min_score") if name in extra}


def seam_figures(receipts: Sequence[Receipt]) -> dict[str, int]:
    """How many components crossed tiles, how many no tile saw whole, and what fixed windows merged."""
    split = [receipt for receipt in receipts if receipt.stage == "split"]
    large = [receipt for receipt in receipts if receipt.stage == "split-large"]
    return {
        "pieces_crossing_tiles": sum(int(r.extra.get("crossing", 0)) for r in split),
        "components_larger_than_a_tile_sees": len(large),
        "seams_decided": sum(int(r.extra.get("seams", 0)) for r in large),
        "seams_merged": sum(int(r.extra.get("merged", 0)) for r in large),
    }


def write_item(job: Job, folder: Path, certified: dict[str, Any], written: Sequence[str]) -> None:
    """`item.json`: the run as a STAC item."""
    from datetime import UTC, datetime

    from catalogs import stac
    from pipeline.scene import open_scene
    from pipeline.worker.rasters import CLASSES, COLOURS

    began = datetime.fromtimestamp((job.work / "lock").stat().st_ctime, UTC)
    outputs = {name: certified["outputs"][name] for name in [*written, "run.json"] if name in certified["outputs"]}
    extra = ["certificate.json", "report.html", "events.jsonl", *(path.name for path in sorted(folder.glob("*.qml")))]
    item = stac.run_item(
        id=folder.name,
        crs=job.crs,
        transform=job.transform,
        shape=job.shape,
        gsd=job.gsd,
        created=began.isoformat(timespec="seconds"),
        outputs=outputs | {name: {} for name in extra},
        image_date=open_scene(job.work / "scene.zarr").image_date,
        classes=CLASSES,
        colours=COLOURS,
        software=versions(),
        models=sorted(set(job.cards.values())),
        properties={"resurvey:complete": certified["complete"]},
    )
    stac.write_item(folder, item)


def figures_of(
    folder: Path, certified: dict[str, Any], receipts: Sequence[Receipt], seconds: float
) -> dict[str, Any]:
    """What a run says of itself on the last lines: verdicts, rows, seconds and memory."""
    export = {receipt.key: receipt.extra for receipt in receipts if receipt.stage in ("export", "conflate")}
    worked: dict[str, float] = {}
    for receipt in receipts:
        worked[receipt.stage] = worked.get(receipt.stage, 0.0) + receipt.seconds
    return {
        "complete": certified["complete"],
        "verdicts": certified["counts"],
        "status": export.get("cadaster_aligned", {}).get("rows_by_status", {}),
        "alignment": certified["alignment"],
        "buildings": certified["buildings"].get("rows"),
        "buildings_left_out": certified["buildings"].get("left_out"),
        "changes": export.get("changes", {}).get("changes", {}),
        "seconds": round(seconds, 1),
        "phase_seconds": phase_seconds(folder),
        "worker_seconds": {name: round(value, 1) for name, value in worked.items()},
        "peak_worker_mb": max((receipt.peak_rss_mb for receipt in receipts), default=0.0),
        "window_border": {name: said.get("difference") for name, said in certified["window_border"].items()},
        "failed": [f"{r.stage}/{r.key}: {r.reason}" for r in receipts if not r.done],
    }
