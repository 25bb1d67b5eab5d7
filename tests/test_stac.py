"""The run's STAC item: valid by the schemas, on the right spot, with checksums."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pystac
import pytest
from stac_schemas import problems

from catalogs.stac import EXTENSIONS, run_item, write_item
from pipeline.errors import StoreError

FACTS = {"bytes": 10, "sha256": "ab" * 32}


def make(**changes: Any) -> dict[str, Any]:
    words: dict[str, Any] = {
        "id": "banepa-2026",
        "crs": "EPSG:32645",
        "transform": (0.15, 0.0, 352_000.0, 0.0, -0.15, 3_058_000.0),
        "shape": (2600, 2500),
        "gsd": 0.15,
        "created": "2026-11-21T10:00:00.123+00:00",
        "outputs": {
            "cadaster_aligned.parquet": FACTS | {"rows": 527},
            "classes.tif": FACTS | {"gsd": 0.6},
            "displacement.tif": FACTS,
            "buildings.qml": FACTS,
            "report.html": {},
            "certificate.json": {},
        },
        "classes": {0: "background", 1: "building", 2: "road"},
        "colours": {1: (200, 60, 40)},
        "models": ["mask-narrow", "align"],
        "software": {"resurvey": "0.1.0"},
        "source": "./image.tif",
    }
    return run_item(**(words | changes))


@pytest.mark.parametrize("crs", ["EPSG:32645", "EPSG:3857", "+proj=tmerc +lat_0=27 +lon_0=85 +ellps=bessel"])
def test_items_are_valid(crs: str) -> None:
    item = make(crs=crs)
    assert problems(item) == []
    assert item["stac_extensions"] == list(EXTENSIONS)
    assert (item["properties"]["proj:code"] is None) == ("proj:wkt2" in item["properties"])
    read = pystac.Item.from_dict(item)
    assert read.datetime is not None


def test_it_lies_where_the_image_lies() -> None:
    item = make()
    west, south, east, north = item["bbox"]
    assert 85.49 < west < east < 85.51
    assert 27.63 < south < north < 27.65
    ring = item["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, ring[1:], strict=False))
    assert area > 0  # counter-clockwise
    assert item["properties"]["proj:bbox"] == [352_000.0, 3_057_610.0, 352_375.0, 3_058_000.0]


def test_assets_carry_roles_checksums_and_facts() -> None:
    assets = make()["assets"]
    cadaster = assets["cadaster_aligned_parquet"]
    assert cadaster["file:checksum"] == "1220" + "ab" * 32
    assert cadaster["file:size"] == 10
    assert cadaster["table:row_count"] == 527
    assert assets["classes_tif"]["raster:spatial_resolution"] == 0.6
    assert assets["classes_tif"]["classification:classes"][1]["color_hint"] == "C83C28"
    assert [band["name"] for band in assets["displacement_tif"]["bands"]] == ["dx_m", "dy_m", "confidence"]
    assert assets["buildings_qml"]["roles"] == ["style"]
    assert "file:checksum" not in assets["report_html"]


def test_the_image_date_counts_where_it_is_known() -> None:
    assert make()["properties"]["datetime"] == "2026-11-21T10:00:00Z"
    dated = make(image_date="2019-03-05")["properties"]
    assert dated["datetime"] == "2019-03-05T00:00:00Z"
    assert dated["resurvey:image_date"] == "2019-03-05"
    assert make(image_date="2019-03-05T10:00:00+05:45")["properties"]["datetime"] == "2019-03-05T04:15:00Z"


def test_writing(tmp_path: Path) -> None:
    path = write_item(tmp_path, make())
    assert json.loads(path.read_text()) == make()
    assert [file.name for file in tmp_path.iterdir()] == ["item.json"]
    with pytest.raises(StoreError, match=r"item\.json: cannot be written"):
        write_item(tmp_path / "nowhere", {})
