"""What a run is asked to do: one frozen record, from command line > RESURVEY_* > TOML > defaults."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable

from pipeline.errors import SettingsError

STAGES = ("align", "classify", "refine", "split")
"""The stages, in the order they run. `refine` needs `classify`; the others stand alone."""

Device = Literal["auto", "cpu", "cuda"]
Aligner = Literal["search", "network", "both"]
Move = Literal["vertex", "building", "block"]
Outlines = Literal["traced", "regular"]

_CHOICES = {"device": Device, "aligner": Aligner, "move": Move, "outlines": Outlines}

EXECUTION = frozenset(
    {"out", "stages", "device", "workers", "scheduler", "batch", "force_new", "gpkg", "fgb"}
)
"""Fields that may differ between two runs in one folder: they say how and how far, not what comes out."""

GRID = frozenset({"tile"})
"""Fields that change receipts but not results: the same pixels, cut differently (DESIGN 2, invariant 1)."""

_URL = ("http://", "https://", "s3://", "gs://", "az://", "/vsi")


class Settings(BaseSettings):
    """A run's settings, checked. Frozen; `load` makes them, and turns what is wrong into one line."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="RESURVEY_")

    image: str
    """What GDAL opens, a Zarr store, a URL or a STAC item."""
    cadaster: str | None = None
    """What pyogrio opens, or GeoParquet. Without one, no stage that needs it runs."""
    out: Path
    """The run's folder (DIR)."""
    cadaster_crs: str | None = None
    """CRS of a cadaster that names none, as pyproj reads it: `EPSG:32645`."""
    cadaster_layer: str | None = None
    """Layer of a cadaster that has several."""
    stages: Annotated[tuple[str, ...], NoDecode] = ()  # in the environment: a,b and not JSON
    """Some of STAGES, in their order; all that the inputs allow if not given."""
    device: Device = "auto"
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Worker processes of the local cluster; one a core (or one a GPU) if not given."""
    scheduler: str | None = None
    """Address of a Dask scheduler that runs already, `tcp://host:8786`."""
    tile: int = Field(default=1024, ge=256, multiple_of=256)  # grid.WINDOW, which is a floor up
    """Side of a tile, px of its own level; a multiple of 256."""
    models: Path | None = None
    """A folder of model cards to use in place of the shipped ones."""
    cards: dict[str, str] = {}
    """Model to use for a task, by name: `{"alignment": "..."}`; chosen by GSD and bands if not given."""
    aligner: Aligner = "both"
    """What moves the polygons: the evidence search, the learned chain over all scales, or one after the other."""
    roads: bool = False
    """Whether open lines (or those that `class_column` calls `road`) are looked for in the image by a network that
    sees roads; they move with the outlines around them if not. Both vote on one field, so that outlines near roads
    move a little differently, too (docs/alignment.md)."""
    class_column: str | None = None
    """Column of the cadaster that says each row's class; every open line is a road if not given."""
    move: Move = "vertex"
    """How rows move. `vertex`: every vertex by the field; walls that are shared stay shared, angles change a
    little. `building`: every row rigidly, so that right angles stay right; shared walls part, by design.
    `block`: rows that share or touch at a vertex move as one, rigidly; walls stay shared and angles right, but
    a fabric of parcels without gaps, or a net of roads, is one block and wants `vertex`."""
    seat: bool = True
    """Whether each building, with those that touch it, is moved onto its own roof after the field that it has in common
    with its neighbours; without, rows keep their places among each other (docs/alignment.md)."""
    symmetry: bool = False
    """Whether the alignment's network answers with the mean over eight turns and mirrorings: eight times the time."""
    outlines: Outlines = "traced"
    """How buildings are drawn: `traced` from the pixels and simplified, or `regular`, with straight walls and right
    angles where they nearly have them (docs/outlines.md)."""
    min_area: float = Field(default=4.0, ge=0, le=1e6)
    """Smallest building kept, m²; after the merge across tiles, never before."""
    min_score: float | None = Field(default=None, ge=0, le=1)
    """Least mean mask score of a building kept; the model's own, from its card, unless given; 0 keeps all."""
    sort: bool = False
    """Whether `cadaster_aligned` is Hilbert-sorted; input order otherwise."""
    gpkg: bool = False
    """Whether the vector outputs are also written as GeoPackage."""
    fgb: bool = False
    """Whether the vector outputs are also written as FlatGeobuf."""
    batch: int = Field(default=256, ge=1, le=4096)
    """Tiles in a batch: one Prefect task run."""
    force_new: bool = False
    """Whether a folder that holds a run with other settings is emptied and used."""

    @field_validator("stages", mode="before")
    @classmethod
    def _split_stages(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _complete_stages(cls, data: Any) -> Any:
        # Here and not afterwards: the record is frozen.
        if isinstance(data, dict) and not data.get("stages"):
            data = {**data, "stages": STAGES if data.get("cadaster") else STAGES[1:]}
        return data

    @model_validator(mode="after")
    def _check_stages(self) -> Settings:
        for name in self.stages:
            if name not in STAGES:
                raise ValueError(f"stages: no stage {name!r}{_nearest(name, STAGES)}")
        if tuple(name for name in STAGES if name in self.stages) != self.stages:
            raise ValueError(f"stages: write them once and in this order: {','.join(STAGES)}")
        if "refine" in self.stages and "classify" not in self.stages:
            raise ValueError("stages: refine needs classify; write classify,refine")
        if "align" in self.stages and not self.cadaster:
            raise ValueError("stages: align needs --cadaster POLYGONS")
        if self.roads and ("align" not in self.stages or self.aligner == "network"):
            raise ValueError("roads: are looked for by the search; take --stages align and --aligner both or search")
        if self.class_column and not self.roads:
            raise ValueError("class_column: says which rows are roads, so it needs --roads")
        return self

    def identity(self) -> dict[str, Any]:
        """Fields that runs in one folder must share, as plain JSON values; files by their absolute paths."""
        return self._plain(EXECUTION)

    def relevant(self) -> dict[str, Any]:
        """Fields that results depend on: `identity` without the tile. For fingerprints."""
        return self._plain(EXECUTION | GRID)

    def _plain(self, without: frozenset[str]) -> dict[str, Any]:
        values = self.model_dump(mode="json", exclude=set(without))
        for name in ("image", "cadaster", "models"):
            if values[name] and not values[name].startswith(_URL):
                values[name] = os.path.abspath(values[name])
        return values

    def difference(self, stored: Mapping[str, Any]) -> list[str]:
        """What differs from another run's `identity`, a line a field: `tile: 1024 there, 512 now`."""
        mine = self.identity()
        # A folder from before a setting was there ran by what is now its default.
        defaults = {key: field.get_default() for key, field in type(self).model_fields.items() if key in mine}
        there = {**defaults, **stored}
        return [
            f"{key}: {there.get(key)!r} there, {mine.get(key)!r} now"
            for key in sorted(mine.keys() | there.keys())
            if there.get(key) != mine.get(key)
        ]


def load(config: Path | None = None, **given: Any) -> Settings:
    """Settings from options that were `given` (None counts as not given), environment, TOML and defaults.

    Relative paths in the TOML file are relative to it. Raises SettingsError: one line that names the option
    or the key, and for a key that does not exist the nearest one that does.
    """
    options = {key: value for key, value in given.items() if value is not None}
    set_outside = {key.upper() for key in os.environ}
    table = {
        key: value
        for key, value in (read_toml(config) if config is not None else {}).items()
        if f"RESURVEY_{key.upper()}" not in set_outside
    }
    try:
        return Settings(**{**table, **options})
    except ValidationError as error:
        raise SettingsError(_one_line(error, config, table.keys() - options.keys())) from None
    except UnreadableVariable as error:
        raise SettingsError(f"environment: {error}; write it as JSON") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The keys of a TOML file, checked against Settings' fields; paths made absolute."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None
    for key in table:
        if key not in Settings.model_fields:
            raise SettingsError(f"{path}: no setting {key!r}{_nearest(key, Settings.model_fields)}")
    for key in ("image", "cadaster", "out", "models"):
        value = table.get(key)
        if isinstance(value, str) and not value.startswith(_URL):
            table[key] = str(path.parent / value)
    return table


def _nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or the whole list if nothing is near."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(names)}"


def _one_line(error: ValidationError, config: Path | None, from_file: Iterable[str]) -> str:
    """A validation error as one line in the user's terms."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        option = {"image": "IMAGE", "out": "--out DIR"}.get(name, name)
        return f"{option} is missing: give it on the command line, as RESURVEY_{name.upper()} or in a TOML file"
    if first["type"] == "literal_error":
        said = f"must be one of {', '.join(get_args(_CHOICES[name]))}"
    if name == "tile" and first["type"] in ("multiple_of", "greater_than_equal"):
        said = f"must be a multiple of 256; try {max(256, round(int(first['input']) / 256) * 256)}"
    if not name:  # the checks over several fields name theirs themselves
        name, _, said = said.partition(": ")
    if config is not None and name in set(from_file):
        where = f"{config}: {name}"
    elif f"RESURVEY_{name.upper()}" in os.environ:
        where = f"RESURVEY_{name.upper()}"
    else:
        where = "--" + name.replace("_", "-")
    value = "" if not first["loc"] else f" {first.get('input')}"
    return f"{where}{value}: {said[:1].lower()}{said[1:]}"
