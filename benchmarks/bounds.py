"""Scenes that must break neither memory nor time: their cost against the city's, at 25 and 100 Mpx.

    python -m benchmarks.bounds [--sides 5000 10000] [--input dense speckle walls roof] [--clock wall|cpu]
                                [--work DIR] [--json FILE] [--docs docs/kernels.md]

Each goes tile by tile to GeoParquet in a process of its own (`benchmarks.planted`). Exit 1 where a scene takes more
than TIMES the city's time of the same size, holds more than MEMORY at its peak, or where four times the pixels cost
more than GROWTH times as much a pixel. From 64 Mpx on one component is split by windows (`stages.split_windows`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cities import HARD
from benchmarks.planted import measured
from benchmarks.timing import machine, put

TIMES = {"dense": 6.0, "speckle": 20.0, "walls": 20.0, "roof": 20.0}
"""Most that a scene may take, as a multiple of the city's time."""

MEMORY = 2 * 1024**3
"""Bytes: what a worker may hold."""

GROWTH = 1.5
"""Most that the cost of a pixel may grow from the smallest scene to the largest."""


def missed(rows: list[dict[str, Any]], clock: str) -> list[str]:
    """What is out of bounds, in words."""
    said = []
    city = {row["side"]: row["seconds"]["all"][clock] for row in rows if row["input"] == "city"}
    for row in rows:
        name = f"{row['input']} {row['side']}²"
        times = row["seconds"]["all"][clock] / city[row["side"]]
        if times > TIMES.get(row["input"], 1.0):
            said.append(f"{name} takes {times:.1f} times the city's time")
        if row["peak_bytes"] > MEMORY:
            said.append(f"{name} holds {row['peak_bytes'] / 1e6:.0f} MB")
    for kind in dict.fromkeys(row["input"] for row in rows):
        mine = sorted((row for row in rows if row["input"] == kind), key=lambda row: row["side"])
        costs = [row["seconds"]["all"][clock] / row["pixels"] for row in (mine[0], mine[-1])]
        if costs[1] > GROWTH * costs[0]:
            said.append(f"{kind}: a pixel costs {costs[1] / costs[0]:.2f} times as much in the largest scene")
    return said


def table(rows: list[dict[str, Any]], clock: str) -> str:
    """Markdown."""
    city = {row["side"]: row for row in rows if row["input"] == "city"}
    lines = [machine(clock).replace("medians, ", ""), ""]
    lines += ["| scene | Mpx | buildings | s | × city | RssAnon, peak | × city |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        base, seconds = city[row["side"]], row["seconds"]["all"][clock]
        lines.append(
            f"| {row['input']} | {row['pixels'] / 1e6:.0f} | {row['buildings']} | {seconds:.2f} | "
            f"{seconds / base['seconds']['all'][clock]:.1f} | {row['peak_bytes'] / 1e6:.0f} MB | "
            f"{row['peak_bytes'] / base['peak_bytes']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table; exit 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[5000, 10_000])
    parser.add_argument("--input", nargs="+", choices=[name for name in HARD if name != "city"], default=list(TIMES))
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--work", type=Path, help="where scenes are planted; a temporary folder by default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path)
    options = parser.parse_args()
    rows = []
    for side in options.sides:
        for kind in ["city", *options.input]:
            with tempfile.TemporaryDirectory(dir=options.work) as folder:
                rows.append(measured(Path(folder) / "scene", side, kind))
                print(json.dumps(rows[-1]), flush=True)
    said, wrong = table(rows, options.clock), missed(rows, options.clock)
    print(said)
    if options.json is not None:
        text = json.dumps({"machine": machine(options.clock), "rows": rows, "missed": wrong}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.docs is not None:
        put(options.docs, "bounds", said)
    raise SystemExit("; ".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
