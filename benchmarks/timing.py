"""Contests: our kernel and its peers in turn, in one process; medians, ratios, Markdown and JSON.

Seconds are those of the machine that the table names, and say little; the ratios were taken in the same run,
contestants one after the other in every round, so that what else the machine does hits all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CORES = os.cpu_count() or 1
Call = Callable[[], Any]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """A contestant. `other`: it gives another result than ours, and is what people use for the step.
    `threads`: it can use several; it then runs with one and with all. `target`: the ratio to reach over one."""

    call: Call
    other: bool = False
    threads: bool = False
    target: float | None = None


@dataclass(slots=True)
class Contest:
    """Rows of one input. `clock` is "wall" or "cpu" (seconds of this process: for a machine that is shared);
    a contestant that has run for `patience` seconds in all is not run again."""

    name: str
    rounds: int = 5
    clock: str = "wall"
    patience: float = 3.0
    rows: list[Row] = field(default_factory=list)

    def row(self, step: str, ours: Call, peers: Mapping[str, Peer], equal: str = "") -> None:
        """Time one step. `equal` says in words what was asserted before."""
        calls: dict[str, tuple[Call, int]] = {"ours": (ours, 1)}
        for name, peer in peers.items():
            calls[name] = (peer.call, 1)
            if peer.threads and CORES > 1:
                calls[f"{name}, {CORES} threads"] = (peer.call, CORES)
        wall: dict[str, list[float]] = {name: [] for name in calls}
        cpu: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(self.rounds):
            for name, (call, threads) in calls.items():
                if sum(wall[name]) > self.patience:
                    continue
                cv2.setNumThreads(threads)
                began = time.perf_counter(), time.process_time()
                call()
                ended = time.perf_counter(), time.process_time()
                wall[name].append(ended[0] - began[0])
                cpu[name].append(ended[1] - began[1])
        cv2.setNumThreads(1)
        medians = {name: {"wall": float(np.median(wall[name])), "cpu": float(np.median(cpu[name]))} for name in calls}
        row = {"input": self.name, "step": step, "equal": equal, "seconds": medians, "peers": []}
        for name in list(calls)[1:]:
            peer = peers[name] if name in peers else peers[name.rsplit(", ", 1)[0]]
            # CPU seconds of several threads are a sum: only the wall says what they gained.
            clock = self.clock if name in peers else "wall"
            ratio = medians[name][clock] / medians["ours"][clock]
            target = peer.target if name in peers else None
            row["peers"].append({"name": name, "ratio": ratio, "other": peer.other, "target": target})
        self.rows.append(row)
        print(markdown_line(row, self.clock), flush=True)


def verdict(peer: Mapping[str, Any]) -> str:
    """A peer's cell: its ratio, the target it is held to, and whether we lose."""
    mark = "°" if peer["other"] else ""
    said = f"{peer['name']}{mark} {peer['ratio']:.1f}×"
    if peer["target"]:
        said += f" (≥ {peer['target']:g})" if peer["ratio"] >= peer["target"] else f" (**short of {peer['target']:g}**)"
    return said + (" **not won**" if peer["ratio"] < 1 else "")


def markdown_line(row: Row, clock: str) -> str:
    """One step as a line of the table."""
    cells = ", ".join(verdict(peer) for peer in row["peers"])
    spent = 1e3 * row["seconds"]["ours"][clock]
    return f"| {row['step']} | {spent:.{0 if spent >= 100 else 1}f} ms | {cells} | {row['equal']} |"


def markdown(rows: Sequence[Row], clock: str, scenes: Mapping[str, str]) -> str:
    """Tables of all inputs, each under what `scenes` says of it."""
    parts = [machine(clock)]
    for name in dict.fromkeys(row["input"] for row in rows):
        parts += ["", f"**{scenes.get(name, name)}**", "", "| step | ours | peers, × our time | equal to |"]
        parts += ["|---|---|---|---|", *(markdown_line(row, clock) for row in rows if row["input"] == name)]
    return "\n".join(parts)


def machine(clock: str) -> str:
    """Where and how: processor, cores, load, clock, versions."""
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    seconds = "wall seconds" if clock == "wall" else "CPU seconds of the process (of threads: wall seconds)"
    return f"{processor()}, {CORES} cores, {load} at the end; medians, {seconds}; {versions()}."


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> str:
    """Versions of the peers that are installed."""
    names = (
        "numba", "opencv-python-headless", "scipy", "scikit-image", "connected-components-3d", "rasterio", "shapely",
        "geopandas", "pyogrio", "dask-image", "pillow",
    )  # fmt: skip
    said = []
    for name in names:
        try:
            said.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(said)


def arguments(parser: argparse.ArgumentParser, inputs: Mapping[str, Any], size: int = 2500) -> Any:
    """The options that the benchmarks share; `inputs` of the result are the names chosen."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--size", type=int, default=size)
    parser.add_argument("--input", choices=(*inputs, "all"), default="all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--patience", type=float, default=3.0, help="seconds after which a contestant has run enough")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path)
    options = parser.parse_args()
    options.inputs = list(inputs) if options.input == "all" else [options.input]
    return options


def finish(rows: Sequence[Row], options: Any, place: str, scenes: Mapping[str, str]) -> None:
    """Write what was asked for: JSON, and the table at `place` in the page."""
    if options.json is not None:
        said = {"machine": machine(options.clock), "clock": options.clock, "scenes": dict(scenes), "rows": list(rows)}
        options.json.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    if options.docs is not None:
        put(options.docs, place, markdown(rows, options.clock, scenes))


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands in `page` between `<!-- NAME -->` and `<!-- /NAME -->` by `text`."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page}: has no place marked {begin} … {end}; add the two lines where the table belongs")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
