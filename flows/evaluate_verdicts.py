"""What became of every building and every prediction, as a layer to look at: `resurvey evaluate instances --out FILE`.

Rows of both sides, those that do not count too. `verdict`:

    found     has a partner at IoU 0.5
    merged    has none; a truth: lies mostly in a prediction that holds others, too; a prediction: holds several truths
    split     has none; a truth: several predictions lie mostly in it; a prediction: is one of them
    missed    a truth that has none, for no such reason; `false`: a prediction
    outside   set aside by the area of interest; `no area`: null, empty, no polygon
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.evaluate_instances import COUNTS, IOU, Judged
from pipeline.errors import SettingsError
from training.metrics_instances import match, mostly_in, parts

if TYPE_CHECKING:
    import geopandas
    from numpy.typing import NDArray

FATES = ("", "outside", "no area")
"""Verdicts of rows that do not count, by fate; those that count get theirs from the matching."""

WRITERS = {".parquet": None, ".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON"}


def verdicts(cities: Mapping[str, Sequence[Judged]], files: Mapping[str, Sequence[tuple[Path, Path]]]) -> Any:
    """A GeoDataFrame of all rows of both sides: `city`, `side` (truth, prediction), `file`, `row` in that file from 0,
    `verdict`, `match` (the partner's row, null without one), `iou` (with the partner, else the largest there is),
    `parts` (polygons of the other side that lie mostly in this one), geometry.

    `files`: the truth and the prediction of each image of a city. The CRS is the truths', or EPSG:4326 where they
    have several.
    """
    import geopandas
    import pandas

    frames = []
    for city, images in cities.items():
        for image, pair in zip(images, files[city], strict=True):
            sides = zip(("truth", "prediction"), pair, _sides(image), (image.true, image.seen), strict=True)
            for side, file, columns, shapes in sides:
                head = {"city": city, "side": side, "file": str(file), "row": np.arange(len(shapes))}
                frames.append(geopandas.GeoDataFrame({**head, **columns}, geometry=shapes, crs=image.crs))
    crs = frames[0].crs if all(frame.crs == frames[0].crs for frame in frames) else "EPSG:4326"
    return pandas.concat([frame.to_crs(crs) for frame in frames], ignore_index=True)


def write_verdicts(path: Path, rows: geopandas.GeoDataFrame) -> None:
    """Write what `verdicts` gives, in the format that the name says. Raises SettingsError where that cannot be."""
    check_out(path)
    driver = WRITERS[path.suffix.lower()]
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        if driver is None:
            rows.to_parquet(part, compression="zstd", schema_version="1.1.0")
        else:
            # FlatGeobuf indexes no row without a geometry.
            bare = driver == "FlatGeobuf" and rows.geometry.is_empty.any()
            rows.to_file(part, driver=driver, layer="verdicts", **({"SPATIAL_INDEX": "NO"} if bare else {}))
        part.replace(path)
    except Exception as error:  # each writer has its own
        part.unlink(missing_ok=True)
        raise SettingsError(f"--out {path}: cannot be written ({str(error).splitlines()[0]})") from None


def check_out(path: Path) -> None:
    """SettingsError unless verdicts can be written as what the name says, where it says."""
    if path.suffix.lower() not in WRITERS:
        raise SettingsError(f"--out {path}: name a {', '.join(WRITERS)} file")
    if not path.absolute().parent.is_dir():
        raise SettingsError(f"--out {path}: there is no such folder; make it first")


def _sides(image: Judged) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns of every truth and of every prediction of an image."""
    overlaps = image.overlaps
    partner = match(overlaps, IOU, image.order)  # of each prediction; and the other way round:
    finder = np.full(overlaps.truths, -1)
    finder[partner[partner >= 0]] = np.flatnonzero(partner >= 0)
    in_truths, in_predictions = parts(overlaps)
    piece, member = mostly_in(overlaps)
    split, merges = in_truths >= 2, in_predictions >= 2
    is_piece, is_member = np.zeros(overlaps.predictions, bool), np.zeros(overlaps.truths, bool)
    is_piece[overlaps.predicted[piece & split[overlaps.truth]]] = True
    is_member[overlaps.truth[member & merges[overlaps.predicted]]] = True
    paired = partner[overlaps.predicted] == overlaps.truth
    true_rows, seen_rows = (np.flatnonzero(fate == COUNTS) for fate in (image.truth_fate, image.predicted_fate))
    truths = _side(image.truth_fate, finder, seen_rows, in_truths, _causes("missed", is_member, split),
                   _ious(overlaps.truth, overlaps.iou, paired, overlaps.truths))  # fmt: skip
    predictions = _side(image.predicted_fate, partner, true_rows, in_predictions, _causes("false", merges, is_piece),
                        _ious(overlaps.predicted, overlaps.iou, paired, overlaps.predictions))  # fmt: skip
    return truths, predictions


def _causes(alone: str, merged: NDArray[np.bool_], split: NDArray[np.bool_]) -> NDArray[Any]:
    """Why each one has no partner."""
    return np.where(merged, "merged", np.where(split, "split", alone))


def _ious(
    positions: NDArray[np.int64], iou: NDArray[np.float64], paired: NDArray[np.bool_], count: int
) -> NDArray[np.float64]:
    """(count,) IoU with the partner, else the largest."""
    largest = np.zeros(count)
    np.maximum.at(largest, positions, iou)
    largest[positions[paired]] = iou[paired]
    return largest


def _side(
    fate: NDArray[np.int8],
    partner: NDArray[np.int64],
    partner_rows: NDArray[np.int64],
    pieces: NDArray[np.int64],
    cause: NDArray[Any],
    iou: NDArray[np.float64],
) -> dict[str, Any]:
    """From the polygons that count to the rows of a file."""
    import pandas

    counted = fate == COUNTS
    verdict = np.array(FATES, object)[fate]
    verdict[counted] = np.where(partner >= 0, "found", cause)
    rows, ious, inside = np.full(len(fate), -1), np.zeros(len(fate)), np.zeros(len(fate), np.int64)
    rows[np.flatnonzero(counted)[partner >= 0]] = partner_rows[partner[partner >= 0]]
    ious[counted], inside[counted] = iou, pieces
    matched = pandas.Series(rows, dtype="Int64").where(rows >= 0).array
    return {"verdict": verdict, "match": matched, "iou": ious, "parts": inside}
