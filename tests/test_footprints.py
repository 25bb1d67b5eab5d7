"""The cadaster in blocks: every usable row in exactly one, whatever its geometry."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import footprints
from pipeline.errors import StoreError
from pipeline.footprints import block_keys, block_rows, index_cadaster, load, over_nodata, read_block
from pipeline.polygons import Cadaster, read_cadaster
from pipeline.raster import open_raster
from pipeline.scene import blocks, create_scene, ingest_tile, open_scene
from pipeline.working import WorkingRaster, working_raster
from tests.images import north_up, write

CORNER = (353000.0, 3058000.0)


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> WorkingRaster:
    """1 px is 1 m: px (x, y) is the world's (353000 + x, 3058000 - y)."""
    folder = tmp_path_factory.mktemp("image")
    data = np.full((1, 300, 400), 50, np.uint8)
    data[:, :, 300:] = 0
    options = {"transform": north_up(*CORNER, 1, 1), "photometric": "MINISBLACK", "nodata": 0}
    return working_raster(open_raster(write(folder / "a.tif", data, **options)))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprints, "BLOCK", 64)


def at(wkt: str) -> shapely.Geometry:
    """A geometry given in px of the image, in the world."""

    def place(p: np.ndarray) -> np.ndarray:
        return np.column_stack([CORNER[0] + p[:, 0], CORNER[1] - p[:, 1], *p.T[2:]])

    return shapely.transform(shapely.from_wkt(wkt), place, include_z="Z" in wkt)


def cadaster_of(geometries: list[shapely.Geometry | bytes | None], crs: str = "EPSG:32645") -> Cadaster:
    import pyproj

    wkb = [g if g is None or isinstance(g, bytes) else shapely.to_wkb(g) for g in geometries]
    table = pa.table({"id": list(range(len(wkb)))})
    system = pyproj.CRS.from_user_input(crs).to_wkt()
    return Cadaster("memory", table, pa.array(wkb, pa.large_binary()), system, "geometry", 1, "x")


def test_every_kind_of_row(tmp_path: Path, working: WorkingRaster) -> None:
    rows = {
        "house": at("POLYGON ((10 10, 20 10, 20 20, 10 20, 10 10))"),
        "null": None,
        "empty": shapely.from_wkt("POLYGON EMPTY"),
        "hole": at("POLYGON ((100 100, 130 100, 130 130, 100 130, 100 100), (110 110, 110 120, 120 120, 110 110))"),
        "multi": at("MULTIPOLYGON (((5 70, 9 70, 9 75, 5 70)), ((20 70, 29 70, 29 75, 20 70)))"),
        "bowtie": at("POLYGON ((10 10, 20 20, 20 10, 10 20, 10 10))"),
        "outside": at("POLYGON ((-50 -50, -20 -50, -20 -20, -50 -50))"),
        "reaching in": at("POLYGON ((-5 290, 5 290, 5 295, -5 290))"),
        "line": at("LINESTRING (10 10, 90 90)"),
        "point": at("POINT (350 200)"),
        "collection": at("GEOMETRYCOLLECTION (POINT (40 40), POLYGON ((41 41, 44 41, 44 44, 41 41)), LINESTRING (0 0, 1 1))"),  # noqa: E501
        "z": at("POLYGON Z ((10 200 5, 20 200 6, 20 220 7, 10 200 5))"),
        "broken": b"\x01\x03\x00\x00\x00\x01\x00",
        "nan": shapely.from_wkt("POINT (1 1)"),
        "half": shapely.to_wkb(at("POLYGON ((0 0, 1 0, 1 1, 0 0))"))[:40],
        "curve": b"\x01\x08\x00\x00\x00\x03\x00\x00\x00" + b"\x00" * 48,
    }  # fmt: skip
    rows["nan"] = shapely.to_wkb(rows["nan"])[:5] + np.array([np.nan, 1.0]).tobytes()
    cadaster = cadaster_of(list(rows.values()))
    index_cadaster(cadaster, working, tmp_path)
    names = list(rows)
    status = dict(zip(names, load(tmp_path, "status").tolist(), strict=True))
    usable = {"house", "hole", "multi", "reaching in", "line", "point", "collection", "z"}
    assert {name for name, code in status.items() if code == footprints.USABLE} == usable
    assert status["null"] == footprints.NULL
    assert status["empty"] == footprints.EMPTY
    assert status["outside"] == footprints.OUTSIDE
    assert all(status[name] == footprints.INVALID for name in ("bowtie", "broken", "half", "curve"))
    assert status["nan"] in (footprints.INVALID, footprints.EMPTY)
    taken = np.concatenate([rows for _, rows in block_rows(tmp_path)])
    assert sorted(names[i] for i in taken) == sorted(usable)

    hole = read_block(tmp_path, "r0001c0001")
    assert [names[i] for i in hole.rows] == ["hole"]
    assert hole.ring_kind.tolist() == [0, 1]
    coords, rings, polygons = hole.polygons()
    assert rings.tolist() == [0, 5, 9]
    assert polygons.tolist() == [0, 2]
    assert coords[0] == pytest.approx([100, 100])

    first = read_block(tmp_path, "r0000c0000")
    assert [names[i] for i in first.rows] == ["house", "line", "collection"]
    coords, rings, polygons = first.polygons(first.xy / 2)
    assert polygons.tolist() == [0, 1, 2, 3, 4]  # house, line, the collection's polygon and line, but not its point
    assert rings.tolist() == [0, 5, 7, 11, 13]
    assert coords[7] == pytest.approx([20.5, 20.5])
    assert first.ring_row.tolist() == [0, 1, 2, 2, 2]
    coords, rings, row = first.outlines()
    assert rings.tolist() == [0, 5, 9]
    assert row.tolist() == [0, 2]
    assert coords[5] == pytest.approx([41, 41])
    assert first.row_means(first.xy)[1] == pytest.approx([50, 50])
    assert len(read_block(tmp_path, "r0003c0003").rows) == 0


def test_lines_that_close_are_drawn_open(tmp_path: Path, working: WorkingRaster) -> None:
    """A roundabout is a line and no area; a polygon of the same corners is one, and points are nothing to draw."""
    shapes = [
        at("LINESTRING (10 10, 30 10, 30 30, 10 10)"),
        at("MULTIPOINT (12 12, 13 13)"),
        at("MULTILINESTRING ((40 40, 40 40, 50 40, 50 50, 40 40), (42 20, 60 20))"),
        at("POLYGON ((10 40, 30 40, 30 60, 10 40))"),
    ]
    index_cadaster(cadaster_of(shapes), working, tmp_path)
    block = read_block(tmp_path, "r0000c0000")
    assert block.rows.tolist() == [0, 1, 2, 3]
    coords, rings, polygons = block.polygons()
    assert np.diff(polygons).tolist() == [1] * 6
    runs = [coords[a:b].tolist() for a, b in zip(rings[:-1], rings[1:], strict=True)]
    assert [run[0] == run[-1] for run in runs] == [False] * 5 + [True]
    assert np.allclose(runs[0] + runs[1][1:], [[10, 10], [30, 10], [30, 30], [10, 10]])
    assert np.allclose(runs[2] + runs[3][1:], [[40, 40], [40, 40], [50, 40], [50, 50], [40, 40]])
    coords, rings, row = block.outlines()
    assert np.diff(rings).tolist() == [4, 5, 4]  # what closes is an outline, the street between is none
    assert row.tolist() == [0, 2, 3]


@pytest.mark.parametrize("shape", ["POINT (20 20)", "LINESTRING (20 20, 30 30)"])
def test_layers_of_one_kind(tmp_path: Path, working: WorkingRaster, shape: str) -> None:
    index_cadaster(cadaster_of([at(shape)]), working, tmp_path)
    block = read_block(tmp_path, "r0000c0000")
    assert [len(each) for each in block.outlines()] == [0, 1, 0]
    runs = int("LINE" in shape)
    assert [len(each) for each in block.polygons()] == [2 * runs, runs + 1, runs + 1]


def test_same_bytes_and_missing_index(tmp_path: Path, working: WorkingRaster) -> None:
    cadaster = cadaster_of([at("POLYGON ((10 10, 20 10, 20 20, 10 20, 10 10))"), at("POINT (200 200)")])
    for name in ("a", "b", "b"):
        index_cadaster(cadaster, working, tmp_path / name)
    files = sorted(f.name for f in (tmp_path / "a").iterdir())
    assert files == sorted(f.name for f in (tmp_path / "b").iterdir())
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    with pytest.raises(StoreError, match="index cannot be read"):
        block_keys(tmp_path / "c")


@pytest.mark.parametrize("rows", [[], [None], [shapely.from_wkt("POLYGON EMPTY"), None]])
def test_nothing_to_index(tmp_path: Path, working: WorkingRaster, rows: list[shapely.Geometry | None]) -> None:
    index_cadaster(cadaster_of(rows), working, tmp_path)
    assert block_keys(tmp_path) == []
    assert len(read_block(tmp_path, "r0000c0000").rows) == 0
    assert len(load(tmp_path, "status")) == len(rows)


@given(
    st.lists(
        st.tuples(st.floats(-100, 500), st.floats(-100, 400), st.floats(0.5, 150), st.floats(0.5, 150)), max_size=30
    )
)
@settings(max_examples=30, deadline=None)
def test_exactly_once(
    working: WorkingRaster, tmp_path_factory: pytest.TempPathFactory, boxes: list[tuple[float, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("index")
    shapes = [at(shapely.box(x, y, x + w, y + h).wkt) for x, y, w, h in boxes]
    index_cadaster(cadaster_of(list(shapes)), working, folder)
    taken = [row for _, rows in block_rows(folder) for row in rows.tolist()]
    image = shapely.box(CORNER[0], CORNER[1] - 300, CORNER[0] + 400, CORNER[1])
    touching = [i for i, shape in enumerate(shapes) if shapely.intersects(shape, image)]
    status = load(folder, "status")
    assert len(taken) == len(set(taken))
    assert sorted(taken) == np.flatnonzero(status == footprints.USABLE).tolist()
    # rounding at the image's very edge apart
    assert set(taken) ^ set(touching) <= {
        i for i in range(len(shapes)) if shapely.distance(shapes[i], image.exterior) < 1e-6
    }
    for key, rows in block_rows(folder):
        assert rows.tolist() == sorted(rows.tolist())
        block = read_block(folder, key)
        window = next(tile.core for tile in footprint_grid(working) if tile.key == key)
        corner = np.clip(block.xy[block.row_vertices[:-1]], 0, (399, 299))
        assert ((corner >= (window.x0, window.y0)) & (corner < (window.x1, window.y1))).all()


def footprint_grid(working: WorkingRaster) -> list:
    from pipeline.grid import TileGrid

    return list(TileGrid(working.shape, 64, 0))


def test_another_crs(tmp_path: Path, working: WorkingRaster) -> None:
    shapes = [at("POLYGON ((10 10, 20 10, 20 20, 10 20, 10 10))"), at("POLYGON ((200 100, 210 100, 200 120, 200 100))")]
    frame = geopandas.GeoDataFrame(geometry=shapes, crs="EPSG:32645")
    frame.to_crs("EPSG:4326").to_parquet(tmp_path / "a.parquet")
    index_cadaster(read_cadaster(tmp_path / "a.parquet"), working, tmp_path / "index")
    block = read_block(tmp_path / "index", "r0000c0000")
    assert block.xy == pytest.approx(np.array([[10, 10], [20, 10], [20, 20], [10, 20], [10, 10]]), abs=1e-5)


def test_far_away_in_degrees(tmp_path: Path, working: WorkingRaster) -> None:
    """A row that the working CRS cannot hold is outside, not an error."""
    poles = [shapely.box(-180, 89, -90, 90), shapely.box(-100, -30, -95, -20)]
    index_cadaster(cadaster_of(poles, "OGC:CRS84"), working, tmp_path)
    assert load(tmp_path, "status").tolist() == [footprints.OUTSIDE] * 2


def test_over_nodata(tmp_path: Path, working: WorkingRaster) -> None:
    root = tmp_path / "scene.zarr"
    create_scene(root, working)
    for tile in blocks(working.shape):
        ingest_tile(working, root, tile.key)
    shapes = [
        at("POLYGON ((10 10, 20 10, 20 20, 10 20, 10 10))"),  # on the image
        at("POLYGON ((320 10, 330 10, 330 20, 320 20, 320 10))"),  # on nodata
        at("POLYGON ((280 10, 350 10, 350 20, 280 20, 280 10))"),  # both, more vertices on the image
        None,
        at("POLYGON ((-900 10, -800 10, -800 20, -900 20, -900 10))"),
    ]
    index_cadaster(cadaster_of(shapes), working, tmp_path / "index")
    assert over_nodata(open_scene(root), tmp_path / "index").tolist() == [False, True, False, False, False]
