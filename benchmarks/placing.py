"""Where buildings truly lie in the image: polygons of evaluation areas placed by eye, blind to labels and methods.

    python -m benchmarks.placing --data DIR draw --out READER-PART --shard K/N    # pictures of round 1
    python -m benchmarks.placing --data DIR again --out READER-PART               # pictures of the next round
    python -m benchmarks.placing --data DIR gather READER-PART ... --json benchmarks/placed.json

Labels lie off from the image by a pixel or two, which is more than good methods differ by. So a sample of each area's
polygons was placed again: a reader sees the building with the polygon put off by a random shift of its own (so neither
where the label lay nor where any method puts it can be seen), says by how many px it must move to fit the roof's
outline in the image, sees it there, and corrects it in further rounds. Two readers who do not know of each other read
every building, from different shifts; buildings that one of them could not read, or on which they differ by more than
APART px, are left out and counted. Shapes are not touched: what is read is one shift a polygon. Drawn buildings, whose
place is known exactly, lie among the real ones, and say how well readers read.

Each round writes NNN.png and readings.csv: fill `right` and `down` (px of the image, to a quarter), or `?`.
"""

from __future__ import annotations

import argparse
import csv
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.placed import AREAS, TRAINED_ON, TRAINING, case_of, rings_of, sample
from training.align_chain import Case

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

START = 4.0
"""px, per axis, by which polygons are put off at most before a reader sees them."""
ENOUGH = 0.5
"""px: a correction smaller than this is a polygon's last."""
LARGE = 40.0
"""px: a polygon wider than this has a picture to itself."""
PANEL, SIDE_PANEL = (490, 480), 24.0
"""Width and height of a small polygon's panel, and the px of the image that a large one's side panels show."""
INK = (255, 0, 255)
READ, SHOWN = ("picture", "panel", "right", "down"), ("picture", "panel", "area", "polygon", "x", "y")
"""Columns of readings.csv, which a reader fills, and of shown.csv, which no reader looks at."""


@dataclass(frozen=True, slots=True)
class View:
    """A picture of part of the image: its corner (2,) px, and screen px a px."""

    corner: Array
    scale: float
    width: int
    height: int

    def screen(self, xy: Array) -> NDArray[np.int32]:
        """Points (n, 2) px on the screen, in sixteenths for OpenCV, whose whole numbers are centres of pixels."""
        return np.round(((xy - self.corner) * self.scale - 0.5) * 16).astype(np.int32)


def panel(image: Image, rings: Sequence[Array], view: View) -> Image:
    """Part of an image (h, w, 3) with rings (n, 2) px drawn over it and a ruler of px along its edges."""
    matrix = np.array([[view.scale, 0, 0], [0, view.scale, 0]], np.float64)
    matrix[:, 2] = 0.5 * view.scale - 0.5 - view.corner * view.scale
    flags = cv2.INTER_CUBIC
    drawn = cv2.warpAffine(image, matrix, (view.width, view.height), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    cv2.polylines(drawn, [view.screen(ring)[:, None] for ring in rings], True, INK, 1, cv2.LINE_AA, 4)
    for axis, length in enumerate((view.width, view.height)):
        for px in range(1, int(length / view.scale) + 1):
            at, long = round(px * view.scale), (16 if px % 10 == 0 else 10 if px % 5 == 0 else 5)
            ends = ((at, 0), (at, long)) if axis == 0 else ((0, at), (long, at))
            cv2.line(drawn, *ends, (255, 255, 255), 1)
            if px % 10 == 0:
                place = (at + 2, 24) if axis == 0 else (18, at + 4)
                cv2.putText(drawn, str(px), place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (255, 255, 255), 1, cv2.LINE_AA)
    cv2.rectangle(drawn, (0, 0), (view.width - 1, view.height - 1), (0, 0, 0), 2)
    return drawn


def around(centre: Array, width: int, height: int, scale: float) -> View:
    """The view of a panel about a point."""
    return View(centre - np.array([width, height]) / scale / 2, scale, width, height)


def small_panel(image: Image, rings: Sequence[Array]) -> Image:
    """A small polygon, with 14 px about it."""
    low, high = rings[0].min(0), rings[0].max(0)
    scale = min(float((np.array(PANEL) / (high - low + 28)).min()), 16.0)
    return panel(image, rings, around((low + high) / 2, *PANEL, scale))


def large_picture(image: Image, rings: Sequence[Array]) -> Image:
    """A large polygon whole, and beside it the places where it reaches farthest left, right, up and down."""
    low, high = rings[0].min(0), rings[0].max(0)
    scale = float((np.array([800, 960]) / (high - low + 24)).min())
    whole = panel(image, rings, around((low + high) / 2, 800, 960, scale))
    middles = (rings[0] + np.roll(rings[0], -1, axis=0)) / 2  # of its sides: corners are drawn rounder than they are
    ends = (middles[:, 0].argmin(), middles[:, 0].argmax(), middles[:, 1].argmin(), middles[:, 1].argmax())
    sides = [panel(image, rings, around(middles[k], 340, 480, 340 / SIDE_PANEL)) for k in ends]
    return np.hstack([whole, np.vstack([np.hstack(sides[:2]), np.hstack(sides[2:])])])


def image_of(case: Case) -> Image:
    """The bands of a case as a picture (h, w, 3), blue first."""
    bands = case.bands[1] if len(case.bands[1]) == 3 else np.repeat(case.bands[1][:1], 3, axis=0)
    return np.ascontiguousarray(np.round(255 * bands[::-1].transpose(1, 2, 0)).astype(np.uint8))


def draw(rows: Sequence[dict[str, Any]], cases: dict[str, Case], folder: Path) -> None:
    """Pictures of a round, its readings.csv to fill and its shown.csv. `rows`: area, polygon, the shift x, y drawn."""
    folder.mkdir(parents=True)
    images = {name: image_of(case) for name, case in cases.items()}
    filled, picture = [], 0
    small: list[tuple[dict[str, Any], Image]] = []

    def close() -> None:
        nonlocal picture
        if small:
            blank = np.zeros((PANEL[1], PANEL[0], 3), np.uint8)
            panels = [each for _, each in small] + [blank] * (6 - len(small))
            cv2.imwrite(str(folder / f"{picture:03d}.png"), np.vstack([np.hstack(panels[:3]), np.hstack(panels[3:])]))
            filled.extend({**row, "picture": f"{picture:03d}", "panel": k + 1} for k, (row, _) in enumerate(small))
            picture += 1
            small.clear()

    for row in rows:
        rings = [ring + (row["x"], row["y"]) for ring in rings_of(cases[row["area"]], row["polygon"])]
        image = images[row["area"]]
        if np.ptp(rings[0], axis=0).max() > LARGE:
            cv2.imwrite(str(folder / f"{picture:03d}.png"), large_picture(image, rings))
            filled.append({**row, "picture": f"{picture:03d}", "panel": ""})
            picture += 1
            continue
        each = small_panel(image, rings)
        cv2.putText(each, str(len(small) + 1), (460, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 255, 255), 2, cv2.LINE_AA)
        small.append((row, each))
        if len(small) == 6:
            close()
    close()
    for name, columns in (("readings.csv", READ), ("shown.csv", SHOWN)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(filled)


def first(data: Path, out: Path, reader: str, shard: tuple[int, int], areas: Sequence[str]) -> None:
    """Pictures of the first round: this shard of every area's sample in any order, each put off by a shift."""
    rows, cases = [], {}
    for name in areas:
        case = cases[name] = case_of(name, data)
        rng = np.random.default_rng(zlib.crc32(f"{name} {reader}".encode()))
        for count, polygon in enumerate(sample(name, case)):
            x, y = rng.uniform(-START, START, 2)
            if count % shard[1] == shard[0]:
                rows.append({"area": name, "polygon": polygon, "x": float(x), "y": float(y)})
    np.random.default_rng(zlib.crc32(reader.encode())).shuffle(rows)  # type: ignore[arg-type]
    draw(rows, cases, out / "round1")


def rounds(out: Path) -> list[list[dict[str, Any]]]:
    """The readings of a reader's rounds, filled."""
    found = []
    for folder in sorted(out.glob("round*")):
        rows = []
        for name in ("shown.csv", "readings.csv"):
            with (folder / name).open(newline="", encoding="utf-8") as file:
                rows.append({(row["picture"], row["panel"]): row for row in csv.DictReader(file)})
        found.append([row | rows[1].get(place, {"right": "", "down": ""}) for place, row in rows[0].items()])
    return found


def shifts(readings: Sequence[Sequence[dict[str, Any]]]) -> dict[tuple[str, int], tuple[float, float, float] | None]:
    """By area and polygon: the shift (x, y) that the reader ended with and the length of the last correction, px; None
    where it could not be read. Raises SystemExit where a row is not filled."""
    found: dict[tuple[str, int], tuple[float, float, float] | None] = {}
    for number, rows in enumerate(readings, 1):
        for row in rows:
            key = row["area"], int(row["polygon"])
            if "?" in row["right"] + row["down"]:
                found[key] = None
                continue
            try:
                right, down = float(row["right"]), float(row["down"])
            except ValueError:
                where = f"round {number}, picture {row['picture']}, panel {row['panel']}"
                raise SystemExit(f"{where}: `right` and `down` are to be px or ?") from None
            found[key] = float(row["x"]) + right, float(row["y"]) + down, float(np.hypot(right, down))
    return found


def again(data: Path, out: Path) -> int:
    """Pictures of the next round: what the last correction still moved by more than ENOUGH. Returns how many."""
    found = shifts(rounds(out))
    rows = [
        {"area": area, "polygon": polygon, "x": place[0], "y": place[1]}
        for (area, polygon), place in found.items()
        if place is not None and place[2] > ENOUGH
    ]
    if rows:
        cases = {name: case_of(name, data) for name in dict.fromkeys(row["area"] for row in rows)}
        draw(rows, cases, out / f"round{len(rounds(out)) + 1}")
    return len(rows)


def gather(data: Path, folders: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """By area: polygon, its vertices and the corner of its box in the case (so that other data are noticed), and the
    shift that each reader found who was shown it, None where one could not."""
    readers: dict[str, dict[tuple[str, int], Any]] = {}
    for folder in folders:
        readers.setdefault(folder.name.split("-")[0], {}).update(shifts(rounds(folder)))
    result: dict[str, list[dict[str, Any]]] = {}
    for name in sorted({area for reader in readers.values() for area, _ in reader}):
        case = case_of(name, data)
        for polygon in sample(name, case):
            rings = rings_of(case, polygon)
            found = [reader[name, polygon] for reader in readers.values() if (name, polygon) in reader]
            result.setdefault(name, []).append({
                "polygon": polygon,
                "vertices": sum(map(len, rings)),
                "corner": rings[0].min(0).round(2).tolist(),
                "shifts": [None if place is None else [round(place[0], 2), round(place[1], 2)] for place in found],
            })  # fmt: skip
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: pictures of a round, or all readings in one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of scenes: NAME/NAME.tif and its labels")
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("draw", help="pictures of a reader's first round")
    one.add_argument("--out", type=Path, required=True, help="READER-SHARD")
    one.add_argument("--shard", default="0/1", help="K/N: of every N polygons the K-th, from 0")
    one.add_argument("--training", action="store_true", help="polygons of training areas instead")
    two = verbs.add_parser("again", help="pictures of the next round")
    two.add_argument("--out", type=Path, required=True)
    three = verbs.add_parser("gather", help="readings of all readers in one file")
    three.add_argument("folders", type=Path, nargs="+")
    three.add_argument("--json", type=Path, required=True)
    given = parser.parse_args(arguments)
    if given.verb == "draw":
        part, parts = map(int, given.shard.split("/"))
        areas = [name + TRAINED_ON for name in TRAINING] if given.training else AREAS
        first(given.data, given.out, given.out.name.split("-")[0], (part, parts), areas)
    elif given.verb == "again":
        print(again(given.data, given.out), "polygons to see again")
    else:
        given.json.write_text(json.dumps(gather(given.data, given.folders), indent=None) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
