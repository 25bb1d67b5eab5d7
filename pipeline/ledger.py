"""Receipts: what is done, and the proof of it.

A receipt is written after the data it speaks of, by the driver alone, as one line appended to
`ledger.jsonl`. Nothing else means done: neither a chunk that exists nor an orchestrator's cache.
A line torn by a kill is ignored when the ledger is read, so its tile is simply due again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pipeline.errors import StoreError

DONE = ("ok", "empty", "nodata")
"""Verdicts that need no further work; the fourth, `failed`, is due again in the next run."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One verdict for one task: tile `key` of `stage`.

    `fingerprint` is what the task was asked for (stage, parameters, weights, window, upstream digests);
    `digest` is a hash of what it wrote. `extra` holds small facts that later phases need.
    """

    stage: str
    key: str
    fingerprint: str
    status: str
    digest: str = ""
    reason: str = ""
    seconds: float = 0.0
    peak_rss_mb: float = 0.0
    attempt: int = 1
    written: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the task needs no further work."""
        return self.status in DONE


def digest_of(*parts: bytes | memoryview | str) -> str:
    """A 128-bit hash, in hexadecimal, of bytes or text, each part closed by its length."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        state.update(raw)
        state.update(len(raw).to_bytes(8, "little"))
    return state.hexdigest()


def fingerprint(*parts: object) -> str:
    """A hash of plain values (numbers, text, lists, mappings), independent of key order."""
    return digest_of(json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str))


def now() -> str:
    """The present time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Ledger:
    """The receipts of one run: the newest of each (stage, key), and the file they are appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._newest: dict[str, dict[str, Receipt]] = {}
        self._file: IO[str] | None = None
        for receipt in read_receipts(path):
            self._newest.setdefault(receipt.stage, {})[receipt.key] = receipt

    def __enter__(self) -> Ledger:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{self.path}: cannot write receipts ({error.strerror}); check the folder") from None
        # A line torn by a kill must not swallow the next one.
        if self.path.stat().st_size and not _ends_with_newline(self.path):
            self._file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                if error is None:  # else what could not be written was said already
                    raise
            self._file = None

    def get(self, stage: str, key: str) -> Receipt | None:
        """The newest receipt of a task, if there is one."""
        return self._newest.get(stage, {}).get(key)

    def of(self, stage: str) -> Mapping[str, Receipt]:
        """Newest receipts of a stage, by key."""
        return self._newest.get(stage, {})

    def stages(self) -> Iterator[str]:
        """Names of the stages that have receipts."""
        return iter(self._newest)

    def append(self, receipts: Iterable[Receipt]) -> None:
        """Write receipts down; they count from the moment this returns."""
        if self._file is None:
            raise StoreError(f"{self.path}: the ledger is not open for writing")
        rows = list(receipts)
        try:
            self._file.writelines(json.dumps(asdict(row), separators=(",", ":")) + "\n" for row in rows)
            self._file.flush()
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot write receipts ({error.strerror}); make room and run again"
            ) from None
        for receipt in rows:
            self._newest.setdefault(receipt.stage, {})[receipt.key] = receipt

    def digest(self, stage: str) -> str:
        """A hash over all newest receipts of a stage: what a whole phase has written."""
        rows = self._newest.get(stage, {})
        return fingerprint([(key, rows[key].status, rows[key].digest) for key in sorted(rows)])


def read_receipts(path: Path) -> Iterator[Receipt]:
    """Receipts in the order they were written; torn or foreign lines are passed over."""
    if not path.exists():
        return
    names = set(Receipt.__dataclass_fields__)
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and {"stage", "key", "fingerprint", "status"} <= set(row) <= names:
                yield Receipt(**row)


class RunLock:
    """A lock on a run's folder, held while a process works in it and freed by the system if it dies."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._handle: int | None = None

    def __enter__(self) -> RunLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"{self.path.parent.parent}: another run works in this folder; wait for it or choose another --out"
            ) from None
        except OSError as error:
            raise StoreError(f"{self.path}: cannot lock the run's folder ({error.strerror})") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def held(folder: Path) -> bool:
    """Whether a live process holds the lock of a run's work folder."""
    path = folder / "lock"
    if not path.exists():
        return False
    with path.open("r+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) == b"\n"
