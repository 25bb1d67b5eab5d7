"""Events survive kills: whole lines are read, torn ones are passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.events import FILE, read_events, record, record_crash


def test_events_come_back_in_order(tmp_path: Path) -> None:
    assert list(read_events(tmp_path)) == []
    record(tmp_path, "phase", phase="ingest", due=3)
    record(tmp_path, "end", folder=tmp_path)
    first, last = read_events(tmp_path)
    assert (first["event"], first["due"]) == ("phase", 3)
    assert last["folder"] == str(tmp_path)
    assert first["time"] <= last["time"]


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    record(tmp_path, "one")
    with (tmp_path / FILE).open("a") as file:
        file.write('{"time": "2026-')
    record(tmp_path, "two")
    assert [event["event"] for event in read_events(tmp_path)] == ["one", "two"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"events\.jsonl: cannot write events"):
        record(tmp_path / "missing", "one")


def test_a_crash_leaves_its_traceback(tmp_path: Path) -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        path = record_crash(tmp_path, error)
    assert "ValueError: broken" in path.read_text()
    (event,) = read_events(tmp_path)
    assert event["event"] == "crash"
    assert event["traceback"] == str(path)
