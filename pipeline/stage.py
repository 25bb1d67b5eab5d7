"""What a stage is: a name, a grid to run on, what it reads, and the hash that says what it would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import SettingsError
from pipeline.grid import WINDOW, TileGrid
from pipeline.ledger import fingerprint


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of the line that runs tile by tile.

    `grid` gives tiles, level and halo (px of that level); `origin` is the number that every read
    window's first pixel must be a multiple of (the network's total stride, `tiling.md`); `recipe` is
    all that its tiles share and that changes what they write: version, parameters, weights' hash.
    """

    name: str
    grid: TileGrid
    origin: int = 1
    device: str = "cpu"
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.grid.halo % self.origin or WINDOW % self.origin:
            raise SettingsError(
                f"stage {self.name}: halo {self.grid.halo} px is no multiple of the network's stride "
                f"{self.origin} px; windows would change the pooling phase"
            )

    @property
    def print(self) -> str:
        """Hash of what the stage would do, whatever the tile."""
        shape = [*self.grid.shape, self.grid.core, self.grid.halo, self.grid.level]
        return fingerprint(self.name, shape, self.origin, dict(self.recipe))


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work: tile or block `key` of `stage`, with the fingerprint that its receipt must carry.

    `why` says in words why it is due (or is empty when it is not). `payload` is small and plain: what the
    worker needs beyond the job, never arrays.
    """

    stage: str
    key: str
    fingerprint: str
    why: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Phase:
    """A step of the whole scene: all its tasks may run side by side; the next phase needs all of them."""

    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks of a phase that an orchestrator drives as one: batch `index` (from 1) of `of`."""

    phase: Phase
    index: int
    of: int
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What came of a batch: tasks done and failed, and the seconds it took."""

    done: int
    failed: int
    seconds: float
