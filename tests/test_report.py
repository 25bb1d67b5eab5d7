"""The report: self-contained, small, says what it left out, and survives empty and odd runs."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import certificate
from pipeline.errors import StoreError
from pipeline.grid import TileGrid, Window
from pipeline.ledger import Receipt
from pipeline.report.charts import histogram, number
from pipeline.report.map import stretch_of
from pipeline.report.page import NAME, Changes, Ragged, ReportData, page, rows_to_show, write_report

SHAPE = (900, 1200)


def squares(xy: np.ndarray, side: float = 20.0) -> Ragged:
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side], [0, 0]], float)
    coords = (xy[:, None] + corners).reshape(-1, 2)
    return Ragged(coords, np.arange(len(xy) + 1) * 5, np.arange(len(xy) + 1))


def make(n: int = 60, **changes: Any) -> ReportData:
    rng = np.random.default_rng(0)
    xy = rng.uniform(50, 800, (n, 2))
    dx, dy = rng.normal(2, 1, n), rng.normal(-1, 1, n)
    shift = np.column_stack([dx, -dy]) / 0.5
    grid = TileGrid(SHAPE, 512, 0)
    receipts = [Receipt("mask", tile.key, "f", "ok", seconds=1.0, peak_rss_mb=800) for tile in grid]
    receipts[1] = Receipt("mask", receipts[1].key, "f", "failed", reason="block <3> is truncated")
    made = certificate.build(
        expected={"mask": [tile.key for tile in grid], "export": ["buildings"]}, receipts=receipts, outputs={},
        grids={"mask": grid}, borders={"mask": {"difference": 1e-7, "unit": "px"}},
    )  # fmt: skip
    words: dict[str, Any] = {
        "title": "A & B <city>",
        "subtitle": "image.tif",
        "shape": SHAPE,
        "gsd": 0.5,
        "overview": rng.integers(0, 255, (3, 300, 400), dtype=np.uint8),
        "overview_scale": 3.0,
        "status": np.array(["moved"] * max(n - 1, 0) + ["invalid"] * min(n, 1), dtype=object),
        "dx_m": dx,
        "dy_m": dy,
        "confidence": rng.uniform(0, 1, n),
        "shown": np.arange(n),
        "before": squares(xy),
        "after": squares(xy + shift),
        "certificate": made,
        "receipts": receipts,
        "read": lambda window: np.full((3, window.height, window.width), 90, np.uint8),
        "buildings": squares(xy),
        "changes": {"confirmed": 50, "missing": 3, "new": 2},
        "change_places": Changes(
            np.array(["missing", "new"]),
            np.array([[60.0, 70], [300, 200]]),
            np.array(["row 0", "<b>"]),
            np.array([9.0, 5]),
        ),
        "vectors": np.column_stack([xy, dx, dy, np.ones(n)]),
        "phase_seconds": {"ingest": 2.0, "mask": 130.0},
        "wall_seconds": 132.0,
        "scores": {"Alignment": {"median": 0.5}},
        "settings": {"tile": 1024, "image": "</script><script>"},
        "models": [{"task": "mask", "name": "m", "scores": {"iou": 0.5}, "licence": "x"}],
        "notes": ["no date"],
        "files": ["buildings.parquet"],
    }
    return ReportData(**(words | changes))


class Links(HTMLParser):
    """Collects what a browser would fetch, and whether tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag not in ("meta", "input", "img", "line", "rect", "circle", "path", "image", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_the_page_is_one_file_that_fetches_nothing(tmp_path: Path) -> None:
    path = write_report(tmp_path / NAME, make())
    text = path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert len(text) < 6_000_000
    parser = Links()
    parser.feed(text)
    assert parser.links
    assert all(link.startswith("data:") for link in parser.links)
    assert parser.open == []
    assert not re.search(r"""url\(["']?(?!["']?data:)|https?://|import\s*\(|fetch\(""", text)
    assert "default-src 'none'" in text


def test_it_says_what_the_run_did() -> None:
    text = page(make())
    for words in ("A &amp; B &lt;city&gt;", "not complete", "Up close", "What to review first",
                  "Completeness", "block &lt;3&gt; is truncated", "Accuracy", "missing in the image",
                  "2 min 10 s", "2 min 12 s"):  # fmt: skip
        assert words in text, words
    assert "&lt;/script&gt;" in text  # settings cannot close the page's own script


def test_polygons_arrive_in_the_browser_as_they_were() -> None:
    data = make()
    found = re.search(r"id=vectors>(.*?)</script>", page(data))
    assert found is not None
    payload = json.loads(found[1])
    before = np.frombuffer(base64.b64decode(payload["before"]), "<i4").reshape(-1, 2) / payload["fine"]
    delta = np.frombuffer(base64.b64decode(payload["delta"]), "<i2").reshape(-1, 2) / payload["fine"]
    assert np.abs(before - data.before.coords).max() <= 0.5 / payload["fine"]
    assert np.abs(before + delta - data.after.coords).max() <= 1.01 / payload["fine"]


def test_large_cities_are_sampled_and_the_page_says_so() -> None:
    n = 40_000
    rng = np.random.default_rng(1)
    xy = rng.uniform(0, 800, (n, 2))
    confidence, dx, dy = rng.uniform(0, 1, n), rng.normal(0, 1, n), rng.normal(0, 1, n)
    rows = rows_to_show(confidence, dx, dy)
    assert len(rows) <= 20_000
    assert np.argmin(confidence) in rows
    assert np.argmax(np.hypot(dx, dy)) in rows
    text = page(
        make(
            n, status=np.full(n, "moved", dtype=object), dx_m=dx, dy_m=dy, confidence=confidence, shown=rows,
            before=squares(xy[rows]), after=squares(xy[rows]), buildings=squares(xy), building_count=n, vectors=None,
        )
    )  # fmt: skip
    assert "of 40\u202f000 cadaster polygons" in text
    assert "of 40\u202f000 buildings seen" in text
    assert len(text) < 6_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 0},
        {"read": None, "buildings": None, "vectors": None, "change_places": None, "changes": {}, "receipts": ()},
        {"confidence": np.full(60, np.nan), "dx_m": np.full(60, np.nan), "dy_m": np.full(60, np.nan)},
        {"status": np.full(60, "nodata", dtype=object), "scores": {}, "settings": {}, "models": (), "notes": ()},
        {"overview": np.zeros((1, 10, 12), np.uint8), "read": lambda w: np.zeros((1, w.height, w.width), np.uint8)},
        {"before": squares(np.zeros((60, 2)), 0.0), "after": squares(np.zeros((60, 2)), 0.0)},
    ],
)
def test_thin_runs_still_give_a_page(changes: dict[str, Any]) -> None:
    n = changes.pop("n", 60)
    assert page(make(n, **changes)).endswith("</html>\n")


def test_closeups_stay_inside_the_scene() -> None:
    asked: list[Window] = []

    def read(window: Window) -> np.ndarray:
        asked.append(window)
        return np.zeros((3, window.height, window.width), np.uint8)

    page(make(read=read))
    assert asked
    assert all(Window(0, 0, *SHAPE).contains(window) for window in asked)


def test_ragged_boxes_and_take() -> None:
    ragged = squares(np.array([[0.0, 0], [10, 5], [30, 30]]), 4)
    assert ragged.boxes().tolist() == [[0, 0, 4, 4], [10, 5, 14, 9], [30, 30, 34, 34]]
    part = ragged.take(np.array([2, 0]))
    assert part.boxes().tolist() == [[30, 30, 34, 34], [0, 0, 4, 4]]
    hollow = Ragged(ragged.coords, ragged.ring_offsets, np.array([0, 0, 3]))
    assert np.isnan(hollow.boxes()[0]).all()
    assert len(hollow.take(np.array([0])).coords) == 0


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"report\.html: cannot be written"):
        write_report(tmp_path / "nowhere" / NAME, make())
    with pytest.raises(ValueError, match="same vertices"):
        page(make(after=squares(np.zeros((3, 2)))))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32), max_size=50))
def test_histograms_take_any_values(values: list[float]) -> None:
    text = histogram(np.array(values), np.linspace(0, 1, 11), "x", colour="#000", ticks=(0, 1))
    counts = sum(int(part) for part in re.findall(r": (\d+)</title>", text))
    assert counts == np.isfinite(np.array(values)).sum()


def test_figures_read_well() -> None:
    assert [number(v) for v in (None, np.nan, 3, 12_345, 1234.5, 0.126)] == [
        "–",
        "–",
        "3",
        "12\u202f345",
        "1\u202f234",
        "0.13",
    ]
    assert stretch_of(np.array([[0, 0, 1.0, 0, 1]] * 100), (1000, 1000), 0.5) == 45
