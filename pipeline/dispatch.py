"""Tasks to workers: in this process, or on a Dask cluster through a bounded window of futures.

Dask is trusted to run a task somewhere, not to remember that it ran: a receipt is written down here,
by the driver, as each task comes back, and its future is dropped at once.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.errors import SettingsError
from pipeline.ledger import Receipt, now
from pipeline.stage import Task
from pipeline.worker.entry import run_task

if TYPE_CHECKING:
    from distributed import Client

ATTEMPTS = 3
"""How often a task is tried when the worker under it dies; a poison task then fails alone."""
WINDOW_PER_WORKER = 2
"""Futures in flight for each worker: one runs, one waits. More would make bystanders of a worker's death."""

Record = Callable[[list[Receipt]], None]


class Workers(Protocol):
    """Whatever runs tasks: calls `record` with the receipts of each task as it ends."""

    def run(self, folder: str, tasks: Iterable[Task], record: Record) -> None:
        """Run every task; returns when all have ended, well or badly."""


class InProcess:
    """Tasks one after the other in this process: `--direct` with one worker, tests, benchmarks."""

    def run(self, folder: str, tasks: Iterable[Task], record: Record) -> None:
        """Run every task here."""
        for task in tasks:
            record(_receipts(task, run_task(folder, task.stage, task.key, dict(task.payload)), 1))


class OnCluster:
    """Tasks on a Dask cluster."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def run(self, folder: str, tasks: Iterable[Task], record: Record) -> None:
        """Run every task on the cluster, never more in flight than its workers can soon take."""
        from distributed import as_completed

        waiting: Iterator[tuple[Task, int]] = ((task, 1) for task in tasks)
        flying: dict[Any, tuple[Task, int]] = {}
        with self.client.as_current():
            queue = as_completed(loop=self.client.loop)

            def send(task: Task, attempt: int) -> None:
                future = self.client.submit(
                    run_task, folder, task.stage, task.key, dict(task.payload), pure=False, retries=0
                )
                flying[future] = (task, attempt)
                queue.add(future)

            def fill() -> None:
                room = WINDOW_PER_WORKER * max(1, len(self.client.nthreads()))
                while len(flying) < room:
                    upcoming = next(waiting, None)
                    if upcoming is None:
                        return
                    send(*upcoming)

            fill()
            while flying:
                future = next(queue)
                task, attempt = flying.pop(future)
                error = future.exception()
                if error is None:
                    record(_receipts(task, future.result(), attempt))
                elif attempt < ATTEMPTS:
                    send(task, attempt + 1)
                else:
                    record(_lost(task, attempt, error))
                future.release()
                fill()


@contextmanager
def local_cluster(workers: int, scratch: Path, threads: int = 1) -> Iterator[OnCluster]:
    """A cluster of `workers` processes on this machine, gone when the block ends."""
    import dask
    from distributed import Client, LocalCluster

    scratch.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Dask warns when it has to pick another dashboard port; no dashboard is asked for.
        warnings.simplefilter("ignore", UserWarning)
        dask.config.set({"distributed.scheduler.allowed-failures": ATTEMPTS})
        dask.config.set({"distributed.comm.timeouts.connect": "60s"})
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=True,
            dashboard_address=None,
            local_directory=os.fspath(scratch),
            memory_limit=0,
            silence_logs=50,
        )
    client = Client(cluster, set_as_default=False)
    try:
        yield OnCluster(client)
    finally:
        client.close()
        cluster.close()


@contextmanager
def existing_cluster(address: str) -> Iterator[OnCluster]:
    """The cluster whose scheduler listens at `address`."""
    from distributed import Client

    try:
        client = Client(address, set_as_default=False, timeout="20s")
    except (OSError, ValueError, TimeoutError) as error:
        raise SettingsError(f"--scheduler {address}: no Dask scheduler answers there ({error})") from None
    try:
        yield OnCluster(client)
    finally:
        client.close()


def _receipts(task: Task, rows: list[dict[str, Any]], attempt: int) -> list[Receipt]:
    """What a worker answered, as receipts: each stage of the task carries its own fingerprint."""
    prints = task.payload.get("fingerprints", {})
    common = {"written": now(), "attempt": attempt}
    return [Receipt(**{**common, "fingerprint": prints.get(row["stage"], task.fingerprint), **row}) for row in rows]


def _lost(task: Task, attempt: int, error: BaseException) -> list[Receipt]:
    """Failed receipts for every stage of a task that no worker survived."""
    prints = task.payload.get("fingerprints", {})
    reason = f"worker lost {attempt} times: {type(error).__name__}"
    common: dict[str, Any] = {"reason": reason, "attempt": attempt, "written": now()}
    return [
        Receipt(name, task.key, prints.get(name, task.fingerprint), "failed", **common)
        for name in task.payload.get("stages", [task.stage])
    ]
