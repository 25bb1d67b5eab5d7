"""What happened, when: one JSON line an event, appended to `events.jsonl` in the run's folder.

Events are for people and for `status`; nothing is decided from them. What is done stands in the ledger.
Only the driver writes. A line is written in one piece, so readers beside it see whole lines but for the last.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError

FILE = "events.jsonl"


def record(folder: Path, kind: str, /, **fields: Any) -> None:
    """Append an event: `time` (UTC, ISO 8601, ms), `event` = kind, `pid`, then `fields` (made text if not JSON).

    Raises StoreError where the folder cannot be written.
    """
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": time, "event": kind, "pid": os.getpid(), **fields}, default=str)
    path = folder / FILE
    try:
        torn = path.exists() and not _ends_a_line(path)
        with path.open("a", encoding="utf-8") as file:
            # A line torn by a kill must not swallow this one.
            file.write(("\n" if torn else "") + line + "\n")
    except OSError as error:
        raise StoreError(f"{path}: cannot write events ({error.strerror}); make room and run again") from None


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """Events in the order they were written; a torn line is passed over. None where there is no file."""
    path = folder / FILE
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event


def record_crash(folder: Path, error: BaseException) -> Path:
    """Write an unexpected error's traceback to a file of its own in `work/`, and an event that names it.

    Returns the file. Raises OSError or StoreError where the folder cannot be written.
    """
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    path = work / f"traceback-{stamp}-{os.getpid()}.txt"
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    record(folder, "crash", error=f"{type(error).__name__}: {error}", traceback=str(path))
    return path


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
