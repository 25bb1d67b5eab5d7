"""Tiled equals whole, at scale: one drawn city through the split line at several tile sizes, the same file each time.

    python -m benchmarks.tilings [--size 20000] [--input city] [--tiles 512 1024 2560]

Scores are planted (`benchmarks.planted`), the splitting and the export are the pipeline's own. Exit 1 if the files
differ by a byte. Scores are drawn in blocks of 5120 px, so a tile divides that.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.cities import HARD
from benchmarks.planted import measured


def main() -> None:
    """A line for each tile size; exit 1 if two disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--input", choices=HARD, default="city")
    parser.add_argument("--tiles", type=int, nargs="+", default=[512, 1024, 2560])
    options = parser.parse_args()
    seen = set()
    print("| tile | buildings | components larger than a tile sees | s | buildings.parquet |\n|---|---|---|---|---|")
    for tile in options.tiles:
        with tempfile.TemporaryDirectory() as folder:
            row = measured(Path(folder) / "scene", options.size, options.input, tile)
        seen.add(row["sha256"])
        cells = tile, row["buildings"], row["large"], f"{row['seconds']['all']['wall']:.1f}", row["sha256"][:16]
        print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
    raise SystemExit(0 if len(seen) == 1 else "the files differ")


if __name__ == "__main__":
    main()
