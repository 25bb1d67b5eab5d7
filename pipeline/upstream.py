"""What a task finds of those before it: the digests that its fingerprint covers."""

from __future__ import annotations

from pipeline.grid import TileGrid, Window
from pipeline.ledger import Ledger

ABSENT = "absent"


def state_of(ledger: Ledger, stage: str, key: str) -> str:
    """The digest of what an upstream task wrote, or that it failed or is not there."""
    receipt = ledger.get(stage, key)
    if receipt is None:
        return ABSENT
    return receipt.digest if receipt.done else f"failed {receipt.fingerprint}"


def states_of(ledger: Ledger, stage: str, grid: TileGrid, window: Window) -> list[tuple[str, str]]:
    """Key and state of every tile of `stage` whose core touches a window (px of the grid's level)."""
    return [(tile.key, state_of(ledger, stage, tile.key)) for tile in grid.touching(window)]
