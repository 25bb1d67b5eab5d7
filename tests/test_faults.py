"""Real processes killed in the middle: the rerun does only what was missing, and ends with the same bytes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.small_city import PRODUCTS, cut

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MOMENTS = ("ingest", "align-s1f4-search", "split")
"""Stages in whose middle something dies: the kill comes with the stage's first receipt."""


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return cut(tmp_path_factory.mktemp("city"), 600)


# Without the classes: what is killed here is the machinery that all stages share.
def start(city: tuple[Path, Path], out: Path) -> subprocess.Popen[bytes]:
    """`resurvey run` with two workers, in a process group of its own."""
    command = [sys.executable, "-m", "flows.cli", "run", str(city[0]), "--cadaster", str(city[1]), "--out", str(out)]
    command += ["--tile", "256", "--workers", "2", "--direct", "--aligner", "search", "--stages", "align,split"]
    with (out.parent / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def receipts(out: Path) -> list[tuple[str, str]]:
    """(stage, key) of every whole line of the ledger."""
    rows = []
    with contextlib.suppress(FileNotFoundError):
        for line in (out / "work" / "ledger.jsonl").read_text().splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                rows.append((row["stage"], row["key"]))
    return rows


def wait_for(process: subprocess.Popen[bytes], out: Path, stage: str) -> None:
    """Return when `stage` has a receipt."""
    while not any(name == stage for name, _ in receipts(out)):
        assert process.poll() is None, (out.parent / "log").read_text()[-2000:]
        time.sleep(0.02)


def finish(process: subprocess.Popen[bytes], out: Path) -> None:
    assert process.wait(240) == 0, (out.parent / "log").read_text()[-2000:]


@pytest.fixture(scope="module")
def undisturbed(city: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    finish(start(city, out), out)
    return out


def same(out: Path, reference: Path) -> None:
    for name in set(PRODUCTS) - {"classes.tif"}:
        assert (out / name).read_bytes() == (reference / name).read_bytes(), name


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_whole_process_tree_is_killed(
    city: tuple[Path, Path], undisturbed: Path, tmp_path: Path, moment: str
) -> None:
    out = tmp_path / "out"
    process = start(city, out)
    wait_for(process, out, moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kill_orphans(out)
    done = receipts(out)
    assert len(done) < len(receipts(undisturbed))
    finish(start(city, out), out)
    every = receipts(out)
    assert len(every) == len(set(every)), "a task that had its receipt was done again"
    assert set(every) == set(receipts(undisturbed))
    assert every[: len(done)] == done
    same(out, undisturbed)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_is_killed(city: tuple[Path, Path], undisturbed: Path, tmp_path: Path, moment: str) -> None:
    out = tmp_path / "out"
    process = start(city, out)
    wait_for(process, out, moment)
    os.kill(worker_of(process.pid), signal.SIGKILL)
    finish(process, out)
    every = receipts(out)
    assert len(every) == len(set(every))
    assert set(every) == set(receipts(undisturbed))
    same(out, undisturbed)


def worker_of(root: int) -> int:
    """A worker process of the run, which is a child of its nanny or of the run itself."""
    import psutil

    spawned = [
        child.pid
        for child in psutil.Process(root).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]
    assert spawned, "no worker process found"
    return max(spawned)


def kill_orphans(out: Path) -> None:
    """Workers start sessions of their own on some systems: nothing of the killed run may live on."""
    import psutil

    for process in psutil.process_iter(["pid", "environ", "cmdline"]):
        with contextlib.suppress(psutil.Error):
            if str(out) in " ".join(process.info["cmdline"] or []) and process.pid != os.getpid():
                process.kill()
