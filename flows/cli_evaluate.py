"""`resurvey evaluate`: scores of a product against truth, as tables, JSON and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    import geopandas


def evaluate(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="alignment, classification or instances.")],
    pred: Annotated[Path, typer.Option(metavar="FILE", help="The product.")],
    truth: Annotated[Path, typer.Option(metavar="FILE", help="What is true.")],
    before: Annotated[
        Path | None, typer.Option(metavar="FILE", help="alignment: the cadaster as it came, scored beside it.")
    ] = None,
    aoi: Annotated[Path | None, typer.Option(metavar="FILE", help="Area in which the truth is complete.")] = None,
    key: Annotated[str | None, typer.Option(metavar="COLUMN", help="alignment: column that names rows.")] = None,
    gsd: Annotated[float | None, typer.Option(metavar="M", help="alignment: metres a pixel; 1.")] = None,
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="alignment: the image whose pixels are meant, for --gsd.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="alignment: write the accuracy curve here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine output on stdout.")] = False,
) -> int:
    """Score a product against truth."""
    from flows import evaluate as scores
    from flows import show

    if what not in ("alignment", "classification", "instances"):
        raise SettingsError(f"evaluate {what}: there are alignment, classification and instances")
    if what != "alignment":
        own = {"--before": before, "--key": key, "--gsd": gsd, "--image": image, "--plot": plot}
        for option in (name for name, value in own.items() if value is not None):
            raise SettingsError(f"{option}: is for evaluate alignment; leave it out")
    if what == "classification":
        found = scores.classification(pred, truth, area=aoi)
        show.emit(found) if json else show.figures(found)
        return 0
    if plot is not None:
        from flows.evaluate_plot import check_suffix

        check_suffix(plot)
    seen, true = scores.read_vectors(pred), scores.read_vectors(truth)
    area = scores.read_area(aoi, true.crs)
    if what == "instances":
        found = scores.instances(seen, true, area=area)
        show.emit(found) if json else show.figures(found)
        return 0
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
