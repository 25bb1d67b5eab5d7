"""The command line, `resurvey`. Every verb imports what it needs when it runs: help must come at once."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli_evaluate import evaluate
from flows.cli_heights import heights
from flows.options import with_shared
from pipeline.errors import ResurveyError, SettingsError, StoreError

app = typer.Typer(
    name="resurvey",
    help="Re-survey a city from an image: the cadaster moved onto it, the buildings seen in it, what changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(help="The models that are installed.", no_args_is_help=True)
app.add_typer(models_app, name="models")

Image = Annotated[
    str | None, typer.Argument(metavar="IMAGE", help="A raster, URL, Zarr store, STAC item; or CITY.toml.")
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")]
Json = Annotated[bool, typer.Option("--json", help="Machine output on stdout.")]
Direct = Annotated[bool, typer.Option("--direct", help="Run the phases in this process, without Prefect.")]

INTERRUPTED = 130

_at_work: list[Path] = []
"""The run's folder, once known: where the traceback of an unexpected error goes."""


@app.command()
@with_shared()
def run(given: dict[str, Any], image: Image = None, direct: Direct = False, json: Json = False) -> int:
    """Survey a scene: align the cadaster, find buildings, say what changed."""
    from flows import show

    outcome = _survey(_settings(image, given), direct)
    if json:
        show.emit({"exit_status": outcome.exit_status, "folder": outcome.folder, "figures": outcome.figures})
    else:
        show.figures(outcome.figures)
        show.say(f"{'products':<28} {outcome.folder}")
        show.say(f"{'report':<28} {outcome.folder / 'report.html'}")
    return int(outcome.exit_status)


@app.command()
@with_shared()
def plan(
    given: dict[str, Any],
    image: Image = None,
    explain: Annotated[str | None, typer.Option(metavar="TILE", help="Why this tile is due: r0001c0002.")] = None,
    json: Json = False,
) -> int:
    """Say what a run would do and why, from headers and receipts alone."""
    from flows.inspect_run import show_plan

    return show_plan(_settings(image, given), explain, json)


@app.command()
def status(folder: Folder, json: Json = False) -> int:
    """Progress, failures and ETA of a run, live or dead."""
    from flows.inspect_run import show_status

    return show_status(folder, json)


@app.command()
def verify(folder: Folder, json: Json = False) -> int:
    """Check a run's products against its receipts; exit status 0 only if complete and valid."""
    from flows import show
    from pipeline.verify import verify as check

    if not folder.is_dir():
        raise StoreError(f"{folder}: is no folder; name the --out of a run")
    found = check(folder)
    if json:
        show.emit({"complete": found.complete, "problems": found.problems, "checked": found.checked})
    else:
        show.figures(found.checked)
        for problem in found.problems:
            show.say(problem)
        show.say("complete and valid" if found.complete else f"{len(found.problems)} problems")
    return 0 if found.complete else 3


@app.command()
@with_shared("config", "cadaster", "cadaster_crs", "cadaster_layer")
def demo(given: dict[str, Any], direct: Direct = False, json: Json = False) -> int:
    """Run the main job on the demo city and score it against the truth."""
    from catalogs.demo import demo_city
    from flows.demo import score, tell

    city = demo_city()
    settings = _settings(str(city.image), {**given, "cadaster": str(city.cadaster)}, out=Path("resurvey-demo"))
    outcome = _survey(settings, direct)
    tell(city, outcome, score(city, outcome.folder), json)
    return int(outcome.exit_status)


app.command()(evaluate)
app.command()(heights)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="alignment[-scales|-successor|-classes|-roads], classification, instances."
        ),
    ],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder of labelled scenes.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the log, checkpoints and scores.")],
    rounds: Annotated[int, typer.Option(metavar="N", help="Alignment: train, align the labels, N times over.")] = 1,
) -> int:
    """Train a model; further options go to its recipe (add --help after MODEL's own options to see them)."""
    import runpy

    ways = ("alignment", "alignment-scales", "alignment-successor", "alignment-classes", "alignment-roads")
    recipes = (*ways, "classification", "instances")
    if model not in recipes:
        raise SettingsError(f"train {model}: there are {', '.join(recipes)}")
    if not data.is_dir():
        raise SettingsError(f"--data {data}: is no folder of scenes")
    if rounds < 1 or (rounds > 1 and model != "alignment"):
        raise SettingsError(f"--rounds {rounds}: must be at least 1, and more than 1 with alignment only")
    recipe, extra = ("alignment_rounds", ["--rounds", str(rounds)]) if rounds > 1 else (model.replace("-", "_"), [])
    sys.argv = [f"resurvey train {model}", "--data", str(data), "--out", str(out), *extra, *context.args]
    runpy.run_module(f"training.recipes.{recipe}", run_name="__main__", alter_sys=True)
    return 0


ModelsFolder = Annotated[Path | None, typer.Option(metavar="DIR", help="Cards other than the shipped.")]


@models_app.command("list")
def models_list(models: ModelsFolder = None, json: Json = False) -> int:
    """Models, what they are for and where they may be used."""
    from catalogs.cards import list_cards
    from flows import show

    cards = list_cards(models)
    if json:
        show.emit([_card(card) for card in cards])
    elif not cards:
        show.say("no models are installed")
    else:
        rows = [(c.name, c.task, c.bands, f"{c.gsd[0]:g}–{c.gsd[1]:g} m", ", ".join(c.classes)) for c in cards]
        show.table(rows, ("name", "task", "bands", "pixels", "classes"))
    return 0


@models_app.command("show")
def models_show(name: str, models: ModelsFolder = None, json: Json = False) -> int:
    """A model's card: training data, scores, where it fails."""
    from catalogs.cards import load_card
    from flows import show

    card = _card(load_card(name, models))
    show.emit(card) if json else show.figures(card)
    return 0


@models_app.command("verify")
def models_verify(models: ModelsFolder = None) -> int:
    """Check every card and the hash of its weights; exit status 1 if one is wrong."""
    from catalogs.cards import list_cards, verify_card
    from flows import show

    cards = list_cards(models)
    problems = [problem for card in cards for problem in verify_card(card)]
    for problem in problems:
        show.say(problem)
    show.say(f"{len(cards)} models, {len(problems)} problems")
    return 1 if problems else 0


def _card(card: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(card)


def _settings(image: str | None, given: dict[str, Any], out: Path | None = None) -> Any:
    """Settings from the command line; IMAGE may be a TOML file in its place. Notes the run's folder."""
    from pipeline.settings import load

    given = {**given, "out": given.get("out") or out}
    config = given.pop("config", None)
    if image is not None and image.endswith(".toml") and config is None:
        config, image = Path(image), None
    settings = load(config, image=image, **given)
    _at_work.append(settings.out)
    return settings


def _survey(settings: Any, direct: bool) -> Any:
    from flows import show
    from flows.quiet import hush_workers

    hush_workers()
    with show.progress() as progress:
        if direct:
            from pipeline.run import survey

            return survey(settings, progress=progress)
        from flows.survey import survey_recorded

        return survey_recorded(settings, progress=progress)


def main() -> None:
    """Entry point: exit status 0, 1 (input or settings wrong) or 3 (some tiles failed); never a traceback."""
    # A termination ends a run as Ctrl-C does: workers are stopped, Prefect is told, the folder is let go.
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_guarded())


def _terminate(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once: the second must not break the ending of the first
    raise KeyboardInterrupt


def _guarded() -> int:
    try:
        code = app(standalone_mode=False)  # also an exit's status, and typer's own for Ctrl-C
        if code == INTERRUPTED:
            return _interrupted()
        return code if isinstance(code, int) else 0
    except (ResurveyError, typer.exceptions.TyperException) as error:
        said = error.format_message() if isinstance(error, typer.exceptions.TyperException) else str(error)
        sys.stderr.write(f"resurvey: {' '.join(said.split())}\n")
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except Exception as error:
        sys.stderr.write(f"resurvey: unexpected {type(error).__name__}: {_told(error)}\n")
        return 1


def _interrupted() -> int:
    sys.stderr.write("resurvey: interrupted; the same command goes on where it stopped\n")
    return INTERRUPTED


def _told(error: Exception) -> str:
    """Where the traceback was written: beside the run's events, or in a temporary file."""
    import tempfile

    from pipeline.events import FILE, record_crash

    first = (str(error).splitlines() or [""])[0]
    folder = _at_work[-1] if _at_work and (_at_work[-1] / "work").is_dir() else None
    try:
        path = record_crash(folder or Path(tempfile.mkdtemp(prefix="resurvey-")), error)
    except (OSError, ResurveyError):
        return f"{first} (and the traceback could not be written)"
    events = f"{folder / FILE} says when; " if folder else ""
    return f"{first}; {events}traceback in {path}"


if __name__ == "__main__":
    main()
