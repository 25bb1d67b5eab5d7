"""verify: a whole folder passes; every kind of damage is one line that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import shapely
from affine import Affine

from pipeline import certificate
from pipeline.export.rasters import write_cog
from pipeline.export.vectors import write_geoparquet
from pipeline.grid import TileGrid
from pipeline.ledger import Receipt
from pipeline.verify import verify

GRID = TileGrid((600, 600), 256, 0)


def layer(path: Path, rows: int, **columns: object) -> Path:
    boxes = shapely.box(np.arange(rows), 0, np.arange(rows) + 1, 1)
    write_geoparquet(path, pa.table({"geometry": pa.array(shapely.to_wkb(boxes)), **columns}), 32645)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    layer(tmp_path / "cadaster_aligned.parquet", 5, status=["moved"] * 5)
    layer(tmp_path / "buildings.parquet", 4, building_id=[3, 1, 2, 9])
    write_cog(
        tmp_path / "classes.tif", lambda window: np.zeros((1, window.height, window.width), np.uint8), (600, 600),
        bands=1, dtype="uint8", crs="EPSG:32645", transform=Affine(2, 0, 0, 0, -2, 0), nodata=255,
    )  # fmt: skip
    (tmp_path / "run.json").write_text('{"cadaster_rows": 5}')
    receipts = [Receipt("mask", tile.key, "f", "ok") for tile in GRID]
    (tmp_path / "work").mkdir()
    with (tmp_path / "work" / "ledger.jsonl").open("w") as file:
        file.writelines(json.dumps(asdict(receipt)) + "\n" for receipt in receipts)
    certify(tmp_path, receipts)
    return tmp_path


def certify(folder: Path, receipts: list[Receipt]) -> None:
    names = ("cadaster_aligned.parquet", "buildings.parquet", "classes.tif")
    outputs = {name: folder / name for name in names}
    keys = [tile.key for tile in GRID]
    made = certificate.build(
        expected={"mask": keys}, receipts=receipts, outputs=outputs, grids={"mask": GRID},
        rows={"cadaster_aligned.parquet": 5},
    )  # fmt: skip
    certificate.write(folder, made)


def test_a_whole_folder_passes(folder: Path) -> None:
    found = verify(folder)
    assert found.problems == ()
    assert found.complete
    assert found.checked == {"verdicts": 9, "files": 3, "geometries": 9, "rasters": 1}


def edit(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / certificate.NAME
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def truncate(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:100]) and None


def again(name: str, rows: int, **columns: object) -> Callable[[Path], None]:
    """Write a layer anew and certify it, so that only its content is wrong, not its hash."""

    def change(folder: Path) -> None:
        layer(folder / name, rows, **columns)
        certify(folder, [Receipt("mask", tile.key, "f", "ok") for tile in GRID])

    return change


def fail(folder: Path) -> None:
    receipts = [Receipt("mask", tile.key, "f", "ok") for tile in GRID][1:]
    certify(folder, [*receipts[:-1], Receipt("mask", receipts[-1].key, "f", "failed", reason="out of memory")])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "certificate.json").unlink(), "not finished"),
        (lambda folder: (folder / "certificate.json").write_text("{"), "certificate.json: damaged"),
        (edit(complete=False), "says that it is not complete"),
        (edit(stages={"mask": 3}), "stage mask: cannot be checked"),
        (edit(outputs={"buildings.parquet": {"missing": "x"}}), "already missing"),
        (lambda folder: (folder / "classes.tif").unlink(), "classes.tif: missing"),
        (truncate("classes.tif"), "classes.tif: differs"),
        (truncate("buildings.parquet"), "buildings.parquet: differs"),
        (truncate("buildings.parquet"), "buildings.parquet: cannot be checked"),
        (lambda folder: (folder / "run.json").unlink(), "run.json: missing"),
        (lambda folder: (folder / "run.json").write_text('{"cadaster_rows": 6}'), "6 expected"),
        (again("buildings.parquet", 4, building_id=[1, 1, 2, 2]), "2 rows repeat a building_id"),
        (again("cadaster_aligned.parquet", 4, status=["moved"] * 4), "has 4 rows, 5 expected"),
        (fail, "tile r0000c0000 has no verdict"),
        (fail, "tile r0002c0002 failed (out of memory)"),
        (fail, "2 receipts differ"),
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(folder)
    found = verify(folder)
    assert not found.complete
    assert any(words in problem for problem in found.problems), found.problems
    assert all("\n" not in problem for problem in found.problems)


def test_unreadable_geometry_counts_unless_its_row_says_invalid(folder: Path) -> None:
    wkb = [*shapely.to_wkb([shapely.box(0, 0, 1, 1)] * 4), b"\x01\x03"]
    for status, complete in (("invalid", True), ("moved", False)):
        table = pa.table({"geometry": pa.array(wkb, pa.binary()), "status": ["moved"] * 4 + [status]})
        write_geoparquet(folder / "cadaster_aligned.parquet", table, 32645)
        certify(folder, [Receipt("mask", tile.key, "f", "ok") for tile in GRID])
        assert verify(folder).complete is complete


def test_any_folder_gets_an_answer(tmp_path: Path) -> None:
    assert "not a run's folder" in verify(tmp_path).problems[0]
    assert not verify(tmp_path / "nowhere").complete
