"""`resurvey evaluate instances`: images to cities, and the report as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError


def evaluate_instances(
    pred: Sequence[Path], truth: Sequence[Path], aoi: Sequence[Path], city: Sequence[str], out: Path | None,
    plot: Path | None, json: bool,
) -> int:  # fmt: skip
    """Score each prediction against the truth at the same place in the list; returns the exit status."""
    from flows import show
    from flows.evaluate import read_area, read_vectors
    from flows.evaluate_instances import Judged, judge, report
    from flows.evaluate_verdicts import check_out, verdicts, write_verdicts

    for option, given, few in (("--truth", truth, ()), ("--aoi", aoi, (0, 1)), ("--city", city, (0,))):
        if len(given) != len(pred) and len(given) not in few:
            raise SettingsError(f"{option}: given {len(given)} times for {len(pred)} of --pred; give one for each")
    if out is not None:
        check_out(out)
    areas = list(aoi) * len(pred) if len(aoi) == 1 else list(aoi) or [None] * len(pred)
    cities: dict[str, list[Judged]] = {}
    files: dict[str, list[tuple[Path, Path]]] = {}
    for name, one, true, area in zip(city or _names(pred, truth), pred, truth, areas, strict=True):
        real = read_vectors(true)
        cities.setdefault(name, []).append(judge(read_vectors(one), real, read_area(area, real.crs), str(one)))
        files.setdefault(name, []).append((true, one))
    found = report(cities)
    if out is not None:
        write_verdicts(out, verdicts(cities, files))
    if plot is not None:
        from flows.evaluate_instances_plot import write_plot

        write_plot(plot, found)
    show.emit(found) if json else tell(found)
    return 0


def _names(pred: Sequence[Path], truth: Sequence[Path]) -> list[str]:
    """A city for each image: by the truth's name, or whatever tells them all apart."""
    for files in (truth, pred):
        for names in ([file.stem for file in files], [str(file) for file in files]):
            if len(set(names)) == len(names):
                return names
    raise SettingsError("--pred: the same files are given twice; say with --city what is which")


def tell(found: dict[str, Any]) -> None:
    """The report as tables."""
    from flows import show

    cities = found["cities"]
    for name, each in cities.items():
        for said, key in (("mostly outside --aoi", "outside"), ("without area", "without_area")):
            if each[f"truths_{key}"] or each[f"predictions_{key}"]:
                show.say(f"{name}: {each[f'truths_{key}']} truths and {each[f'predictions_{key}']} predictions {said}: "
                         "set aside")  # fmt: skip
    by = f", the highest {' or '.join(found['ordered_by'])} first" if found["ordered_by"] else ""
    show.say(f"Each truth is found once, by IoU ≥ {found['iou']}{by}")
    show.say("")
    counts = ("truths", "predictions", "found", "missed", "false")
    rates = ("precision", "recall", "f1", "mean_iou")
    rows: list[tuple[Any, ...]] = [
        (name, *(each[count] for count in counts), *(f"{each[rate]:.3f}" for rate in rates))
        for name, each in cities.items()
    ]
    if len(cities) > 1:
        rows.append(("mean", *("" for _ in counts), *(f"{found['mean'][rate]:.3f}" for rate in rates)))
    show.table(rows, ("at IoU 0.5", *counts, "precision", "recall", "F1", "mean IoU"))
    show.say("")
    rates, counts = ("f1_50_95", "pq", "sq", "rq"), ("split", "split_into", "merged", "merged_from")
    rows = [
        (name, *(f"{each[rate]:.3f}" for rate in rates), *(each[count] for count in counts))
        for name, each in cities.items()
    ]
    if len(cities) > 1:
        rows.append(("mean", *(f"{found['mean'][rate]:.3f}" for rate in rates), *("" for _ in counts)))
    show.table(rows, ("told apart", "F1 .5–.95", "PQ", "SQ", "RQ", "split truths", "into", "merging predictions", "of"))
    show.say("")
    by_iou = found["mean"]["by_iou"]
    shown = ("precision", "recall", "f1")
    show.table(
        [(name.replace("f1", "F1"), *(f"{value:.3f}" for value in by_iou[name])) for name in shown],
        ("mean at IoU" if len(cities) > 1 else "at IoU", *(f"{iou:.2f}" for iou in by_iou["iou"])),
    )
