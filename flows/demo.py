"""The demo's scores: the aligned cadaster and the buildings found, against the truth that comes with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import show
from flows.evaluate import alignment, instances, read_vectors

if TYPE_CHECKING:
    from catalogs.demo import DemoCity
    from pipeline.run import Outcome


def score(city: DemoCity, folder: Path) -> dict[str, Any]:
    """Vertex errors before and after, and buildings found at IoU 0.5, for buildings fully within the image."""
    import rasterio
    import shapely

    with rasterio.open(city.image) as image:
        area, gsd = shapely.box(*image.bounds), float(image.res[0])
    truth = read_vectors(city.truth)
    figures = {
        "before": alignment(read_vectors(city.cadaster), truth, gsd=gsd, key=city.key, area=area),
        "after": alignment(
            read_vectors(folder / "cadaster_aligned.parquet"), truth, gsd=gsd, key=city.key, area=area
        ),
    }
    buildings = folder / "buildings.parquet"
    if buildings.is_file():
        figures["buildings"] = instances(read_vectors(buildings), truth, area=area)
    return figures


def tell(city: DemoCity, outcome: Outcome, figures: dict[str, Any], as_json: bool) -> None:
    """Print the figures, and where the outputs and the report are."""
    if as_json:
        show.emit({"exit_status": outcome.exit_status, "folder": outcome.folder, "scores": figures,
                   "figures": outcome.figures})  # fmt: skip
        return
    from catalogs.demo import ATTRIBUTION

    before, after = figures["before"], figures["after"]
    show.say(f"Vertices of {before['buildings']} buildings that lie fully within the image, against the truth:")
    rows = [
        ("median", f"{before['median_px']:.1f} px ({before['median_m']:.2f} m)",
         f"{after['median_px']:.1f} px ({after['median_m']:.2f} m)"),
        ("mean", f"{before['mean_px']:.1f} px ({before['mean_m']:.2f} m)",
         f"{after['mean_px']:.1f} px ({after['mean_m']:.2f} m)"),
    ]  # fmt: skip
    rows += [
        (f"within {px} px", f"{before[f'within_{px}']:.0%}", f"{after[f'within_{px}']:.0%}") for px in (1, 2, 4, 8)
    ]
    show.table(rows, ("", "cadaster", "aligned"))
    if "buildings" in figures:
        found = figures["buildings"]
        show.say(
            f"Buildings at IoU {found['iou']}: {found['found']} of {found['truths']} found; "
            f"recall {found['recall']:.2f}, precision {found['precision']:.2f}, F1 {found['f1']:.2f}"
        )
    show.say(f"Products: {outcome.folder}")
    show.say(f"Report:   {outcome.folder / 'report.html'}")
    show.say(ATTRIBUTION)
