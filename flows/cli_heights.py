"""`resurvey heights`: heights of buildings from two runs over one place, seen from two sides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.heights import View


def heights(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder of a run.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The same cadaster over another view.")],
    view_a: Annotated[str, typer.Option(metavar="AZ,EL", help="Degrees, from the ground to the satellite.")],
    view_b: Annotated[str, typer.Option(metavar="AZ,EL", help="The same of the other image.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="GeoParquet to write.")],
    base: Annotated[float, typer.Option(metavar="M", help="Least parallax a metre of height.")] = 0.15,
    tallest: Annotated[float, typer.Option(metavar="M", help="Heights are looked for up to here.")] = 60.0,
    field: Annotated[bool, typer.Option("--field", help="From the two alignments alone, images unseen.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> int:
    """Height of every building, with its uncertainty, from two aligned views."""
    from flows import show
    from pipeline.heights_survey import survey_heights

    views = (_view("--view-a", view_a), _view("--view-b", view_b))
    found = survey_heights((run_a, run_b), views, out, least=base, tallest=tallest, by_field=field)
    show.emit(found) if json else show.figures(found)
    return 0


def _view(option: str, text: str) -> View:
    from pipeline.heights import View

    try:
        azimuth, elevation = (float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{option} {text}: write AZIMUTH,ELEVATION in degrees, for instance 150,68") from None
    return View(azimuth, elevation)
