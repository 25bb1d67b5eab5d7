"""The options that every computing verb shares, declared once; nothing heavy is imported here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer


def shared(
    config: Annotated[Path | None, typer.Option(help="Settings in TOML; the command line goes before it.")] = None,
    cadaster: Annotated[str | None, typer.Option(metavar="POLYGONS", help="What to align: buildings, roads.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the run.")] = None,
    cadaster_crs: Annotated[str | None, typer.Option(metavar="CRS", help="CRS of a cadaster without one.")] = None,
    cadaster_layer: Annotated[str | None, typer.Option(metavar="NAME", help="Layer of the cadaster.")] = None,
    stages: Annotated[
        str | None, typer.Option(metavar="LIST", help="Of align,classify,refine,split; all if not given.")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda", help="Where networks run.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Worker processes; one a core.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler that runs already.")
    ] = None,
    tile: Annotated[int | None, typer.Option(metavar="PX", help="Tile side, a multiple of 256; 1024.")] = None,
    models: Annotated[Path | None, typer.Option(metavar="DIR", help="Model cards other than the shipped.")] = None,
    card: Annotated[
        list[str] | None, typer.Option(metavar="TASK=NAME", help="Model for a task; may be repeated.")
    ] = None,
    aligner: Annotated[
        str | None, typer.Option(metavar="search|network|both", help="What moves the polygons; both.")
    ] = None,
    roads: Annotated[
        bool | None, typer.Option("--roads", help="Look for open lines as roads; outlines near them move by both.")
    ] = None,
    class_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column with each row's class: road, building.")
    ] = None,
    move: Annotated[
        str | None, typer.Option(metavar="vertex|building|block", help="What moves as one, rigidly; vertex.")
    ] = None,
    seat: Annotated[
        bool | None, typer.Option("--seat/--no-seat", help="Each building onto its own roof after the field; yes.")
    ] = None,
    symmetry: Annotated[bool | None, typer.Option("--symmetry", help="Mean over eight turns; 8 x the time.")] = None,
    outlines: Annotated[
        str | None, typer.Option(metavar="traced|regular", help="How buildings are drawn; traced.")
    ] = None,
    min_area: Annotated[float | None, typer.Option(metavar="M2", help="Smallest building kept; 4.")] = None,
    min_score: Annotated[
        float | None, typer.Option(metavar="0..1", help="Least mean score of a building kept; the model's own.")
    ] = None,
    sort: Annotated[bool | None, typer.Option("--sort", help="Hilbert-sort the aligned cadaster.")] = None,
    gpkg: Annotated[bool | None, typer.Option("--gpkg", help="Write GeoPackages too.")] = None,
    fgb: Annotated[bool | None, typer.Option("--fgb", help="Write FlatGeobufs too.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="Tiles in a task run; 256.")] = None,
    force_new: Annotated[
        bool | None, typer.Option("--force-new", help="Empty a folder that holds another run.")
    ] = None,
) -> dict[str, Any]:
    """Options as `pipeline.settings.load` takes them; None where not given."""
    given = dict(locals())
    given["cards"] = dict(_pair(text) for text in given.pop("card") or []) or None
    return given


def with_shared(*without: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: the verb takes the shared options (but `without`) beside its own, and gets them as `given`."""

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        own, common = inspect.signature(verb).parameters, inspect.signature(shared).parameters
        kept = [name for name in common if name not in without]

        @functools.wraps(verb)
        def command(**values: Any) -> Any:
            given = shared(**{name: values.pop(name) for name in kept})
            return verb(**values, given=given)

        parameters = [own[name] for name in own if name != "given"] + [common[name] for name in kept]
        hints = {**get_type_hints(shared, include_extras=True), **get_type_hints(verb, include_extras=True)}
        typed = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name]) for each in parameters
        ]
        command.__signature__ = inspect.Signature(typed)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in typed}
        del command.__wrapped__  # type: ignore[attr-defined]
        return command

    return decorate


def _pair(text: str) -> tuple[str, str]:
    from pipeline.errors import SettingsError

    task, equals, name = text.partition("=")
    if not (task and equals and name):
        raise SettingsError(f"--card {text}: write TASK=NAME, for instance alignment=NAME")
    return task, name
