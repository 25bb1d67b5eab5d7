"""Layers of roads: which rows are roads, what judges them, and a run of lines, tiled and whole."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.line_reader import LineReader
from pipeline.errors import SettingsError
from pipeline.footprints import index_cadaster, read_block, road_rows
from pipeline.grid import Window
from pipeline.polygons import read_cadaster
from pipeline.polygons import road_rows as road_rows_of
from pipeline.raster import open_raster
from pipeline.working import working_raster
from tests.test_roads import GSD, SIDE, cross, nearness


def layer(path: Path, image: bool = True) -> tuple[Path, Path]:
    """An image of bright roads on dark ground and its lines, 7 px off, with a column of classes and two polygons."""
    import geopandas
    import rasterio
    import shapely

    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    coords, offsets = cross()
    pixels = 50 + 150 * nearness(coords, offsets) + rng.normal(0, 6, (3, SIDE, SIDE))
    transform = rasterio.transform.from_origin(353000, 3058000, GSD, GSD)
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8", "tiled": True,
               "crs": "EPSG:32645", "transform": transform, "blockxsize": 256, "blockysize": 256}  # fmt: skip
    with rasterio.open(path / "image.tif", "w", **profile) as file:
        file.write(pixels.clip(1, 255).astype(np.uint8))
    off = coords + (6.0, -4.0)
    world = np.column_stack([353000 + off[:, 0] * GSD, 3058000 - off[:, 1] * GSD])
    shapes = []
    for a, b in zip(offsets[:-1], offsets[1:], strict=True):  # cut where a vertex is near a crossing: junctions
        shapes += [shapely.LineString(world[a : a + 10]), shapely.LineString(world[a + 9 : b])]
    rows = geopandas.GeoDataFrame({"kind": ["road"] * 7 + ["river"]}, geometry=shapes, crs=32645)
    rows.to_parquet(path / "lines.parquet")
    return path / "image.tif", path / "lines.parquet"


def test_which_rows_are_roads(tmp_path: Path) -> None:
    import geopandas
    import pandas
    import shapely

    image, lines = layer(tmp_path)
    cadaster = read_cadaster(lines)
    assert road_rows_of(cadaster, None).tolist() == [True] * 8
    said = road_rows_of(cadaster, "kind")
    assert said.tolist() == [True] * 7 + [False]
    with pytest.raises(SettingsError, match=r"--class-column nature: .* it has kind"):
        road_rows_of(cadaster, "nature")
    rows = geopandas.read_parquet(lines)
    square = geopandas.GeoDataFrame(
        {"kind": ["road"]}, geometry=[shapely.box(353050, 3057900, 353060, 3057910)], crs=rows.crs
    )
    pandas.concat([rows, square]).to_parquet(lines)
    both = read_cadaster(lines)
    assert road_rows_of(both, None).tolist() == [True] * 8 + [False]
    index_cadaster(both, working_raster(open_raster(str(image)), 0.1), tmp_path / "index", road_rows_of(both, "kind"))
    block = read_block(tmp_path / "index", "r0000c0000")
    chosen = road_rows(tmp_path / "index", "r0000c0000")
    assert chosen.tolist() == [True] * 7 + [False, True]
    coords, offsets, of = block.lines(block.xy, chosen)
    assert of.tolist() == list(range(7))  # neither the river nor the square, which has an outline
    assert len(coords) == offsets[-1] == sum(len(shape.coords) for shape in rows.geometry[:7])


def test_a_row_of_a_polygon_and_a_line_is_a_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its confidence is compared with the roads' limit, so the roads' evidence makes it."""
    import geopandas
    import shapely

    from pipeline import job
    from pipeline.worker import roads as worker

    image, lines = layer(tmp_path)
    rows = geopandas.read_parquet(lines)
    box = shapely.box(353100, 3057900, 353110, 3057910)
    shapes = [rows.geometry[0], box, shapely.GeometryCollection([box, rows.geometry[1]]), shapely.LineString(
        [(353050, 3057801), (353060, 3057801)])]  # fmt: skip
    geopandas.GeoDataFrame(geometry=shapes, crs=rows.crs).to_parquet(lines)
    cadaster = read_cadaster(lines)
    index_cadaster(cadaster, working_raster(open_raster(str(image)), 0.1), tmp_path / job.CADASTER,
                   road_rows_of(cadaster, None))  # fmt: skip
    block = read_block(tmp_path / job.CADASTER, "r0000c0000")
    near = nearness(*cross())

    def tensor_of(job: object, factor: int, region: Window) -> tuple[np.ndarray, tuple[int, int]]:
        seen = np.zeros((region.height, region.width), np.float32)
        seen[: 300 - region.y0] = np.pad(near, 600)[600 + region.y0 : 900, 600 + region.x0 :][:, : region.width]
        return np.stack([seen, 0 * seen, seen])[:, : 300 - region.y0], (region.y0, region.x0)

    monkeypatch.setattr(worker, "tensor_of", tensor_of)
    grid = SimpleNamespace(at=lambda key: SimpleNamespace(core=Window(0, 0, SIDE, SIDE)))
    asked = SimpleNamespace(work=tmp_path, blocks=lambda: grid)
    own, length = np.full(4, 9.0), np.array([0.0, 50.0, 50.0, 0.0])
    px = worker.fits(asked, "r0000c0000", block, block.xy, own, length)
    assert (px > 0).tolist() == [True, False, True, True]
    assert own[1] == 9 and length[1] == 50
    assert (own[[0, 2]] < 9).all() and length[2] == pytest.approx(px[2]) and 100 < length[2] < 400
    assert length[3] == 0 and px[3] < 1e-9  # below what can be seen: a road still, that only neighbours speak for


def card_of_bright_roads(folder: Path) -> Path:
    """A folder of cards with one network that takes for a road what is bright."""
    from catalogs.cards import save_card

    network = LineReader(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.read[0].weight[0, -3:] = 2.0  # colours come centred and four times as large
        network.middle.weight[0, 0] = network.head.weight[0, 0] = 1.0
        network.head.bias[0] = -6.0
    save_card(
        folder, name="bright", task="roads", network="line_reader", settings={"hidden": 2}, bands=3, gsd=(0.1, 1.2),
        native_gsd=0.6, classes=("road",), halo=80, stride=8, licence="Apache-2.0", trained_on=(), evaluated_on=(),
        scores={"none": 0.0}, fails=(), weights=network.state_dict(),
    )  # fmt: skip
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_layer_of_roads_moves_alike_however_it_is_cut(tmp_path: Path) -> None:
    import geopandas
    import shapely

    from pipeline.run import survey
    from pipeline.settings import load

    image, lines = layer(tmp_path)
    cards = card_of_bright_roads(tmp_path / "cards")
    results = {}
    for name, tile, more in (("whole", 512, True), ("tiled", 256, True), ("off", 512, False)):
        said = load(
            image=str(image), cadaster=str(lines), out=tmp_path / name, stages="align", aligner="search", tile=tile,
            workers=1, models=cards, roads=more,
        )  # fmt: skip
        assert survey(said).exit_status == 0
        results[name] = tmp_path / name / "cadaster_aligned.parquet"
    assert results["whole"].read_bytes() == results["tiled"].read_bytes()
    before, after, off = (geopandas.read_parquet(path) for path in (lines, results["whole"], results["off"]))
    assert (off["status"] == "unmoved").all() and off["review"].all()
    assert off.geometry.to_wkb().tolist() == before.geometry.to_wkb().tolist()
    assert (after["status"] == "moved").all()
    true = [shapely.transform(shape, lambda xy: xy - (6 * GSD, 4 * GSD)) for shape in before.geometry]
    gap = np.array([now.hausdorff_distance(aim) for now, aim in zip(after.geometry, true, strict=True)])
    assert np.median(gap) < 1.0 * GSD and gap.max() < 3.0 * GSD
    for k in range(0, 8, 2):  # a junction of two lines is still one point
        assert after.geometry[k].coords[-1] == after.geometry[k + 1].coords[0]


def test_a_layer_without_lines_asks_for_no_roads(tmp_path: Path) -> None:
    from pipeline.prepare import prepare
    from pipeline.settings import load
    from tests.small_city import cut

    image, cadaster = cut(tmp_path / "city", 300)
    some = {"image": str(image), "cadaster": str(cadaster), "stages": "align", "aligner": "search"}
    plain = prepare(load(out=tmp_path / "out", **some))
    asked = prepare(load(out=tmp_path / "out", roads=True, models=card_of_bright_roads(tmp_path / "cards"), **some))
    assert not asked.roads and asked.align_line == plain.align_line and asked.cards == plain.cards


def test_a_card_for_something_else_sees_no_roads(tmp_path: Path) -> None:
    from pipeline.prepare import prepare
    from pipeline.settings import load

    image, lines = layer(tmp_path)
    some = {"image": str(image), "cadaster": str(lines), "out": tmp_path / "out", "stages": "align", "roads": True}
    assert prepare(load(aligner="search", **some)).cards == {"roads": "alignment-roads"}
    with pytest.raises(SettingsError, match="--card roads=refiner-maggiori: is a model for refiner, not for roads"):
        prepare(load(aligner="search", cards={"roads": "refiner-maggiori"}, **some))
    said = prepare(load(aligner="search", class_column="kind", **some))
    assert said.roads and said.class_column == "kind"
