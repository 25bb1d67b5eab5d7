"""The demo city: a crop of Banepa, Nepal, its true buildings, and a cadaster that lies up to 32 px beside them.

How the three files were made: training/make_demo.py; whose they are: catalogs/demo/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError

FOLDER = Path(__file__).parent / "demo"

ATTRIBUTION = "Imagery: OpenAerialMap, CC-BY 4.0. Buildings: © OpenStreetMap contributors, ODbL 1.0."


@dataclass(frozen=True, slots=True)
class DemoCity:
    """Files of the demo. Rows of `truth` and `cadaster` correspond, vertex by vertex; `key` names them."""

    image: Path
    cadaster: Path
    truth: Path
    key: str = "building_id"


def demo_city(folder: Path = FOLDER) -> DemoCity:
    """The shipped demo city, its files checked to be there. Raises InputError."""
    city = DemoCity(folder / "banepa.tif", folder / "cadaster.parquet", folder / "truth.parquet")
    for path in (city.image, city.cadaster, city.truth):
        if not path.is_file():
            raise InputError(f"{path}: a file of the demo is missing; install Resurvey again from a whole copy")
    return city
