"""Roads: lines as strips, the network's halo, its evidence in the search, which rows are roads; and a run of lines."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.double_unet import DoubleUNet
from models.double_unet_classes import DoubleUNetClasses
from models.line_reader import LineReader
from pipeline.errors import SettingsError
from pipeline.footprints import index_cadaster, read_block, road_rows
from pipeline.grid import Window
from pipeline.kernels import edges
from pipeline.kernels.lines import strips
from pipeline.polygons import read_cadaster
from pipeline.polygons import road_rows as road_rows_of
from pipeline.raster import open_raster
from pipeline.stages import roads
from pipeline.stages.search import Search, find_shifts, votes_of
from pipeline.working import working_raster
from tests.test_search import move

SIDE = 512
GSD = 0.6
WHOLE = Window(0, 0, SIDE, SIDE)


def run(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, float)


def cross() -> tuple[np.ndarray, np.ndarray]:
    """Four roads that cross, two each way, with a vertex each 16 px; coords, offsets."""
    at = np.arange(16.0, SIDE - 15, 16)
    lines = [np.column_stack([at, np.full_like(at, y)]) for y in (150.0, 340.0)]
    lines += [np.column_stack([np.full_like(at, x), at]) for x in (170.0, 330.0)]
    return np.concatenate(lines), np.arange(5) * len(at)


def nearness(coords: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(strips(coords, offsets, (SIDE, SIDE), 3.0)[0], (0, 0), 1.5)


def test_a_strip_is_as_wide_as_it_is_said_and_knows_its_normals() -> None:
    drawn = strips(run((-50, 10.5), (80, 10.5), (20.5, 10.5), (20.5, 60)), np.array([0, 2, 4]), (40, 40), 3.0)
    assert drawn[0, :, 5].nonzero()[0].tolist() == [9, 10, 11]
    assert drawn[0, 30].nonzero()[0].tolist() == [19, 20, 21]
    assert drawn[1:, 10, 5].tolist() == [0, 0, 1] and drawn[1:, 30, 20].tolist() == [1, 0, 0]
    assert drawn[1:, 10, 20].tolist() == [0.5, 0, 0.5]
    lean = strips(run((0, 0), (40, 40)), np.array([0, 2]), (40, 40), 3.0)
    assert lean[1:, 20, 20] == pytest.approx([0.5, -0.5, 0.5])
    assert not strips(run((3, 3), (3, 3)), np.array([0, 2]), (8, 8), 3.0).any()


def test_a_pixel_of_a_strip_does_not_know_the_window() -> None:
    rng = np.random.default_rng(0)
    coords = rng.uniform(-300, 400, (40, 2)).round(3)
    whole = strips(coords, np.array([0, 15, 40]), (96, 96), 3.0)
    part = strips(coords - (32, 16), np.array([0, 15, 40]), (40, 50), 3.0)
    assert whole[0].any() and np.array_equal(whole[:, 16:56, 32:82], part)


@pytest.mark.parametrize("decoder", [0, 2])
def test_a_pixel_of_the_reader_sees_no_farther_than_its_halo(decoder: int) -> None:
    torch.manual_seed(0)
    network = LineReader(8, decoder).eval()
    for head in network.decoder.heads if network.decoder is not None else []:
        torch.nn.init.normal_(head.weight)
    image = torch.rand(1, 3, 240, 256)
    with torch.no_grad():
        whole, part = network(image), network(image[..., 24:216, 16:208])
    assert whole.shape == (1, 1, 80, 96)
    torch.testing.assert_close(whole[..., 24:56, 16:48], part, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="multiples of 8"):
        network(image[..., :236])


def test_the_reader_takes_the_branch_of_the_successor() -> None:
    from catalogs.cards import load_card, load_weights

    weights = load_weights(load_card("alignment-successor"))
    gray, coloured = LineReader(8).eval(), LineReader(8, 2).eval()
    gray.start_from(weights)
    coloured.start_from(weights)
    assert torch.equal(gray.branch.blocks[2][2].weight, weights["image_branch.blocks.2.2.weight"].float())
    # what the decoder adds is nothing yet: the perceptron's answer is the same
    for name in ("read", "middle", "head"):
        getattr(coloured, name).load_state_dict(getattr(gray, name).state_dict())
    image = torch.rand(1, 3, 176, 168)
    with torch.no_grad():
        torch.testing.assert_close(coloured(image), gray(image), rtol=0, atol=1e-4)


def test_without_roads_two_classes_answer_as_one() -> None:
    torch.manual_seed(1)
    one, two = DoubleUNet().eval(), DoubleUNetClasses().eval()
    two.start_from(one.state_dict())
    image, drawn = torch.rand(1, 1, 96, 96), (torch.rand(1, 1, 96, 96) > 0.8).float()
    both = torch.cat([drawn, torch.zeros_like(drawn)], 1)
    with torch.no_grad():
        torch.testing.assert_close(two(image, both), one(image, drawn), rtol=0, atol=1e-6)
        both[:, 1, 40:50] = 1
        torch.testing.assert_close(two(image, both), one(image, drawn), rtol=0, atol=1e-6)  # says nothing yet
    with pytest.raises(ValueError, match="2 channels"):
        two(image, drawn)


@pytest.mark.parametrize(("factor", "level"), [(1, 4), (1, 1), (2, 4), (4, 2)])
def test_evidence_is_the_same_whatever_the_region(factor: int, level: int) -> None:
    rng = np.random.default_rng(2)
    near = rng.random((120, 120), dtype=np.float32)
    whole = Window(0, 0, 96 * level // factor // 4 * 4, 96 * level // factor // 4 * 4)
    source = roads.source_window(whole, factor, level)
    wide = np.zeros((source.height, source.width), np.float32)
    wide[2:, 2:] = near[: source.height - 2, : source.width - 2]
    all_of_it = roads.tensor_at(wide, source, whole, factor, level)
    part = Window(7, 13, 21, 17)
    less = roads.source_window(part, factor, level)
    cut = wide[less.y0 + 2 : less.y1 + 2, less.x0 + 2 : less.x1 + 2]
    cut = np.pad(wide, 8)[less.y0 + 10 : less.y1 + 10, less.x0 + 10 : less.x1 + 10]
    assert np.array_equal(roads.tensor_at(cut, less, part, factor, level), all_of_it[:, 7:28, 13:30])


def test_evidence_lies_where_it_was_at_every_level() -> None:
    ramp = np.tile(np.arange(64, dtype=np.float32) / 64, (64, 1))
    for factor, level in ((1, 4), (2, 2), (4, 2)):
        region = Window(8, 8, 4, 4)
        source = roads.source_window(region, factor, level)
        tensor = roads.tensor_at(ramp[source.slices(Window(0, 0, 64, 64))], source, region, factor, level)
        middle = (np.arange(8, 12) + 0.5) * factor / level - 0.5
        np.testing.assert_allclose(np.sqrt(tensor[0, 0]) / roads.GAIN, middle / 64, atol=1e-6)


def test_a_line_contrasts_with_what_is_beside_it_as_much_as_the_map_is_sure() -> None:
    coords, offsets = cross()
    rows = np.arange(4)
    for sure, off, wanted in ((1.0, 0.0, 0.5), (0.1, 0.0, 0.05), (1.0, 6.0, -0.05), (0.0, 0.0, 0.0)):
        near = np.float32(sure) * nearness(coords, offsets)
        tensor = roads.tensor_at(np.pad(near, 2), roads.source_window(WHOLE, 1, 1), WHOLE, 1, 1)
        fit, _ = edges.rate(tensor, coords + (off, off), offsets, rows, 4, 8)
        found = roads.contrasts(fit)
        assert found == pytest.approx([wanted] * 4, abs=0.15 * max(sure, 1e-9))


def found_by(coords: np.ndarray, offsets: np.ndarray, near: np.ndarray, start: np.ndarray) -> np.ndarray:
    xy = start
    for step in (Search(1, 36, 120.0, 1), Search(1, 6, 80.0, 2)):
        nodes = step.nodes(Window(0, 0, SIDE, SIDE))
        at = Window(0, 0, SIDE, SIDE)
        source = roads.source_window(at, 1, 1)
        tensor = roads.tensor_at(np.pad(near, 2), source, at, 1, 1)
        none = votes_of(step, tensor, (0, 0), [], nodes)
        votes, weight, share = roads.votes_with(step, tensor, (0, 0), [(xy, offsets)], nodes, *none)
        assert share[weight > 0].min() == 1
        xy, _ = move(step, find_shifts(step, votes, weight, share * np.float32(roads.PRIOR)), nodes, xy)
    return xy


@pytest.mark.parametrize("shift", [(0.0, 0.0), (9.0, -6.0), (-14.0, 17.0)])
def test_roads_of_two_directions_say_the_whole_shift(shift: tuple[float, float]) -> None:
    coords, offsets = cross()
    found = found_by(coords, offsets, nearness(coords, offsets), coords + shift)
    assert np.hypot(*(found - coords).T).max() < 0.6


def test_along_a_road_alone_nothing_moves() -> None:
    at = np.arange(16.0, SIDE - 15, 16)
    coords, offsets = np.column_stack([at, np.full_like(at, 200.0)]), np.array([0, len(at)])
    near = nearness(run((-99, 200), (SIDE + 99, 200)), np.array([0, 2]))
    found = found_by(coords, offsets, near, coords + (0.0, 11.0))
    middle = slice(8, -8)  # ends of the raster show no road beyond
    assert np.abs(found[middle, 1] - 200).max() < 0.5
    assert np.abs(found[middle, 0] - coords[middle, 0]).max() < 1.5


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
