"""Tiled equals whole, for every way to align: a corner of the demo city as one tile and in tiles, byte for byte.

    python -m benchmarks.alignment_tilings [--side 380] [--ways NAME ...]

Exit 1 if the aligned cadaster or the displacement of a way differs. The learned chains take a minute or more each.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from pipeline.run import survey
from pipeline.settings import load
from tests.small_city import cut

WAYS: dict[str, dict[str, Any]] = {
    "both": {},
    "search, no seats": {"aligner": "search", "seat": False},
    "building by building": {"move": "building"},
    "block by block": {"move": "block"},
    "successor": {"aligner": "network", "cards": {"alignment": "alignment-successor"}},
    "Zampieri, one a scale": {"aligner": "network", "cards": {"alignment": "alignment-zampieri-scales"}},
    "Zampieri, scale-invariant": {"aligner": "network", "cards": {"alignment": "alignment-zampieri"}},
    "Zampieri, symmetry-invariant": {
        "aligner": "network", "cards": {"alignment": "alignment-zampieri"}, "symmetry": True,
    },
}  # fmt: skip


def same(city: tuple[Path, Path], folder: Path, way: dict[str, Any]) -> bool:
    """Whether one tile and tiles of 256 px, on one worker and on two, give the same bytes."""
    found = []
    for tile, workers in ((1024, 1), (256, 2)):
        out = folder / str(tile)
        where = {"image": str(city[0]), "cadaster": str(city[1]), "out": out, "stages": "align"}
        given = load(**where, tile=tile, workers=workers, **way)
        if survey(given).exit_status != 0:
            return False
        found.append([(out / name).read_bytes() for name in ("cadaster_aligned.parquet", "displacement.tif")])
    return found[0] == found[1]


def main() -> None:
    """A line for each way; exit 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=380, help="px of the corner")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="NAME")
    options = parser.parse_args()
    wrong = False
    with tempfile.TemporaryDirectory() as folder:
        city = cut(Path(folder) / "city", options.side)
        for name in options.ways:
            equal = same(city, Path(folder) / name.replace(" ", "-"), WAYS[name])
            print(f"{name}: {'the same bytes' if equal else 'DIFFERENT'}", flush=True)
            wrong |= not equal
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
