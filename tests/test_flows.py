"""The Prefect flow over a survey that computes nothing: what is recorded, retried, and kept off the network."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from flows.server import recording

ROOT = Path(__file__).parents[1]

AUDIT = """
import os, sys


def audit(event, args):
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode()
    if host not in (None, "", "127.0.0.1", "::1", "localhost", "0.0.0.0"):
        with open(os.environ["OUTSIDE"], "a") as file:
            file.write(f"{event} {host}\\n")


sys.addaudithook(audit)
"""
"""As `sitecustomize`: in the driver and in every process it starts, connections beyond this machine are noted."""

SCRIPT = """
import json, sys
from pathlib import Path

from flows.server import recording
from pipeline.errors import InputError
from pipeline.run import Outcome
from pipeline.settings import load
from pipeline.stage import Batch, BatchReport, Phase, Task

folder = Path(sys.argv[1])
mode = sys.argv[2]


class Fake:
    settings = load(image="a.tif", cadaster="c.parquet", out=folder)
    phases = (Phase("ingest", "Ingest"), Phase("nothing", "Nothing due"), Phase("split", "Split"))
    calls = []

    def __init__(self):
        self.folder = folder

    def batches(self, phase):
        if phase.name == "nothing":
            return []
        return [Batch(phase, i, 2, (Task(phase.name, f"r{i:04d}c0000", "f"),)) for i in (1, 2)]

    def execute(self, batch):
        self.calls.append(f"{batch.phase.name} {batch.index}")
        if mode == "flaky" and self.calls.count("split 2") == 1 and batch.phase.name == "split" and batch.index == 2:
            raise RuntimeError("the scheduler is gone")
        if mode == "refused" and batch.phase.name == "split":
            raise InputError("a.tif: gone; bring it back")
        return BatchReport(1, 0, 0.1)

    def close(self, phase):
        self.calls.append(f"close {phase.name}")

    def finish(self):
        return Outcome(3 if mode == "flaky" else 0, {"tiles": 4, "scores": {"rows": [1, 2]}}, folder)


run = Fake()
said = ""
with recording(folder / "work" / "prefect") as address:
    from flows.scene import drive

    try:
        status = drive(run).exit_status
    except InputError as error:
        status, said = 1, str(error)
    # What a server keeps is what a person can look at later.
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        import time

        for _ in range(100):
            tasks = client.read_task_runs()
            if all(task.state_type.value in ("COMPLETED", "FAILED") for task in tasks):
                break
            time.sleep(0.1)
        flow_runs = client.read_flow_runs()
print(json.dumps({
    "status": status, "said": said, "calls": run.calls, "address": address,
    "flows": [[r.name, r.state_name, sorted(r.tags), r.parameters] for r in flow_runs],
    "tasks": sorted([t.name, t.state_name, t.run_count] for t in tasks),
}))
"""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's state folder: the first run leaves a migrated database there, which the others start from."""
    return tmp_path_factory.mktemp("state")


def drive(tmp_path: Path, state: Path, mode: str) -> dict[str, Any]:
    """Run the script above in a process of its own: Prefect reads its settings at the import."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    (tmp_path / "hook").mkdir(parents=True)
    (tmp_path / "hook" / "sitecustomize.py").write_text(AUDIT)
    clean |= {"PYTHONPATH": str(tmp_path / "hook"), "OUTSIDE": str(tmp_path / "hook" / "outside")}
    environment = {**clean, "XDG_STATE_HOME": str(state), "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), mode],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # Prefect's own words go to its log
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_run_is_recorded_and_nothing_leaves_the_machine(tmp_path: Path, state: Path) -> None:
    found = drive(tmp_path, state, "plain")
    assert found["status"] == 0
    assert found["calls"] == [
        "ingest 1", "ingest 2", "close ingest", "close nothing", "split 1", "split 2", "close split",
    ]  # fmt: skip
    ((name, ended, tags, parameters),) = found["flows"]
    assert (name, ended) == ("run", "Completed")
    assert {"resurvey", "align", "split"} <= set(tags)
    assert parameters["tile"] == 1024
    assert [task[0] for task in found["tasks"]] == [
        "ingest 1 of 2", "ingest 2 of 2", "split 1 of 2", "split 2 of 2",
    ]  # fmt: skip
    assert {task[1] for task in found["tasks"]} == {"Completed"}
    assert not (tmp_path / "hook" / "outside").exists()
    assert found["address"].startswith("http://127.0.0.1:")
    # Nothing outside the run's and the user's state folder; the artifacts stand in the run's own database.
    assert list((tmp_path / "home").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"home", "hook", "run"}
    assert [path.name for path in state.rglob("*.db")] == [f"prefect-{version('prefect')}.db"]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"work"}
    with sqlite3.connect(tmp_path / "run" / "work" / "prefect" / "prefect.db") as database:
        artifacts = dict(database.execute("select key, data from artifact").fetchall())
    assert float(artifacts["survey-progress"]) == 100
    assert "| scores.rows | 2 |" in artifacts["survey-report"]


@pytest.mark.slow
def test_a_batch_is_tried_again_but_not_after_wrong_input(tmp_path: Path, state: Path) -> None:
    found = drive(tmp_path, state, "flaky")
    assert found["calls"].count("split 2") == 2
    assert found["calls"].count("split 1") == 1
    assert (found["status"], found["flows"][0][1]) == (3, "Incomplete")  # failed tiles show in the run's state
    assert ["split 2 of 2", "Completed", 2] in found["tasks"]
    found = drive(tmp_path / "again", state, "refused")
    assert found["calls"].count("split 1") == 1
    assert (found["status"], found["said"]) == (1, "a.tif: gone; bring it back")


def test_a_server_that_is_named_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example.org/api")
    monkeypatch.setenv("PREFECT_HOME", "/somewhere")
    with recording(tmp_path / "prefect") as address:
        assert address == "http://prefect.example.org/api"
        assert os.environ["PREFECT_HOME"] == "/somewhere"
        assert os.environ["DO_NOT_TRACK"] == "1"
    assert "DO_NOT_TRACK" not in os.environ
