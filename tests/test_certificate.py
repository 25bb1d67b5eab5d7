"""The certificate: a verdict for everything that was expected, and no claim beyond the receipts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.certificate import MISSING, build, sha256_of, write
from pipeline.errors import StoreError
from pipeline.grid import TileGrid
from pipeline.ledger import Receipt

GRID = TileGrid((2000, 1500), 1024, 32)
KEYS = [tile.key for tile in GRID]


def receipts(**statuses: str) -> list[Receipt]:
    verdicts = dict.fromkeys(KEYS, "ok") | statuses
    return [
        Receipt("mask", key, "f", status, digest="d", reason=(status == "failed" and "boom") or "")
        for key, status in verdicts.items()
    ]


def test_every_expected_tile_has_one_verdict(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    given = receipts(r0001c0001="empty") + [Receipt("mask", "r0009c0009", "f", "failed")]
    made = build(
        expected={"mask": KEYS}, receipts=given, outputs={"a.txt": tmp_path / "a.txt"}, grids={"mask": GRID},
        seams={"merged": 3}, borders={"mask": {"difference": 1e-7}},
    )  # fmt: skip
    assert made["complete"]
    assert made["counts"] == {"empty": 1, "ok": 3}
    assert made["stages"]["mask"]["grid"] == {"rows": 2, "columns": 2, "core": 1024, "halo": 32, "level": 1}
    assert list(made["stages"]["mask"]["verdicts"]) == KEYS
    assert made["outputs"]["a.txt"] == {"bytes": 5, "sha256": hashlib.sha256(b"hello").hexdigest()}
    assert (made["seams"], made["window_border"]) == ({"merged": 3}, {"mask": {"difference": 1e-7}})
    path = write(tmp_path, made)
    assert json.loads(path.read_text()) == made
    again = build(
        expected={"mask": KEYS[::-1]}, receipts=given[::-1], outputs={"a.txt": tmp_path / "a.txt"},
        grids={"mask": GRID}, seams={"merged": 3}, borders={"mask": {"difference": 1e-7}},
    )  # fmt: skip
    assert again == made


def test_failed_and_missing_tiles_are_named_and_make_it_incomplete() -> None:
    made = build(expected={"mask": KEYS}, receipts=receipts(r0000c0001="failed")[:-1], outputs={})
    assert not made["complete"]
    assert made["stages"]["mask"]["verdicts"][KEYS[-1]] == MISSING
    assert made["stages"]["mask"]["reasons"]["r0000c0001"] == "boom"
    assert "never ended" in made["stages"]["mask"]["reasons"][KEYS[-1]]


def test_the_newest_receipt_counts() -> None:
    made = build(expected={"mask": KEYS}, receipts=receipts(r0000c0000="failed") + receipts(), outputs={})
    assert made["complete"]


def test_outputs_that_are_not_there_or_short_make_it_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "cadaster_aligned.parquet"
    words = {"expected": {}, "receipts": [], "outputs": {path.name: path}}
    assert not build(**words)["complete"]
    pq.write_table(pa.table({"n": [1, 2]}), path)
    assert build(**words, rows={path.name: 2})["complete"]
    assert not build(**words, rows={path.name: 3})["complete"]
    path.write_bytes(b"PAR1 no")
    assert "missing" in build(**words)["outputs"][path.name]


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"certificate\.json: cannot be written"):
        write(tmp_path / "nowhere", {})
    (tmp_path / "big").write_bytes(b"x" * 5_000_000)
    assert sha256_of(tmp_path / "big") == hashlib.sha256(b"x" * 5_000_000).hexdigest()
