"""`resurvey evaluate alignment`: figures worked by hand, what is refused, JSON, tables and the plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas
import numpy as np
import pytest
import shapely
from rasterio import open as open_tif
from rasterio.transform import from_origin
from shapely import LineString, Point, Polygon, affinity, box
from typer.testing import CliRunner

from flows import evaluate
from flows.cli import app
from flows.evaluate_alignment import report
from flows.evaluate_plot import accuracy_svg, round_ticks
from pipeline.errors import InputError, ResurveyError

CRS = "EPSG:32645"
EAST, NORTH = 400_000, 3_000_000
SVG = "{http://www.w3.org/2000/svg}"


def frame(shapes: list[Any], crs: str = CRS, **columns: list[Any]) -> geopandas.GeoDataFrame:
    """Shapes in metres; like all here, where UTM 45 is true to 0.04 %."""
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs)


def moved(shapes: list[Any], *shifts: tuple[float, float]) -> list[Any]:
    """Each shape by its own (east, north)."""
    return [affinity.translate(shape, *shift) for shape, shift in zip(shapes, shifts, strict=True)]


SQUARES = [box(EAST + 20 * i, NORTH, EAST + 20 * i + 10, NORTH + 10) for i in range(4)]
TRUTH = frame(SQUARES, key=[1, 2, 3, 4])
BEFORE = frame(moved(SQUARES, *[(6, 8)] * 4), key=[1, 2, 3, 4])
AFTER = frame(
    moved(SQUARES, (0, 0), (1, 0), (0, 2), (6, 8)),
    key=[1, 2, 3, 4], status=["moved", "moved", "moved", "unmoved"], confidence=[1.0, 0.8, 0.5, None],
)  # fmt: skip


def test_in_order_or_by_key() -> None:
    truth = frame([box(0, 0, 10, 10), box(20, 0, 30, 10), box(95, 0, 105, 10)], key=[7, 8, 9])
    there = frame([affinity.translate(shape, 3, 4) for shape in truth.geometry], key=[7, 8, 9])
    found = evaluate.alignment(there, truth, gsd=0.5, key=None)
    assert (found["buildings"], found["median_m"], found["median_px"]) == (3, 5, 10)
    assert (found["within_8"], found["mean_px"]) == (0, 10)
    shuffled = there.iloc[[2, 0, 1]]
    area = box(0, -5, 100, 50)
    by_key = evaluate.alignment(shuffled, truth, gsd=5, key="key", area=area)
    assert (by_key["buildings"], by_key["median_px"], by_key["within_1"]) == (2, 1, 1)
    elsewhere = evaluate.alignment(there.to_crs("EPSG:4326"), truth, gsd=1, key="key")
    assert elsewhere["median_px"] == pytest.approx(5, abs=1e-4)
    by_row = evaluate.alignment(shuffled.assign(input_row=[2, 0, 1]), truth, gsd=1, key=None)
    assert by_row["mean_m"] == 5


def test_what_does_not_correspond_is_refused() -> None:
    with pytest.raises(InputError, match=r"--pred has 1 rows, --truth 4"):
        evaluate.alignment(TRUTH.iloc[:1], TRUTH, gsd=1, key=None)
    with pytest.raises(InputError, match=r"--pred: needs a column 'name'"):
        evaluate.alignment(TRUTH, TRUTH, gsd=1, key="name")
    twice = BEFORE.iloc[[0, 0, 1, 2, 3]]
    with pytest.raises(InputError, match=r"--before: needs a column 'key' of unique values"):
        report(AFTER, TRUTH, gsd=1, key="key", before=twice)
    with pytest.raises(InputError, match=r"--before: has no row with key 3, which --pred has"):
        report(AFTER, TRUTH, gsd=1, key="key", before=BEFORE.iloc[:2])
    triangle = frame([*SQUARES[:3], Polygon([(0, 0), (1, 0), (0, 1)])], key=[1, 2, 3, 4])
    with pytest.raises(InputError, match=r"--pred: row 3 .* has 4 vertices, its truth 5 \(key 4\)"):
        report(triangle, TRUTH, gsd=1, key="key")
    with pytest.raises(InputError, match=r"--before: row 3 .* its truth 5; match rows by a column, --key NAME"):
        report(AFTER, TRUTH, gsd=1, before=triangle)
    with pytest.raises(InputError, match=r"no row of both within --aoi has a vertex"):
        report(AFTER, TRUTH, gsd=1, area=box(0, 0, 1, 1))


def test_a_report_by_hand() -> None:
    found = report(AFTER, TRUTH, gsd=0.5, before=BEFORE)
    assert (found["gsd_m"], found["buildings"], found["vertices"]) == (0.5, 4, 20)
    assert "truths_without_prediction" not in found
    # Errors 0, 1, 2 and 10 m: 0, 2, 4 and 20 px, five vertices each.
    after = found["after"]
    assert (after["median_px"], after["median_m"]) == (3, 1.5)
    assert (after["mean_px"], after["mean_m"]) == (6.5, 3.25)
    assert (after["p90_px"], after["p90_m"]) == (20, 10)
    shares = {name: value for name, value in after.items() if name.startswith("within_")}
    assert shares == {
        "within_0.5_px": 0.25, "within_1_px": 0.25, "within_2_px": 0.5, "within_4_px": 0.75, "within_8_px": 0.75,
        "within_16_px": 0.75,
    }  # fmt: skip
    overlaps = [1, 90 / 110, 80 / 120, 8 / 192]
    assert after["iou_mean"] == pytest.approx(np.mean(overlaps))
    assert after["iou_median"] == pytest.approx(np.median(overlaps))
    assert (after["polygons"], after["invalid_polygons"]) == (4, 0)
    curve = after["curve"]
    assert (curve["threshold_px"][0], curve["threshold_px"][-1], curve["threshold_m"][-1]) == (0.25, 32, 16)
    assert (curve["share"][0], curve["share"][-1]) == (0.25, 1)
    before = found["before"]
    assert (before["median_px"], before["within_16_px"], before["curve"]["share"][-1]) == (20, 0, 1)
    assert before["iou_mean"] == pytest.approx(8 / 192)
    assert found["by_status"] == {
        "moved": {"buildings": 3, "vertices": 15, "median_before_px": 20, "median_before_m": 10, "median_px": 2,
                  "median_m": 1},
        "unmoved": {"buildings": 1, "vertices": 5, "median_before_px": 20, "median_before_m": 10, "median_px": 20,
                    "median_m": 10},
    }  # fmt: skip
    sure = found["confidence"]
    assert (sure["buildings"], sure["within_px"], sure["within_m"]) == (3, 2, 1)
    assert sure["bins"] == [
        {"count": 1, "confidence": 0.5, "share_within": 0}, {"count": 1, "confidence": 0.8, "share_within": 1},
        {"count": 1, "confidence": 1, "share_within": 1},
    ]  # fmt: skip
    assert sure["more_confident_half"] == {"buildings": 2, "median_px": 1, "median_m": 0.5}
    assert sure["rest"] == {"buildings": 1, "median_px": 4, "median_m": 2}


def test_rows_without_a_partner_are_counted() -> None:
    other = AFTER.iloc[1:].assign(key=[2, 3, 9])
    found = report(other.iloc[::-1], TRUTH, gsd=1, key="key", before=BEFORE.iloc[[2, 0, 1, 3]].assign(key=[3, 1, 2, 9]))
    assert (found["truths_without_prediction"], found["predictions_without_truth"]) == (2, 1)
    assert (found["buildings"], found["after"]["mean_m"], found["before"]["mean_m"]) == (2, 1.5, 10)


def test_iou_of_what_is_not_valid_and_of_no_polygons() -> None:
    x, y = EAST, NORTH
    bow = Polygon([(x, y), (x + 10, y + 10), (x + 10, y), (x, y + 10)])  # two triangles of 25 m2
    repaired = shapely.make_valid(bow, method="structure")
    assert repaired.area == 50
    found = report(frame([bow, SQUARES[1]]), frame(SQUARES[:2]), gsd=1)["after"]
    assert (found["iou_mean"], found["polygons"], found["invalid_polygons"]) == (0.5, 2, 1)
    found = report(frame([SQUARES[0], SQUARES[1]]), frame([bow, SQUARES[1]]), gsd=1)["after"]
    assert (found["iou_mean"], found["invalid_polygons"]) == (0.75, 0)
    # Nothing where a truth has no area, or nothing: left out; what lost its shape altogether has no vertices either.
    flat = Polygon([(x, y), (x + 1, y), (x + 2, y), (x + 1, y), (x, y)])
    shapes = [flat, None, Polygon(), SQUARES[3]]
    found = report(frame(shapes), frame(shapes), gsd=1)
    assert (found["buildings"], found["vertices"], found["after"]["polygons"]) == (4, 10, 1)
    lines, points = [LineString([(x, y), (x + 9, y)])], [Point(x, y)]
    for shapes in (lines, points):
        found = report(frame(moved(shapes, (0, 3))), frame(shapes), gsd=1)["after"]
        assert found["median_m"] == 3
        assert not [name for name in found if "iou" in name or "polygons" in name]
    mixed = report(frame(moved([*lines, SQUARES[1]], (0, 3), (5, 0))), frame([*lines, SQUARES[1]]), gsd=1)["after"]
    assert (mixed["polygons"], mixed["iou_mean"]) == (1, pytest.approx(1 / 3))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:2263"])
def test_distances_are_metres_on_the_ground(crs: str) -> None:
    """Degrees, Web Mercator away from the equator, and feet."""
    x, y = (300_000, 4_500_000) if crs == "EPSG:2263" else (EAST, NORTH)
    utm = "EPSG:32618" if crs == "EPSG:2263" else CRS
    truth = frame([box(x, y, x + 10, y + 10)], crs=utm)
    pred = frame([box(x + 6, y + 8, x + 16, y + 18)], crs=utm)
    found = report(pred.to_crs(crs), truth.to_crs(crs), gsd=2)["after"]
    assert found["median_m"] == pytest.approx(10, rel=1e-3)
    assert found["median_px"] == pytest.approx(5, rel=1e-3)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The frames above as files."""
    frames = {"pred": AFTER, "truth": TRUTH, "before": BEFORE}
    for name, each in frames.items():
        each.to_parquet(tmp_path / f"{name}.parquet")
    return {name: str(tmp_path / f"{name}.parquet") for name in frames}


def command(files: dict[str, str], *more: str, truth: str | None = None, what: str = "alignment") -> Any:
    """The result of the verb, run in this process."""
    both = ["--pred", files["pred"], "--truth", truth or files["truth"]]
    return CliRunner().invoke(app, ["evaluate", what, *both, *more])


def test_the_verb_prints_json_and_draws(files: dict[str, str], tmp_path: Path) -> None:
    plot, image = tmp_path / "curve.svg", tmp_path / "image.tif"
    transform = from_origin(EAST, NORTH, 0.5, 0.5)
    with open_tif(image, "w", "GTiff", 16, 16, 1, CRS, transform, "uint8") as tif:
        tif.write(np.ones((1, 16, 16), np.uint8))
    done = command(files, "--before", files["before"], "--image", str(image), "--plot", str(plot), "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert list(found) == ["gsd_m", "buildings", "vertices", "before", "after", "by_status", "confidence"]
    assert (found["gsd_m"], found["before"]["median_px"], found["after"]["median_px"]) == (0.5, 20, 3)
    assert found["after"]["curve"]["share"][-1] == 1
    root = ElementTree.fromstring(plot.read_text())
    lines = {line.get("id"): line.get("points", "").split() for line in root.iter(f"{SVG}polyline")}
    assert {name: len(points) for name, points in lines.items()} == {"before": 29, "after": 29}
    assert lines["after"][-1] == "736.0,108.0"  # all vertices within 32 px: the upper right corner of the axes
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "after: median 3.00 px, 1.50 m" in texts
    assert {"0.25", "32", "100 %", "0.2", "10"} <= set(texts)  # px below, share, metres above


def test_the_verb_prints_tables(files: dict[str, str]) -> None:
    done = command(files, "--before", files["before"], "--gsd", "0.5", "--key", "key")
    assert done.exit_code == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "4 buildings, 20 vertices; 1 px = 0.5 m"
    assert "before 20.00 px (10.00 m) 20.00 px (10.00 m) 20.00 px (10.00 m) 0.042 0.042" in lines
    assert "after 3.00 px (1.50 m) 6.50 px (3.25 m) 20.00 px (10.00 m) 0.632 0.742" in lines
    assert "after 25.0% 25.0% 50.0% 75.0% 75.0% 75.0%" in lines
    assert "moved 3 15 20.00 px (10.00 m) 2.00 px (1.00 m)" in lines
    assert "0.500 0.0% 1" in lines
    assert lines[-1].startswith("The more confident half (2 buildings): median 1.00 px (0.50 m); the rest (1): 4.00 px")
    alone = command(files)
    assert alone.exit_code == 0
    assert "1 px = 1 m" in alone.stdout
    assert "before" not in alone.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--plot", "a.png"], r"--plot a\.png: plots are written as SVG only; name it a\.svg"),
        (["--plot", "nowhere/a.svg"], r"--plot nowhere/a\.svg: cannot be written \(No such file or directory\)"),
        (["--gsd", "0"], r"--gsd 0: must be above 0"),
        (["--gsd", "1", "--image", "a.tif"], r"--gsd and --image: give one of them"),
        (["--image", "nowhere.tif"], r"nowhere\.tif: no such file"),
        (["--key", "id"], r"--pred: needs a column 'id' of unique values"),
        (["--before", "nowhere.parquet"], r"nowhere\.parquet: cannot be read as polygons"),
    ],
)
def test_a_wrong_option_is_said_in_one_line(
    files: dict[str, str], more: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(files, *more)
    assert isinstance(done.exception, ResurveyError)
    with pytest.raises(ResurveyError, match=said):
        raise done.exception
    assert "\n" not in str(done.exception)


def test_a_truth_in_degrees_needs_a_pixel_and_one_without_a_crs_is_refused(
    files: dict[str, str], tmp_path: Path
) -> None:
    degrees, bare = str(tmp_path / "degrees.parquet"), str(tmp_path / "bare.parquet")
    TRUTH.to_crs("EPSG:4326").to_parquet(degrees)
    TRUTH.set_crs(None, allow_override=True).to_parquet(bare)
    done = command(files, truth=degrees)
    assert "degrees.parquet: is in degrees; say how large a pixel is, --gsd M or --image" in str(done.exception)
    done = command(files, "--gsd", "0.5", "--json", truth=degrees)
    assert json.loads(done.stdout)["after"]["mean_px"] == pytest.approx(6.5, rel=1e-3)
    assert "bare.parquet: has no CRS" in str(command(files, truth=bare).exception)


def test_options_of_alignment_are_its_own(files: dict[str, str]) -> None:
    done = command(files, "--gsd", "2", what="instances")
    assert "--gsd: is for evaluate alignment" in str(done.exception)
    done = command(files, "--json", what="instances")
    assert json.loads(done.stdout)["cities"]["truth"]["found"] == 3
    done = command(files, "--pred", files["before"], "--truth", files["truth"])
    assert "--pred: only evaluate instances takes several" in str(done.exception)
    for option in ("--city", "--out"):
        assert f"{option}: is for evaluate instances" in str(command(files, option, "a.gpkg").exception)


def test_the_plot_stays_within_its_axes() -> None:
    """A single series, a median beyond the axis, and ticks over odd ranges."""
    far = frame(moved(SQUARES[:2], (90, 0), (90, 0)))
    root = ElementTree.fromstring(accuracy_svg(report(far, frame(SQUARES[:2]), gsd=1)))
    assert [line.get("id") for line in root.iter(f"{SVG}polyline")] == ["after"]
    dots = [dot for dot in root.iter(f"{SVG}circle") if dot.get("r") == "5"]
    assert not dots
    assert round_ticks(0.0375, 4.8) == [0.05, 0.1, 0.2, 0.5, 1, 2]
    assert round_ticks(0.5, 10) == [0.5, 1, 2, 5, 10]


def test_rows_without_status_or_confidence_are_named() -> None:
    found = report(AFTER.assign(status=[None, "moved", None, None], confidence=np.nan), TRUTH, gsd=1)
    assert {name: each["buildings"] for name, each in found["by_status"].items()} == {"none": 3, "moved": 1}
    assert (found["confidence"]["buildings"], found["confidence"]["bins"]) == (0, [])
    level = report(AFTER.assign(confidence=0.5), TRUTH, gsd=1)["confidence"]
    assert [(each["count"], each["share_within"]) for each in level["bins"]] == [(4, 0.75)]
    assert (level["more_confident_half"]["buildings"], level["rest"]["buildings"]) == (4, 0)
