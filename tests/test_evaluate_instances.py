"""`resurvey evaluate instances`: what counts, cities, CRSs, verdicts, tables, JSON, the plot, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from shapely import LineString, MultiPolygon, Polygon, affinity, box
from typer.testing import CliRunner

from flows.cli import app
from flows.evaluate_instances import ASIDE, COUNTS, NO_AREA, figures, judge, report
from flows.evaluate_verdicts import verdicts
from pipeline.errors import InputError, ResurveyError
from tests.test_metrics_instances_independent import CONFIDENCE, PREDICTIONS, TRUTHS

CRS = "EPSG:32645"
EAST, NORTH = 400_000, 3_000_000


def frame(shapes: list[Any], crs: str = CRS, **columns: Any) -> geopandas.GeoDataFrame:
    """Shapes in metres from a place in Nepal."""
    world = [None if shape is None else affinity.translate(shape, EAST, NORTH) for shape in shapes]
    return geopandas.GeoDataFrame(columns, geometry=world, crs=CRS).to_crs(crs)


TRUTH = frame([box(*each) for each in TRUTHS])
SEEN = frame([box(*each) for each in PREDICTIONS], score=CONFIDENCE)


def test_the_case_by_hand() -> None:
    """Its arithmetic stands in test_metrics_instances_independent."""
    found = figures([judge(SEEN, TRUTH)])
    assert [found[name] for name in ("truths", "predictions", "found", "missed", "false")] == [6, 7, 3, 3, 4]
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((3 / 7, 3 / 6, 6 / 13))
    assert (found["precision_50_95"], found["recall_50_95"], found["f1_50_95"]) == pytest.approx(
        (17 / 70, 17 / 60, 34 / 130)
    )
    assert (found["pq"], found["sq"], found["rq"]) == pytest.approx((2.8 / 13, 0.7, 4 / 13))
    assert found["mean_iou"] == pytest.approx(1.9 / 3)
    assert [found[name] for name in ("split", "split_into", "merged", "merged_from")] == [2, 4, 1, 2]
    assert found["by_iou"]["recall"] == pytest.approx([n / 6 for n in (3, 2, 2, 2, 2, 2, 2, 1, 1, 0)])


def test_confidence_goes_first_and_score_next() -> None:
    by_row = figures([judge(SEEN.drop(columns="score"), TRUTH)])
    assert by_row["mean_iou"] == pytest.approx(2.2 / 3)  # f before g
    both = judge(SEEN.assign(confidence=[None, 1, 1, 1, 1, 0.5, None]), TRUTH)
    assert both.ordered_by == "confidence" and figures([both])["mean_iou"] == pytest.approx(2.2 / 3)
    with pytest.raises(InputError, match=r"--pred: column 'score' orders the matching, and is not numbers"):
        judge(SEEN.assign(score="high"), TRUTH)


def test_verdicts_of_the_case_by_hand(tmp_path: Path) -> None:
    rows = verdicts({"x": [judge(SEEN, TRUTH)]}, {"x": [(tmp_path / "t", tmp_path / "p")]})
    truth, seen = rows[rows["side"] == "truth"], rows[rows["side"] == "prediction"]
    assert truth["verdict"].tolist() == ["found", "found", "merged", "merged", "missed", "found"]
    assert seen["verdict"].tolist() == ["found", "split", "found", "merged", "split", "found", "false"]
    assert truth["match"].fillna(-1).tolist() == [0, 2, -1, -1, -1, 5]
    assert seen["match"].fillna(-1).tolist() == [0, -1, 1, -1, -1, 5, -1]
    assert truth["iou"].tolist() == pytest.approx([0.8, 0.5, 100 / 220, 100 / 220, 0, 0.6])
    assert seen["iou"].tolist() == pytest.approx([0.8, 0.45, 0.5, 100 / 220, 0.9, 0.6, 0])
    assert truth["parts"].tolist() == [1, 2, 0, 0, 0, 2] and seen["parts"].tolist() == [1, 0, 0, 2, 1, 1, 0]
    assert rows.crs == CRS and rows["file"].unique().tolist() == [str(tmp_path / "t"), str(tmp_path / "p")]


def test_what_counts_in_an_area() -> None:
    area = affinity.translate(box(0, 0, 100, 100), EAST, NORTH)
    truth = frame([
        box(10, 10, 20, 20),
        box(94, 10, 104, 20),  # 6 of 10 inside: counts
        box(96, 40, 106, 50),  # 4 of 10: set aside
        box(95, 60, 105, 70),  # exactly half: set aside
        Polygon(), None, LineString([(1, 1), (5, 5)]),  # no area
    ])  # fmt: skip
    seen = frame([
        box(10, 10, 20, 20),
        box(95, 10, 105, 20),  # itself only half inside, but 9 of 10 on a truth that counts: found at 9/11
        box(94, 40, 100, 50),  # inside, 4 of 6 on a truth that is set aside: neither found nor false
        box(92, 60, 100, 70),  # inside, 5 of 8 on the other one
        box(96, 80, 106, 90),  # on nothing, 4 of 10 inside: set aside
        box(94, 90, 104, 96),  # on nothing, 6 of 10 inside: false
        Polygon(),
    ])  # fmt: skip
    judged = judge(seen, truth, area)
    assert judged.truth_fate.tolist() == [COUNTS, COUNTS, ASIDE, ASIDE, NO_AREA, NO_AREA, NO_AREA]
    assert judged.predicted_fate.tolist() == [COUNTS, COUNTS, ASIDE, ASIDE, ASIDE, COUNTS, NO_AREA]
    found = figures([judged])
    assert [found[name] for name in ("truths", "predictions", "found", "missed", "false")] == [2, 3, 2, 0, 1]
    assert found["mean_iou"] == pytest.approx((1 + 9 / 11) / 2)
    assert (found["truths_outside"], found["predictions_outside"]) == (2, 3)
    assert (found["truths_without_area"], found["predictions_without_area"]) == (3, 1)
    rows = verdicts({"x": [judged]}, {"x": [(Path("t"), Path("p"))]})
    assert rows["verdict"].tolist() == [
        "found", "found", "outside", "outside", "no area", "no area", "no area",
        "found", "found", "outside", "outside", "outside", "false", "no area",
    ]  # fmt: skip
    assert rows["match"].fillna(-1).tolist()[7:9] == [0, 1]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32644"])
def test_another_crs_is_reprojected(crs: str) -> None:
    expected = figures([judge(SEEN, TRUTH)])
    for seen, truth in ((SEEN.to_crs(crs), TRUTH), (SEEN, TRUTH.to_crs(crs))):
        found = figures([judge(seen, truth)])
        # Away from the case's own IoU of .5, .6, .8 and .9, which may come out a hair below.
        assert [found["by_iou"]["recall"][k] for k in (1, 3, 7, 9)] == [2 / 6, 2 / 6, 1 / 6, 0]
        assert sum(each >= 2 / 6 for each in found["by_iou"]["recall"]) >= 6
        assert (found["split"], found["merged"]) == (expected["split"], expected["merged"])


def test_nothing_on_either_side() -> None:
    for seen, truth in ((SEEN[:0], TRUTH), (SEEN, TRUTH[:0]), (SEEN[:0], TRUTH[:0])):
        found = report({"x": [judge(seen, truth)]})
        each = found["cities"]["x"]
        assert (each["predictions"], each["truths"], each["f1"], each["pq"]) == (len(seen), len(truth), 0, 0)
        assert found["mean"]["f1_50_95"] == 0 and found["mean"]["mean_iou"] == 0
        rows = verdicts({"x": [judge(seen, truth)]}, {"x": [(Path("t"), Path("p"))]})
        assert set(rows["verdict"]) <= {"missed", "false"} and len(rows) == len(seen) + len(truth)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the case as files, to work in."""
    monkeypatch.chdir(tmp_path)
    TRUTH.to_parquet("truth.parquet")
    SEEN.to_file("seen.gpkg")
    TRUTH[:1].to_crs("EPSG:4326").to_parquet("small.parquet")
    return tmp_path


def run(*arguments: str) -> Any:
    """The verb with these arguments, in this process."""
    return CliRunner().invoke(app, ["evaluate", "instances", *arguments])


CASE = ("--pred", "seen.gpkg", "--truth", "truth.parquet")
PERFECT = ("--pred", "small.parquet", "--truth", "small.parquet")


def test_images_of_a_city_sum_and_cities_are_averaged(folder: Path) -> None:
    done = run(*CASE, *PERFECT, *PERFECT, "--city", "Vegas", "--city", "Vegas", "--city", "Paris", "--json",
               "--out", "rows.geojson")  # fmt: skip
    found = json.loads(done.stdout)
    vegas, paris = found["cities"]["Vegas"], found["cities"]["Paris"]
    assert (vegas["images"], vegas["found"], vegas["missed"], vegas["false"]) == (2, 4, 3, 4)
    assert vegas["f1"] == pytest.approx(8 / 15) and paris["f1"] == 1
    assert found["mean"]["f1"] == pytest.approx((8 / 15 + 1) / 2)
    assert found["mean"]["pq"] == pytest.approx((vegas["pq"] + 1) / 2)
    assert found["ordered_by"] == ["score"]
    rows = geopandas.read_file("rows.geojson")
    assert rows.crs == "EPSG:4326" and len(rows) == 13 + 2 + 2
    assert rows.groupby("city").size().to_dict() == {"Paris": 2, "Vegas": 15}


def test_tables_and_the_plot(folder: Path) -> None:
    done = run(*CASE, "--plot", "one.svg")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "Each truth is found once, by IoU ≥ 0.5, the highest score first"
    assert "truth 6 7 3 3 4 0.429 0.500 0.462 0.633" in lines
    assert "truth 0.262 0.215 0.700 0.308 2 4 1 2" in lines
    assert "F1 0.462 0.308 0.308 0.308 0.308 0.308 0.308 0.154 0.154 0.000" in lines
    assert not any(line.startswith("mean") for line in lines)
    several = run(*CASE, *PERFECT, "--plot", "two.svg")
    lines = [" ".join(line.split()) for line in several.stdout.splitlines()]
    assert "mean 0.714 0.750 0.731 0.817" in lines  # the case's and 1
    for name, titles in (("one", ["F1", "precision", "recall"]), ("two", ["mean of cities", "truth", "small"])):
        root = ElementTree.fromstring(Path(f"{name}.svg").read_text())
        curves = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
        assert [curve[0].text for curve in curves] == titles
        assert all(len(curve.get("points", "").split()) == 10 for curve in curves)


@pytest.mark.parametrize("name", ["rows.gpkg", "rows.parquet", "rows.fgb"])
def test_verdicts_as_a_file(folder: Path, name: str) -> None:
    parts = MultiPolygon([box(*TRUTHS[0]), box(*TRUTHS[4])])
    frame([*(box(*each) for each in TRUTHS[1:]), parts, None, Polygon()]).to_parquet("truth.parquet")
    for _ in range(2):  # the second time over the first
        assert run(*CASE, "--out", name).exit_code == 0
    rows = geopandas.read_parquet(name) if name.endswith(".parquet") else geopandas.read_file(name)
    assert rows.crs == CRS and len(rows) == 8 + 7
    truth = rows[rows["side"] == "truth"].set_index("row")
    assert truth["verdict"].to_dict() == {0: "found", 1: "merged", 2: "merged", 3: "missed", 4: "found",
                                          5: "missed", 6: "no area", 7: "no area"}  # fmt: skip
    assert truth["match"].fillna(-1).to_dict() == {0: 2, 1: -1, 2: -1, 3: -1, 4: 5, 5: -1, 6: -1, 7: -1}
    assert sorted(path.name for path in folder.glob("rows*")) == [name]


def test_the_area_may_be_an_image(folder: Path) -> None:
    with rasterio.open("a.tif", "w", "GTiff", 95, 20, 1, CRS, from_origin(EAST, NORTH + 15, 1, 1), "uint8") as tif:
        tif.write(np.ones((1, 20, 95), np.uint8))
    done = run(*CASE, "--aoi", "a.tif")
    assert "truth: 1 truths and 3 predictions mostly outside --aoi: set aside" in done.stdout
    found = json.loads(run(*CASE, "--aoi", "a.tif", "--json").stdout)["cities"]["truth"]
    assert (found["truths"], found["predictions"], found["found"]) == (5, 4, 2)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--pred", "a.gpkg"], "--truth: given 1 times for 2 of --pred; give one for each"),
        ([*PERFECT, "--city", "Vegas"], "--city: given 1 times for 2 of --pred"),
        ([*PERFECT, *PERFECT, "--aoi", "a", "--aoi", "b"], "--aoi: given 2 times for 3 of --pred"),
        ([*PERFECT, *PERFECT], "--pred: the same files are given twice; say with --city what is which"),
        (["--aoi", "nowhere.gpkg"], "nowhere.gpkg: cannot be read as polygons"),
        (["--aoi", "nowhere.tif"], "nowhere.tif: cannot be read as an image"),
        (["--aoi", "line.parquet"], "line.parquet: has no polygon; --aoi is the area in which the truth is complete"),
        (["--out", "rows.shp"], "--out rows.shp: name a .parquet, .gpkg, .fgb, .geojson file"),
        (["--out", "nowhere/rows.gpkg"], "--out nowhere/rows.gpkg: there is no such folder"),
        (["--plot", "a.png"], "--plot a.png: plots are written as SVG only"),
        (["--key", "id"], "--key: is for evaluate alignment; leave it out"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, more: list[str], said: str) -> None:
    frame([LineString([(0, 0), (9, 9)])]).to_parquet("line.parquet")
    done = run(*CASE, *more)
    assert isinstance(done.exception, ResurveyError)
    assert said in str(done.exception) and "\n" not in str(done.exception)


def test_a_crs_that_leads_nowhere_is_named(folder: Path) -> None:
    local = 'LOCAL_CS["yard",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    SEEN.set_crs(local, allow_override=True).to_parquet("yard.parquet")
    assert "yard.parquet: cannot be reprojected to the truth's CRS (WGS 84 / UTM zone 45N)" in str(
        run("--pred", "yard.parquet", "--truth", "truth.parquet").exception
    )


def test_a_missing_or_bare_file_is_named(folder: Path) -> None:
    SEEN.drop(columns="geometry").to_parquet("table.parquet")
    TRUTH.set_crs(None, allow_override=True).to_parquet("bare.parquet")
    for pred, said in (("nowhere.gpkg", "cannot be read as polygons"), ("table.parquet", "cannot be read as polygons"),
                       ("bare.parquet", "has no CRS")):  # fmt: skip
        assert f"{pred}: {said}" in str(run("--pred", pred, "--truth", "truth.parquet").exception)
