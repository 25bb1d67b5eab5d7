"""Two runs in, heights out: reads both aligned cadasters, solves, and writes every input row in input order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import heights_line
from pipeline.errors import InputError, SettingsError
from pipeline.export.vectors import free_names, write_geoparquet
from pipeline.heights import LEAST_BASE, View, check_views, sigma_of, solve, spread_of
from pipeline.polygons import Cadaster, read_cadaster, transformer
from pipeline.scene import open_scene

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]

OURS = ("height_m", "height_sigma_m", "residual_m", "dx_m", "dy_m", "status", "reason")
GOOD = ("moved", "unmoved")


def survey_heights(
    runs: tuple[Path, Path], views: tuple[View, View], out: Path,
    *, least: float = LEAST_BASE, tallest: float = 60.0, by_field: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Write heights of every row of the cadaster that both `runs` aligned; returns figures.

    Columns beside the input's: `height_m`, `height_sigma_m`, `residual_m` (what the two shifts differ by across the
    parallax), `dx_m`, `dy_m` (the footprint's correction; the geometry is moved by it), `status` (`ok`, `unmoved`: a
    run left the row, its height stands; `missing`: no height) and `reason`. `by_field`: from the shifts alone.
    Errors: InputError for a folder that is no run or for another cadaster, SettingsError for views.
    """
    import pyarrow as pa

    from pipeline.kernels import wkb

    check_views(*views, least)
    if not 0 < tallest <= 1000:
        raise SettingsError(f"--tallest {tallest:g}: a height of up to 1000 m")
    said = [_described(run) for run in runs]
    cadaster = _cadaster(runs, said)
    tables = [_aligned(run, len(cadaster)) for run in runs]
    reasons = [_reasons(table, name) for table, name in zip(tables, "AB", strict=True)]
    good = np.array([not (a or b) for a, b in zip(*reasons, strict=True)], bool)
    moved = [np.array([s == "moved" for s in table["status"].to_pylist()], bool) for table in tables]
    shifts = [np.column_stack([_numbers(table, "dx_m"), _numbers(table, "dy_m")]) for table in tables]
    sigmas = [
        sigma_of(_numbers(table, "confidence"), went, float(each["image"]["gsd_m"]))
        for table, went, each in zip(tables, moved, said, strict=True)
    ]
    solved = solve(shifts[0], shifts[1], sigmas[0], sigmas[1], *views)
    spread = spread_of(solved.residual[good], sigmas[0][good], sigmas[1][good])
    height, sigma, error = solved.height.copy(), solved.sigma * spread, solved.error.copy()

    buffer, offsets = cadaster.buffer()
    position, owner, ring_offsets, ring_row, _, _ = wkb.walk(buffer, offsets)
    xy = wkb.read_xy(buffer, position)
    if not by_field and good.any():
        middle = np.median(solved.error[good], axis=0)
        scenes = [open_scene(run / "work" / "scene.zarr") for run in runs]
        sights = (heights_line.sight(scenes[0], views[0].parallax), heights_line.sight(scenes[1], views[1].parallax))
        lines = heights_line.outlines(xy, cadaster.crs, ring_offsets, ring_row, good, sights)
        height[:], sigma[:] = np.nan, np.nan
        if len(lines.rows):
            start = np.tile(middle, (len(lines.rows), 1))
            error[lines.rows] = heights_line.ground(lines, start, sights, tallest)
            height[lines.rows], sigma[lines.rows] = heights_line.measure(lines, error[lines.rows], sights, tallest)
    good_height = good & np.isfinite(height)
    status = np.where(good_height, np.where(moved[0] & moved[1], "ok", "unmoved"), "missing")
    reason = [_reason(a, b, bool(ok)) for a, b, ok in zip(*reasons, good_height, strict=True)]

    none = ~good_height
    values = {"height_m": height, "height_sigma_m": sigma, "residual_m": np.abs(solved.residual)}
    values |= {"dx_m": error[:, 0], "dy_m": error[:, 1]}
    renamed = free_names(cadaster.table.column_names, OURS)
    table = cadaster.table.rename_columns([renamed.get(name, name) for name in cadaster.table.column_names])
    for name, column in values.items():
        table = table.append_column(name, pa.array(column, mask=none))
    table = table.append_column("status", pa.array(status.tolist(), pa.string()))
    table = table.append_column("reason", pa.array(reason, pa.string()))
    step = np.where(none[:, None], 0.0, error)[owner]
    wkb_moved = _moved(cadaster, position, xy, step, said[0])
    name = free_names([cadaster.geometry_name], table.column_names).get(cadaster.geometry_name, cadaster.geometry_name)
    write_geoparquet(out, table.append_column(name, wkb_moved), cadaster.crs, geometry=name)
    return {
        "rows": len(cadaster),
        "heights": int(good_height.sum()),
        "by_status": {each: int((status == each).sum()) for each in ("ok", "unmoved", "missing")},
        "base": round(float(np.hypot(*(views[0].parallax - views[1].parallax))), 4),
        "median_height_m": _rounded(np.median(height[good_height])) if good_height.any() else None,
        "median_sigma_m": _rounded(np.median(sigma[good_height])) if good_height.any() else None,
        "median_residual_m": _rounded(np.median(np.abs(solved.residual[good]))) if good.any() else None,
        "method": "field" if by_field else "line",
        "file": str(out),
    }


def _rounded(value: Any) -> float:
    return round(float(value), 3)


def _described(run: Path) -> dict[str, Any]:
    """A run's `run.json`."""
    path = run / "run.json"
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); name the --out of a finished run") from None
    if not said.get("cadaster") or "align" not in said["stages"]:
        raise InputError(f"{run}: aligned no cadaster; run it with --cadaster and the stage align")
    if said["settings"].get("sort"):
        raise InputError(f"{run}: is sorted, its rows are not the cadaster's; run it without --sort")
    return said


def _cadaster(runs: tuple[Path, Path], said: list[dict[str, Any]]) -> Cadaster:
    """The cadaster that both runs aligned, as it came."""
    if said[0]["cadaster_content"] != said[1]["cadaster_content"]:
        raise InputError(f"{runs[1]}: aligned another cadaster than {runs[0]}; run both on the same one")
    settings = said[0]["settings"]
    cadaster = read_cadaster(settings["cadaster"], settings["cadaster_layer"], settings["cadaster_crs"])
    if cadaster.source_id != said[0]["cadaster_content"]:
        raise InputError(f"{cadaster.path}: has changed since {runs[0]} aligned it; run both again")
    return cadaster


def _aligned(run: Path, count: int) -> pa.Table:
    path = run / "cadaster_aligned.parquet"
    table = read_cadaster(path).table
    if len(table) != count:
        raise InputError(f"{path}: has {len(table)} rows and its cadaster {count}; run it again")
    return table


def _reasons(table: pa.Table, name: str) -> list[str]:
    """Why each row has no height, as far as one run knows; empty where it may have one."""
    pairs = zip(table["status"].to_pylist(), table["review"].to_pylist(), strict=True)
    return [f"{status} in {name}" if status not in GOOD else f"review in {name}" * bool(r) for status, r in pairs]


def _reason(a: str, b: str, has_height: bool) -> str | None:
    if has_height:
        return None
    return "; ".join(each for each in (a, b) if each) or "no outline that both images show"


def _numbers(table: pa.Table, name: str) -> Floats:
    return np.array(table[name].to_numpy(), dtype=np.float64)


def _moved(
    cadaster: Cadaster, position: NDArray[np.int64], xy: Floats, step: Floats, said: dict[str, Any]
) -> pa.LargeBinaryArray:
    """The cadaster's WKB with each vertex moved by `step` (n, 2) metres; rows that stay are the same to the byte."""
    import pyarrow as pa

    from pipeline.kernels import wkb

    crs, (a, _, _, _, e, _), gsd = said["working_crs"], said["transform"], float(said["image"]["gsd_m"])
    there, back = transformer(cadaster.crs, crs), transformer(crs, cadaster.crs)
    goes = np.flatnonzero((step != 0).any(axis=1))
    delta = step[goes] * (a / gsd, -e / gsd)
    if there is not None and back is not None:
        working = there(xy[goes])
        delta = back(working + delta) - back(working)
    buffer, offsets = cadaster.buffer()
    data = buffer.copy()
    wkb.write_xy(data, position[goes], xy[goes] + delta)
    rows = [None if null else data[start:stop].tobytes() for null, start, stop in
            zip(cadaster.wkb.is_null().to_pylist(), offsets[:-1], offsets[1:], strict=True)]  # fmt: skip
    return pa.array(rows, pa.large_binary())
