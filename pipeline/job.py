"""What every task of a run shares: plain values, written once to `work/job.json` and read by each worker."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import StoreError
from pipeline.grid import TileGrid, level_shape
from pipeline.scene import blocks as ingest_blocks
from pipeline.stages.align import Step
from pipeline.stages.gate import Gate
from pipeline.stages.search import Search

if TYPE_CHECKING:
    from pipeline.settings import Move, Outlines

SCENE = "scene.zarr"
CADASTER = "cadaster"
PARTS = "parts"


def values_of(stage: str) -> str:
    """Name of a stage's array in the scene: a group a stage, so that each opens with its own coordinates."""
    return f"{stage}/values"


AlignStep = Search | Step | Gate
"""What moves polygons: each has a name, and a phase that makes what its move is made from."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run's inputs, models and grids, as its workers need them.

    `shape` (height, width) px and `gsd` (m) of the working raster; `cards` maps a task (`alignment`,
    `coarse`, `refiner`, `mask`) to its card's name and `weights` to their sha256; `levels` maps a stage to
    its level, one of the pyramid or between (`resample`); `halos` and `strides` are the cards', px of that
    level; `searches` the alignment's (factor, reach, sigma, turn) and `steps` its network's (factor, round);
    `identity` the settings that runs in
    one folder must share; `move` what moves as one (see `settings.Settings`).
    """

    folder: str
    image: str
    min_gsd: float
    shape: tuple[int, int]
    gsd: float
    crs: str
    transform: tuple[float, ...]
    cadaster: str | None
    cadaster_layer: str | None
    cadaster_crs: str | None
    tile: int
    device: str
    models: str | None
    stages: tuple[str, ...]
    cards: dict[str, str]
    weights: dict[str, str]
    levels: dict[str, float]
    halos: dict[str, int]
    strides: dict[str, int]
    searches: tuple[tuple[int, int, float, int], ...]
    steps: tuple[tuple[int, int], ...]
    min_area_m2: float
    source: str
    cadaster_source: str
    copies: tuple[str, ...]
    sort: bool
    identity: dict[str, Any]
    notes: tuple[str, ...]
    min_score: float = 0.0
    move: Move = "vertex"
    seat: bool = True
    symmetry: bool = False
    outlines: Outlines = "traced"
    class_column: str | None = None

    @property
    def work(self) -> Path:
        """The run's state folder."""
        return Path(self.folder) / "work"

    @property
    def roads(self) -> bool:
        """Whether lines are looked for in the image."""
        return "roads" in self.cards

    @property
    def align_line(self) -> tuple[AlignStep, ...]:
        """The alignment's moves in order: searches, the network's steps, the gate; none without `align`."""
        if "align" not in self.stages:
            return ()
        return (*(Search(*each) for each in self.searches), *(Step(*each) for each in self.steps), Gate(self.gsd))

    def grid(self, level: float, halo: int = 0, core: int | None = None) -> TileGrid:
        """The scene at `level`, cut into tiles of `core` px of that level (the run's tile unless given)."""
        return TileGrid(level_shape(self.shape, level), core or self.tile, halo, level)

    def blocks(self) -> TileGrid:
        """The fixed grid of ingest shards, polygon blocks and dense-field windows."""
        return ingest_blocks(self.shape)


def write_job(job: Job) -> None:
    """Write `work/job.json`, whole or not at all."""
    path = job.work / "job.json"
    write_json(path, asdict(job))


@lru_cache(maxsize=4)
def _read(path: str, stamp: int) -> Job:
    raw: dict[str, Any] = json.loads(Path(path).read_text())
    for name in ("shape", "transform", "stages", "copies", "notes"):
        raw[name] = tuple(raw[name])
    for name in ("searches", "steps"):
        raw[name] = tuple(tuple(each) for each in raw[name])
    return Job(**raw)


def read_job(folder: str) -> Job:
    """The job of a run's folder; read again only if the file changed."""
    path = Path(folder) / "work" / "job.json"
    try:
        return _read(str(path), path.stat().st_mtime_ns)
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: not a readable job ({error}); run again with --force-new") from None


def write_json(path: Path, value: object) -> None:
    """Write a JSON file under a temporary name, then rename: never half a file."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(value, indent=1, default=str) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot write ({error.strerror}); make room or check the folder") from None
