"""Cost against scene size: the split line on cities of 25, 100 and 400 Mpx, tile by tile, through to GeoParquet.

    python -m benchmarks.scaling [--sides 5000 10000 20000] [--rounds 1] [--clock wall|cpu]
                                 [--work DIR] [--json FILE] [--docs docs/kernels.md]

Each scene is planted and run in a process of its own (`benchmarks.planted`). Bounds: the log-log slope of time within
1.00 ± 0.05, of RssAnon at most 0.3 byte a pixel; exit 1 if one is missed. A larger scene has fewer of its tiles at an
edge, beyond which there is no halo to read: that alone makes the slope of pixels read 1.04 between 25 and 400 Mpx,
and so the table has the slope against pixels read beside the slope against pixels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planted import TILE, measured
from benchmarks.timing import machine, put
from pipeline.grid import TileGrid
from pipeline.stages.split import HALO

SLOPE = 0.05
BYTES = 0.3


def pixels_read(side: int) -> int:
    """Pixels that the tiles of a scene read, halos included."""
    grid = TileGrid((side, side), TILE, HALO)
    return sum(tile.read.clip(grid.shape).area for tile in grid)


def best(rounds: list[dict[str, Any]], clock: str) -> dict[str, Any]:
    """The median round by time, with the most memory of any."""
    rounds = sorted(rounds, key=lambda row: row["seconds"]["all"][clock])
    middle = dict(rounds[(len(rounds) - 1) // 2])
    middle["grown_bytes"] = max(row["grown_bytes"] for row in rounds)
    return middle


def slopes(rows: list[dict[str, Any]], clock: str) -> dict[str, float]:
    """Log-log slopes of time against pixels and pixels read, and the slope of memory in bytes a pixel."""
    pixels = np.array([row["pixels"] for row in rows], np.float64)
    read = np.array([pixels_read(row["side"]) for row in rows], np.float64)
    seconds = np.array([row["seconds"]["all"][clock] for row in rows])
    grown = np.array([row["grown_bytes"] for row in rows], np.float64)
    return {
        "time": float(np.polyfit(np.log(pixels), np.log(seconds), 1)[0]),
        "time_of_read": float(np.polyfit(np.log(read), np.log(seconds), 1)[0]),
        "bytes": float(np.polyfit(pixels, grown, 1)[0]),
    }


def bounds(found: dict[str, float]) -> tuple[bool, bool]:
    """Whether the slopes of time and of memory are within their bounds."""
    return abs(found["time"] - 1) <= SLOPE, found["bytes"] <= BYTES


def table(rows: list[dict[str, Any]], found: dict[str, float], clock: str) -> str:
    """Markdown."""
    lines = [machine(clock).replace("medians, ", ""), ""]
    lines += ["| Mpx | buildings | s | of these split, export | ns/px | RssAnon, peak | beyond the start |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in rows:
        seconds = {name: each[clock] for name, each in row["seconds"].items()}
        lines.append(
            f"| {row['pixels'] / 1e6:.0f} | {row['buildings']} | {seconds['all']:.2f} | {seconds['split']:.2f}, "
            f"{seconds['export']:.2f} | {1e9 * seconds['all'] / row['pixels']:.1f} | "
            f"{row['peak_bytes'] / 1e6:.0f} MB | {row['grown_bytes'] / 1e6:.0f} MB |"
        )
    short = ["" if good else "**short of** " for good in bounds(found)]
    mark = [
        f"Log-log slope of time {found['time']:.3f} ({short[0]}1.00 ± {SLOPE}), against pixels read "
        f"{found['time_of_read']:.3f};",
        f"RssAnon {found['bytes']:.3f} byte a pixel ({short[1]}≤ {BYTES}).",
    ]
    return "\n".join([*lines, "", *mark])


def main() -> None:
    """Print the table; exit 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[5000, 10_000, 20_000])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--work", type=Path, help="where scenes are planted; a temporary folder by default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path)
    options = parser.parse_args()
    runs: dict[int, list[dict[str, Any]]] = {side: [] for side in options.sides}
    for _ in range(options.rounds):
        for side in options.sides:
            with tempfile.TemporaryDirectory(dir=options.work) as folder:
                runs[side].append(measured(Path(folder) / "scene", side, "city"))
                print(json.dumps(runs[side][-1]), flush=True)
    rows = [best(each, options.clock) for each in runs.values()]
    found = slopes(rows, options.clock)
    said = table(rows, found, options.clock)
    print(said)
    if options.json is not None:
        text = json.dumps({"machine": machine(options.clock), "rows": rows, "slopes": found}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.docs is not None:
        put(options.docs, "scaling", said)
    raise SystemExit(0 if all(bounds(found)) else "a bound is missed")


if __name__ == "__main__":
    main()
