"""Libraries' own logging, away from the user: into the run's `work/log.txt`, for whoever looks for a cause.

Prefect, Dask and Tornado each write to stderr by default, at length where a worker dies; that is expected here,
counted in receipts, and told in one line.
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

LOUD = ("distributed", "tornado", "bokeh")
"""Families of loggers that Dask gives handlers and levels of their own when it is imported."""


def hush_workers() -> None:
    """Have Dask's loggers keep quiet, also in the processes it starts. Before Dask is imported."""
    for name in LOUD:
        os.environ.setdefault(f"DASK_LOGGING__{name.upper()}", "critical")
    os.environ.setdefault("DASK_DISTRIBUTED__WORKER__PRELOAD", __name__)


def log_to(path: Path) -> None:
    """From now on, all logging of this process, from warnings on, goes to a file and nowhere else.

    To be called once Prefect is imported, which puts up handlers of its own.
    """
    import distributed  # noqa: F401  # it puts up its own too

    for name in list(logging.root.manager.loggerDict):
        if name.startswith(LOUD):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
    handler = logging.FileHandler(path, delay=True)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().handlers[:] = [handler]
    logging.captureWarnings(True)


def dask_setup(worker: object) -> None:
    """Dask's hook, called in each local worker: a Ctrl-C is the driver's, who then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
