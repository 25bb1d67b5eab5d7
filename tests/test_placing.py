"""Reading buildings by eye: the pictures show a polygon put off by a shift that no reader sees, and readings add up."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import placing
from benchmarks.placed import Placed, case_of, placed_in, rings_of, sample
from benchmarks.placing import again, draw, gather, rounds, shifts

CITY = "city 1.0"


def fill(folder: Path, value: tuple[str, str], first: tuple[str, str] | None = None) -> None:
    """Fill a round's readings alike, but the `first`."""
    path = folder / "readings.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"picture", "panel", "right", "down"}  # where it was put off to stands elsewhere
    for k, row in enumerate(rows):
        row["right"], row["down"] = first if first and k == 0 else value
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_readings_of_all_rounds_add_up_and_are_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(CITY, tmp_path)
    polygons = sample(CITY, case)[:3]
    monkeypatch.setattr(placing, "sample", lambda name, case: polygons)
    for reader, start in (("ann-0", (2.0, -1.0)), ("bob-0", (-1.0, 0.5))):
        rows = [{"area": CITY, "polygon": k, "x": start[0], "y": start[1]} for k in polygons]
        draw(rows, {CITY: case}, tmp_path / reader / "round1")
        with pytest.raises(SystemExit, match=r"round 1, picture 000, panel 1: .*px or \?"):
            shifts(rounds(tmp_path / reader))
        fill(tmp_path / reader / "round1", (f"{-start[0]}", f"{0.5 - start[1]}"), ("?", ""))
        assert again(tmp_path, tmp_path / reader) == 2
        fill(tmp_path / reader / "round2", ("0.25", "0"))
        assert again(tmp_path, tmp_path / reader) == 0
    found = gather(tmp_path, [tmp_path / "ann-0", tmp_path / "bob-0"])[CITY]
    assert [row["shifts"] for row in found] == [[None, None], *[[[0.25, 0.5], [0.25, 0.5]]] * 2]
    assert [row["polygon"] for row in found] == polygons
    assert found[0]["corner"] == rings_of(case, polygons[0])[0].min(0).round(2).tolist()


def test_the_polygon_is_drawn_where_it_was_put_off_to(tmp_path: Path) -> None:
    """The magenta line's middle lies in the middle of its panel, whatever the shift: it tells nothing of the label."""
    case = case_of(CITY, tmp_path)
    polygon = sample(CITY, case)[0]
    for k, shift in enumerate(((0.0, 0.0), (3.0, -2.0))):
        draw([{"area": CITY, "polygon": polygon, "x": shift[0], "y": shift[1]}], {CITY: case}, tmp_path / str(k))
        picture = cv2.imread(str(tmp_path / str(k) / "000.png"))[: placing.PANEL[1], : placing.PANEL[0]].astype(int)
        y, x = np.nonzero(picture[..., [0, 2]].min(axis=2) - picture[..., 1] > 130)  # magenta, at most half mixed
        assert ((x.min() + x.max()) / 2, (y.min() + y.max()) / 2) == pytest.approx(np.array(placing.PANEL) / 2, abs=3)


def test_the_shipped_readings_are_of_the_drawn_cities_houses(tmp_path: Path) -> None:
    """What can be checked without the scenes: drawn houses lie where they are, and readers saw that to half a pixel."""
    case = case_of(CITY, tmp_path)
    found = placed_in(case)
    assert isinstance(found, Placed) and len(found.polygons) >= 12
    assert np.median(np.hypot(*found.shifts.T)) < 0.5 and (found.apart <= 2).all()
