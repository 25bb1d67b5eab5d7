"""`resurvey evaluate`: scores of a product against truth, as tables, JSON and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    import geopandas

Files = list[Path]

ALIGNMENT = "evaluate alignment"
INSTANCES = "evaluate instances"


def evaluate(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="alignment, classification or instances.")],
    pred: Annotated[Files, typer.Option(metavar="FILE", help="The product. instances: may be repeated.")],
    truth: Annotated[Files, typer.Option(metavar="FILE", help="What is true; one for each --pred.")],
    before: Annotated[
        Path | None, typer.Option(metavar="FILE", help="alignment: the cadaster as it came, scored beside it.")
    ] = None,
    aoi: Annotated[
        Files | None, typer.Option(metavar="FILE", help="Area where the truth is complete; or a raster: its extent.")
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="COLUMN", help="alignment: column that names rows.")] = None,
    gsd: Annotated[float | None, typer.Option(metavar="M", help="alignment: metres a pixel; 1.")] = None,
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="alignment: the image whose pixels are meant, for --gsd.")
    ] = None,
    city: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="instances: the city of each --pred; the same name sums.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="instances: write every row with its verdict: .gpkg, .parquet.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="alignment: the accuracy curve; instances: F1 by IoU.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> int:
    """Score a product against truth."""
    if what not in ("alignment", "classification", "instances"):
        raise SettingsError(f"evaluate {what}: there are alignment, classification and instances")
    own = {ALIGNMENT: {"--before": before, "--key": key, "--gsd": gsd, "--image": image},
           INSTANCES: {"--city": city, "--out": out}}  # fmt: skip
    if what == "classification":
        own[f"{ALIGNMENT} and instances"] = {"--plot": plot}
    for verb in own.keys() - {f"evaluate {what}"}:
        for option in (name for name, value in own[verb].items() if value not in (None, [])):
            raise SettingsError(f"{option}: is for {verb}; leave it out")
    if plot is not None:
        from flows.svg import check_suffix

        check_suffix(plot)
    if what == "instances":
        from flows.cli_evaluate_instances import evaluate_instances

        return evaluate_instances(pred, truth, aoi or [], city or [], out, plot, json)
    for option, files in (("--pred", pred), ("--truth", truth), ("--aoi", aoi or [])):
        if len(files) > 1:
            raise SettingsError(f"{option}: only evaluate instances takes several; give one")
    return _one(what, pred[0], truth[0], aoi[0] if aoi else None, before, key, gsd, image, plot, json)


def _one(
    what: str, pred: Path, truth: Path, aoi: Path | None, before: Path | None, key: str | None, gsd: float | None,
    image: str | None, plot: Path | None, json: bool,
) -> int:  # fmt: skip
    """Alignment or classes of one scene."""
    from flows import evaluate as scores
    from flows import show

    if what == "classification":
        found = scores.classification(pred, truth, area=aoi)
        show.emit(found) if json else show.figures(found)
        return 0
    seen, true = scores.read_vectors(pred), scores.read_vectors(truth)
    area = scores.read_area(aoi, true.crs)
    from flows.evaluate_alignment import report

    came = None if before is None else scores.read_vectors(before)
    found = report(seen, true, gsd=_metres_a_pixel(gsd, image, truth, true), key=key, area=area, before=came)
    if plot is not None:
        from flows.evaluate_plot import write_plot

        write_plot(plot, found)
    show.emit(found) if json else _tell(found)
    return 0


def _metres_a_pixel(gsd: float | None, image: str | None, path: Path, truth: geopandas.GeoDataFrame) -> float:
    """What a px is in metres: given, the image's, or 1 (but not for degrees, where nothing hints at metres)."""
    if gsd is not None and image is not None:
        raise SettingsError("--gsd and --image: give one of them, both say how large a pixel is")
    if image is not None:
        from pipeline.raster import open_raster

        across, down = open_raster(image).gsd
        return float((across * down) ** 0.5)
    if gsd is None:
        if truth.crs.is_geographic:
            raise SettingsError(f"{path}: is in degrees; say how large a pixel is, --gsd M or --image IMAGE")
        return 1.0
    if not 0 < gsd < float("inf"):
        raise SettingsError(f"--gsd {gsd:g}: must be above 0, metres a pixel")
    return gsd


def _tell(found: dict[str, Any]) -> None:
    """The report as tables."""
    from flows import show

    after = found["after"]
    named = {name: found[name] for name in ("before", "after") if name in found}
    show.say(f"{found['buildings']} buildings, {found['vertices']} vertices; 1 px = {found['gsd_m']:.4g} m")
    left = {"truths without a row of --pred": "truths_without_prediction", "rows without a truth":
            "predictions_without_truth"}  # fmt: skip
    for text, name in left.items():
        if found.get(name):
            show.say(f"{found[name]} {text}: set aside")
    show.say("")
    overlap = [name for name in ("iou_mean", "iou_median") if name in after]
    show.table(
        [
            (
                name,
                *(_distance(each, figure) for figure in ("median", "mean", "p90")),
                *(f"{each[figure]:.3f}" for figure in overlap),
            )
            for name, each in named.items()
        ],
        ("error", "median", "mean", "90th percentile", *(f"IoU {figure[4:]}" for figure in overlap)),
    )
    invalid = {name: each["invalid_polygons"] for name, each in named.items() if each.get("invalid_polygons")}
    for name, count in invalid.items():
        show.say(f"{name}: {count} of {named[name]['polygons']} polygons are not valid; their IoU counts as 0")
    show.say("")
    within = [name for name in after if name.startswith("within_")]
    show.table(
        [(name, *(f"{each[share]:.1%}" for share in within)) for name, each in named.items()],
        ("vertices within", *(name.removeprefix("within_").replace("_", " ") for name in within)),
    )
    if "by_status" in found:
        _tell_status(found["by_status"])
    if "confidence" in found:
        _tell_confidence(found["confidence"])


def _distance(figures: dict[str, Any], name: str) -> str:
    return f"{figures[f'{name}_px']:.2f} px ({figures[f'{name}_m']:.2f} m)"


def _tell_status(found: dict[str, Any]) -> None:
    from flows import show

    medians = [name for name in ("median_before", "median") if f"{name}_px" in next(iter(found.values()))]
    show.say("")
    show.table(
        [
            (status, each["buildings"], each["vertices"], *(_distance(each, name) for name in medians))
            for status, each in found.items()
        ],
        ("status", "buildings", "vertices", *(name.replace("_", " ") for name in medians)),
    )


def _tell_confidence(found: dict[str, Any]) -> None:
    from flows import show

    show.say("")
    if not found["bins"]:
        show.say("no row has a confidence")
        return
    wide = f"mean vertex error ≤ {found['within_px']:g} px"
    rows = [(f"{each['confidence']:.3f}", f"{each['share_within']:.1%}", each["count"]) for each in found["bins"]]
    show.table(rows, ("mean confidence", wide, "buildings"))
    sure, rest = found["more_confident_half"], found["rest"]
    said = f"The more confident half ({sure['buildings']} buildings): median {_distance(sure, 'median')}"
    more = f"; the rest ({rest['buildings']}): {_distance(rest, 'median')}" if rest["buildings"] else ""
    show.say(said + more)
