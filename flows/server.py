"""Where runs are recorded: the Prefect server that `PREFECT_API_URL` names, else one of the run's own.

The embedded server's whole state lies in one folder; it talks to this machine only, and what it has to say at
shutdown goes to its log there. Prefect reads its settings when it is imported, so that happens in here, once
they stand in the environment; and while the server starts, for both take seconds.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from pipeline.errors import StoreError

START_LIMIT = 90.0
"""Seconds a start may take: the first one on a slow machine migrates a database."""

LAST_WORDS = 1.0
"""Seconds the embedded server gets to write the last events down before it is stopped."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # what fails is told by the command line, in one line
    "PREFECT_SERVER_API_BLOCKS_REGISTER_ON_START": "false",  # none are used; saves a second at the start
}


@contextmanager
def recording(home: Path) -> Iterator[str]:
    """A Prefect API for the time of the block; yields its address.

    Honours `PREFECT_API_URL`; else starts an embedded server with its state in `home`. Imports Prefect; if that
    has happened before, its settings are the older ones. Raises StoreError if the server does not start.
    """
    address = os.environ.get("PREFECT_API_URL")
    home.mkdir(parents=True, exist_ok=True)
    wanted = {"PREFECT_HOME": str(home), **QUIET}
    if address:
        # A real server gets the log; its user's own Prefect settings stand.
        wanted = {key: os.environ.get(key, value) for key, value in wanted.items()}
        with _environment(wanted):
            yield address
        return
    with _environment({**wanted, "PREFECT_LOGGING_TO_API_ENABLED": "false"}), _server(home) as address:
        yield address


@contextmanager
def _server(home: Path) -> Iterator[str]:
    log = home / "server.log"
    migrated = _use_template(home)
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            cwd=Path(__file__).parents[1],
            start_new_session=True,  # a Ctrl-C is the driver's: it still has to say so to the server
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip().decode()
        address = f"http://127.0.0.1:{port}/api"
        with _environment({"PREFECT_API_URL": address}):
            import prefect  # noqa: F401

            if not _healthy(process, address):
                raise StoreError(f"the embedded Prefect server does not start: see {log}; --direct does without it")
            if not migrated:
                _keep_template(home)
            yield address
            time.sleep(LAST_WORDS)
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _healthy(process: subprocess.Popen[bytes], address: str) -> bool:
    """Wait until the server answers; False if it ended or START_LIMIT passed."""
    # No proxy: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_LIMIT
    while process.poll() is None and time.monotonic() < end:
        try:
            with opener.open(f"{address}/health", timeout=end - time.monotonic()) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False


def _template() -> Path:
    """An empty database, migrated: its migrations are two thirds of a first start's work."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "resurvey" / f"prefect-{version('prefect')}.db"


def _use_template(home: Path) -> bool:
    """Whether `home` has a migrated database, now copied from the user's state folder if there was none."""
    database = home / "prefect.db"
    if not database.exists():
        partial = home / "prefect.db.part"
        try:
            shutil.copyfile(_template(), partial)
            partial.replace(database)
        except OSError:
            return False
    return True


def _keep_template(home: Path) -> None:
    """Keep the database as it is now, before any run, for the next run's folder. Goes without where it cannot."""
    template = _template()
    partial = template.with_suffix(f".{os.getpid()}.part")
    with suppress(OSError, sqlite3.Error):
        template.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(home / "prefect.db")) as here, closing(sqlite3.connect(partial)) as there:
            here.backup(there)
        partial.replace(template)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
