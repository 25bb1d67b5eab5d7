"""Receipts: what was written counts, what was torn does not, and one process works in a folder at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.ledger import Ledger, Receipt, RunLock, digest_of, fingerprint, held, read_receipts


def receipt(key: str, status: str = "ok", digest: str = "d") -> Receipt:
    return Receipt("mask", key, "f", status, digest)


def test_the_newest_receipt_of_a_tile_counts(tmp_path: Path) -> None:
    path = tmp_path / "work" / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.append([receipt("a", "failed"), receipt("b")])
        ledger.append([receipt("a")])
        assert ledger.get("mask", "a") == receipt("a")
    again = Ledger(path)
    assert again.of("mask") == {"a": receipt("a"), "b": receipt("b")}
    assert again.digest("mask") == ledger.digest("mask")


@pytest.mark.parametrize("keep", [1, 10, 40])
def test_a_line_torn_by_a_kill_is_due_again_and_spoils_nothing(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.append([receipt("a"), receipt("b")])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:keep])
    with Ledger(path) as ledger:
        assert set(ledger.of("mask")) == {"a"}
        ledger.append([receipt("c")])
    assert [row.key for row in read_receipts(path)] == ["a", "c"]


def test_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('[]\n{"stage": "x"}\nnot json\n\n')
    assert list(read_receipts(path)) == []


def test_an_unopened_ledger_refuses_to_write(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not open"):
        Ledger(tmp_path / "ledger.jsonl").append([receipt("a")])


def test_a_full_disk_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    ledger = Ledger(Path("/dev/null"))
    full = open("/dev/full", "w")  # noqa: SIM115 - closing the device that is always full fails too
    ledger._file = full
    with pytest.raises(StoreError, match="make room"):
        ledger.append([receipt("a")])
    with pytest.raises(OSError, match="No space"):
        full.close()


def test_fingerprints_know_values_not_key_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert digest_of("ab", "c") != digest_of("a", "bc")


def test_a_folder_has_one_run_at_a_time_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    hold = "import sys; from pathlib import Path; from pipeline.ledger import RunLock\n"
    hold += "with RunLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdin is not None
    with child.stdin, child.stdout:
        assert child.stdout.readline() == "held\n"
        assert held(tmp_path)
        with pytest.raises(StoreError, match="another run"), RunLock(tmp_path):
            pass
        child.kill()
        child.wait()
    assert not held(tmp_path)
    with RunLock(tmp_path):
        pass
