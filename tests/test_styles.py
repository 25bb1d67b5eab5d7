"""QGIS styles: well-formed, and about columns, classes and colours that the layers really have."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

import catalogs
from pipeline.conflate import CHANGES
from pipeline.putback import STATUSES
from pipeline.worker.rasters import CLASSES, COLOURS

STYLES = Path(catalogs.__file__).parent / "styles"


def root(name: str) -> ElementTree.Element:
    return ElementTree.parse(STYLES / f"{name}.qml").getroot()


@pytest.mark.parametrize("path", sorted(STYLES.glob("*.qml")), ids=lambda path: path.name)
def test_every_category_has_its_symbol(path: Path) -> None:
    style = ElementTree.parse(path).getroot()
    assert style.tag == "qgis"
    drawn = style.findall("renderer-v2") + style.findall("pipe/rasterrenderer")
    assert drawn
    for renderer in style.findall("renderer-v2"):
        wanted = {entry.get("symbol") for entry in renderer.iter() if entry.tag in ("category", "range")}
        assert wanted <= {symbol.get("name") for symbol in renderer.findall("symbols/symbol")}


def test_every_verdict_has_a_colour() -> None:
    values = {entry.get("value") for entry in root("changes").iter("category")}
    assert values == set(CHANGES)
    values = {entry.get("value") for entry in root("cadaster_aligned").iter("category")}
    assert set(STATUSES) - {"moved"} <= values
    assert root("changes").find("renderer-v2").get("attr") == "change"  # type: ignore[union-attr]
    assert root("buildings").find("renderer-v2").get("attr") == "score"  # type: ignore[union-attr]


def test_classes_look_in_qgis_as_in_the_file() -> None:
    entries = {int(e.get("value", "")): (e.get("label"), e.get("color")) for e in root("classes").iter("paletteEntry")}
    assert entries == {k: (name, "#{:02x}{:02x}{:02x}".format(*COLOURS[k])) for k, name in CLASSES.items()}


def test_the_field_has_a_style_for_its_raster_and_one_for_its_points() -> None:
    style = root("displacement")
    names = {option.get("value") for option in style.iter("Option")}
    assert {"dx_m", "dy_m"} <= names
    assert style.find("pipe/rasterrenderer") is not None
