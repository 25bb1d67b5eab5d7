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
    figures: dict[str, Any] = {}
    aligned, buildings = folder / "cadaster_aligned.parquet", folder / "buildings.parquet"
    if aligned.is_file():
        for name, path in (("before", city.cadaster), ("after", aligned)):
            figures[name] = alignment(read_vectors(path), truth, gsd=gsd, key=city.key, area=area)
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

    if "after" in figures:
        _tell_alignment(figures["before"], figures["after"])
    if "buildings" in figures:
        found = figures["buildings"]
        show.say(
            f"Buildings at IoU {found['iou']}: {found['found']} of {found['truths']} found; "
            f"recall {found['recall']:.2f}, precision {found['precision']:.2f}, F1 {found['f1']:.2f}"
        )
    for line in outcome.figures.get("failed", [])[:10]:
        show.say(f"Failed: {line}")
    show.say(f"Products: {outcome.folder}")
    show.say(f"Report:   {outcome.folder / 'report.html'}")
    show.say(ATTRIBUTION)


def _tell_alignment(before: dict[str, Any], after: dict[str, Any]) -> None:
    show.say(
        f"Vertices of {before['buildings']} buildings that lie fully within the image, against their labels\n"
        "(which lie about a pixel off the roofs themselves, see docs/alignment.md):"
    )
    rows = [
        (name, *(f"{each[f'{name}_px']:.1f} px ({each[f'{name}_m']:.2f} m)" for each in (before, after)))
        for name in ("median", "mean")
    ]
    rows += [(f"within {px} px", *(f"{each[f'within_{px}']:.0%}" for each in (before, after))) for px in (1, 2, 4, 8)]
    show.table(rows, ("", "cadaster", "aligned"))
