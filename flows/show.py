"""What the command line shows: progress with an ETA on stderr, tables, figures. rich comes late, it costs 0.1 s."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.run import Progress
    from pipeline.stage import Phase

WIDE = 160
"""Columns of a table that goes to a file or a pipe: nothing is wrapped there."""


@contextmanager
def progress(quiet: bool = False) -> Iterator[Progress | None]:
    """A bar for the phase at work, with the time it has left, on stderr; a line a phase where that is no terminal."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bars() as update:
            yield update
    else:
        yield _lines()


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description:<34}"), rich.BarColumn(30), rich.MofNCompleteColumn(),
        rich.TextColumn("elapsed"), rich.TimeElapsedColumn(), rich.TextColumn("left"), rich.TimeRemainingColumn(),
    )  # fmt: skip
    with rich.Progress(*columns, console=Console(stderr=True)) as bars:
        known: dict[str, Any] = {}

        def update(phase: Phase, ended: int, due: int) -> None:
            if phase.name not in known:
                known[phase.name] = bars.add_task(phase.title, total=due)
            bars.update(known[phase.name], completed=ended, total=due)

        yield update


def _lines() -> Progress:
    """A line at most each 10 s and one when a phase is done: for logs."""
    import time

    first: dict[str, tuple[float, int]] = {}
    last = time.monotonic()

    def update(phase: Phase, ended: int, due: int) -> None:
        nonlocal last
        now = time.monotonic()
        start, before = first.setdefault(phase.name, (last, ended - 1))
        if ended < due and now - last < 10:
            return
        last = now
        left = (now - start) / max(ended - before, 1) * (due - ended)
        sys.stderr.write(f"{phase.title}: {ended} of {due}" + (f", {duration(left)} left\n" if ended < due else "\n"))

    return update


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes as `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def table(rows: list[tuple[Any, ...]], head: tuple[str, ...]) -> None:
    """A table on stdout; numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(*head, box=None, pad_edge=False, header_style="bold")
    for column, values in zip(drawn.columns, zip(*rows, strict=True), strict=False):
        if all(isinstance(value, int | float) for value in values):
            column.justify = "right"
    for row in rows:
        drawn.add_row(*(number(value) for value in row))
    Console(width=None if sys.stdout.isatty() else WIDE).print(drawn)


def number(value: Any) -> str:
    """A value for a person: three or four figures are enough of a float."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def figures(values: dict[str, Any], indent: str = "") -> None:
    """Figures, one a line, nested ones under their name."""
    for name, value in values.items():
        label = name.replace("_", " ")
        if isinstance(value, dict):
            say(f"{indent}{label}")
            figures(value, indent + "  ")
        elif isinstance(value, list | tuple):
            say(f"{indent}{label:<{28 - len(indent)}} {', '.join(map(number, value)) or '–'}")
        else:
            say(f"{indent}{label:<{28 - len(indent)}} {number(value)}")


def say(line: str) -> None:
    """A line on stdout."""
    sys.stdout.write(line + "\n")


def emit(value: Any) -> None:
    """JSON on stdout; what JSON has no word for becomes text, NaN becomes null."""
    sys.stdout.write(json.dumps(_plain(value), indent=1, default=str) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and value != value else value
